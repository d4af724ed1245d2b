"""The login: once in a browser, then never again; found where each host keeps it, and shown nowhere."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.runtime.hosts.credentials import CREDENTIAL_FILE, CREDENTIAL_VARIABLE, host_credentials
from nbkit.runtime.store.drive.credential import DriveCredential, find_credential, read_credential
from tests import ROOT
from tests.runtime.store.drive.drive_loopback import Loopback
from tests.runtime.store.drive.drive_state import CLIENT, CLIENT_SECRET, REFRESH, Plan

GOOD = json.dumps({"client_id": "id", "client_secret": "sec-planted", "refresh_token": "1//planted"})
KAGGLE, COLAB = {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, {"COLAB_RELEASE_TAG": "release-colab"}


@pytest.fixture
def drive():
    with Loopback(Plan(retry_after="0")) as served:
        yield served


@pytest.fixture(autouse=True)
def no_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(CREDENTIAL_VARIABLE, raising=False)


# -- where it is found -------------------------------------------------------------------------------------------------


def test_variable_may_hold_a_path_a_line_or_base64(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(GOOD)
    for value in (str(path), GOOD, f"\n{GOOD}\n", base64.b64encode(GOOD.encode()).decode()):
        found = find_credential({CREDENTIAL_VARIABLE: value})
        assert (found.client_id, found.client_secret, found.refresh_token) == ("id", "sec-planted", "1//planted")


@pytest.mark.parametrize("place", ["secrets", "datasets/me/secrets"])
def test_kaggle_finds_it_in_an_attached_private_dataset(tmp_path, place):
    folder = tmp_path / "input" / place
    folder.mkdir(parents=True)
    (folder / CREDENTIAL_FILE).write_text(GOOD)
    assert list(host_credentials(KAGGLE, kaggle_input=tmp_path / "input")) == [(str(folder / CREDENTIAL_FILE), GOOD)]
    assert list(host_credentials({}, kaggle_input=tmp_path / "input")) == [], "another host does not look there"


def test_colab_finds_an_upload_before_it_asks_for_the_secret(tmp_path, monkeypatch):
    asked = []
    userdata = types.ModuleType("google.colab.userdata")
    userdata.SecretNotFoundError = type("SecretNotFoundError", (Exception,), {})

    def get(name):
        asked.append(name)
        if len(asked) > 1:
            raise userdata.SecretNotFoundError
        return GOOD

    userdata.get = get
    colab = types.ModuleType("google.colab")
    colab.userdata = userdata
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.userdata", userdata)
    (tmp_path / CREDENTIAL_FILE).write_text(GOOD)
    assert next(host_credentials(COLAB, colab_files=tmp_path))[0] == str(tmp_path / CREDENTIAL_FILE) and not asked
    assert list(host_credentials(COLAB, colab_files=tmp_path / "no")) == [
        (f"Colab's secret {CREDENTIAL_VARIABLE}", GOOD)
    ]
    assert asked == [CREDENTIAL_VARIABLE]
    assert list(host_credentials(COLAB, colab_files=tmp_path / "no")) == [], "a secret that is not there is no error"


def test_no_credential_says_where_this_host_takes_one_from():
    for environ, words in ((KAGGLE, "private dataset"), (COLAB, "secret"), ({}, CREDENTIAL_VARIABLE)):
        with pytest.raises(UsageError, match=f"{words}.*nbkit login drive"):
            find_credential(environ)


@pytest.mark.parametrize(
    "text, words",
    [
        ("not-json-planted", "neither JSON nor JSON in base64"),
        ("{planted", "neither JSON"),
        ("[1]", "neither JSON"),
        (json.dumps({"type": "service_account", "private_key": "planted"}), "service account. It has no storage"),
        (json.dumps({"installed": {"client_secret": "planted"}}), "OAuth client, not a login.*--client"),
        (json.dumps({"client_id": "a", "client_secret": "planted"}), "no refresh_token"),
        (GOOD[:-1] + ', "token_uri": "http://somewhere.else/"}', "unencrypted"),
        (GOOD[:-1] + ', "api_root": "http://somewhere.else/"}', "unencrypted"),
    ],
)
def test_unusable_credentials_are_described_without_showing_them(text, words):
    with pytest.raises(UsageError, match=words) as caught:
        read_credential(text, "a place")
    assert "planted" not in str(caught.value)


def test_variable_that_names_no_file_is_said():
    with pytest.raises(UsageError, match="'/no/such.json', which is no file"):
        find_credential({CREDENTIAL_VARIABLE: "/no/such.json"})


def test_written_credential_is_one_line_for_its_owner_only_and_reads_back(tmp_path):
    path = tmp_path / "deep" / "c.json"
    credential = read_credential(GOOD, str(path))
    for _ in range(2):
        credential.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_text().count("\n") == 1
    assert read_credential(path.read_text(), str(path)) == credential
    assert list(path.parent.iterdir()) == [path]


# -- the login itself --------------------------------------------------------------------------------------------------


def log_in(
    drive: Loopback, tmp_path: Path, client: str | None = "installed", **environ: str
) -> subprocess.CompletedProcess:
    """Log in in a process of its own, with a program in the place of the browser."""
    fields = {"client_id": CLIENT, "client_secret": CLIENT_SECRET, "token_uri": f"{drive.root}token"}
    fields |= {"auth_uri": f"{drive.root}o/oauth2/auth", "api_root": drive.root}
    (tmp_path / "client.json").write_text(json.dumps({client or "installed": fields}))
    (tmp_path / "browser.py").write_text(
        "import sys, urllib.request as u\nu.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=20).read()\n"
    )
    lines = (
        "import sys",
        "from nbkit.runtime.errors import NbkitError",
        "from nbkit.runtime.store.drive.login import login_drive",
        "client = sys.argv[1] or None",
        "try:",
        "    print(login_drive(client).words())",
        "except NbkitError as error:",
        "    print('refused:', error)",
        "    sys.exit(error.exit_code)",
    )
    browser = f"{sys.executable} {tmp_path / 'browser.py'} %s &"
    environ = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), "BROWSER": browser, **environ}
    command = [sys.executable, "-c", "\n".join(lines), str(tmp_path / "client.json") if client else ""]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)


def test_one_login_makes_folder_and_credential_and_serves_for_ever_after(drive, tmp_path, monkeypatch):
    drive.drive.delete(drive.drive.made_folder)
    done = log_in(drive, tmp_path, GDRIVE_NON_INTERACTIVE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    path = tmp_path / "config" / "nbkit" / CREDENTIAL_FILE
    (folder,) = (row for row in drive.drive.rows.values() if row["title"] == "nbkit")
    assert str(path) in done.stdout and f"gdrive://{folder['id']}" in done.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for secret in (REFRESH, CLIENT_SECRET, "ya29.", "planted-code"):
        assert secret not in done.stdout + done.stderr
    assert find_credential({}).refresh_token == REFRESH, "a session on this machine finds it by itself"
    again = log_in(drive, tmp_path, client=None)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"gdrive://{folder['id']}" in again.stdout, "a second login takes the same client and the same folder"
    assert len(drive.drive.rows) == 1


def test_refused_login_writes_nothing(drive, tmp_path):
    drive.drive.plan.revoked = True
    done = log_in(drive, tmp_path)
    assert (
        done.returncode == 2 and "was not completed (User rejected authentication). Nothing was written." in done.stdout
    )
    assert not (tmp_path / "config").exists()


def test_login_without_a_client_says_how_to_make_one(drive, tmp_path):
    done = log_in(drive, tmp_path, client=None)
    assert done.returncode == 2 and "Desktop app" in done.stdout and "Publish app" in done.stdout
    done = log_in(drive, tmp_path, client="web")
    assert done.returncode == 2 and "not the JSON of an OAuth client" in done.stdout


# -- where it never is -------------------------------------------------------------------------------------------------

_NOISY_SESSION = """
import logging, os, pathlib, sys, traceback
logging.basicConfig(level=1, stream=sys.stdout)
logging.getLogger("googleapiclient.http").setLevel(1)
import httplib2
from nbkit.runtime.session import open_session
from nbkit.runtime.store.opening import open_store
folder = pathlib.Path(sys.argv[1])
store = open_store(os.environ["NBKIT_STORE"])
store._chunk, store._small, store._access._first_wait = 256 << 10, 100_000, 0.01
print(repr(store), repr(store._access), repr(store._access.credential), store._access.credential)
session = open_session("noisy", store=store, folder=folder / "machine")
large = folder / "large.bin"
large.write_bytes(os.urandom(2 << 20))
for item in session.work([{"key": f"item-{i}"} for i in range(8)]):
    with item:
        item.save(x=[1.0], large=large)
try:
    print(session.close())
except Exception:
    traceback.print_exc()
for verb, *arguments in ((store.put, large, "a/large"), (store.get, "a/large", folder / "g"), (store.stat, "a/x")):
    try:
        verb(*arguments)
    except Exception as error:
        traceback.print_exc()
        print(repr(error), str(error), vars(error))
"""


@pytest.mark.parametrize("ending", ["faults", "full", "revoked"])
def test_no_secret_is_in_any_byte_that_was_printed_or_written(tmp_path, ending):
    plan = Plan(rate=0.25, seed=6, retry_after="0")
    with Loopback(plan, tmp_path / "drive") as drive:
        (tmp_path / "drive").mkdir()
        if ending == "full":
            plan.quota = 5 << 20
        place = tmp_path / "handed-on" / CREDENTIAL_FILE
        read_credential(drive.credential_text(), "a test").write(place)
        environ = {**os.environ, CREDENTIAL_VARIABLE: str(place), "NBKIT_STORE": drive.url, "NBKIT_LIMIT": "60"}
        environ["NBKIT_JOURNAL"] = str(tmp_path / "journal.jsonl")
        command = [sys.executable, "-c", _NOISY_SESSION, str(tmp_path)]
        child = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while ending == "revoked" and child.poll() is None:
            if drive.drive.counts["bytes of chunks"] > 3 << 20:
                plan.revoked = True
                drive.drive.tokens.clear()
                break
            time.sleep(0.005)
        printed = child.communicate(timeout=120)[0]
        assert len(printed) > 5000 and b"DEBUG" in printed, "the test wants a talkative session"
        secrets = [REFRESH, CLIENT_SECRET, "ya29.", "planted-upload", "upload_id", *drive.drive.issued]
        found = [("printed", secret) for secret in secrets if secret.encode() in printed]
        searched = 0
        for path in (p for p in tmp_path.rglob("*") if p.is_file() and p != place and "drive" not in p.parts[-2:]):
            data = path.read_bytes()
            searched += len(data)
            if path.name.endswith(".upload.json"):  # an unfinished upload's address, which only its owner can read
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert not any(secret in data for secret in (REFRESH.encode(), CLIENT_SECRET.encode(), b"ya29."))
                continue
            found += [(str(path), secret) for secret in secrets if secret.encode() in data]
        for id in drive.drive.content:
            data = drive.drive.bytes_of(id)
            found += [(drive.drive.rows[id]["title"], secret) for secret in secrets if secret.encode() in data]
        assert searched > 2 << 20 and drive.drive.faults and len(drive.drive.issued) > 1
        assert not found


def test_credential_shows_nothing_of_itself():
    credential = DriveCredential("id", "sec-planted", "1//planted", where="a place")
    assert "planted" not in f"{credential!r}{credential}{[credential]}"
    assert set(credential.secrets()) == {"sec-planted", "1//planted"}
