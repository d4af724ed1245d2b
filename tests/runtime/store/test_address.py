"""No password or token of a store's address in anything that is printed or kept."""

from __future__ import annotations

import os
import stat
import traceback
from pathlib import Path
from urllib.parse import quote

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbkit
from nbkit.ground.files import write_private
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.store.address import has_secrets, hide, show
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.tools.commands import cli

LETTERS = "abcXYZ019-_.~!$'()*+,=;%&@:# é"
SECRET = st.text(LETTERS, min_size=6, max_size=12).map(lambda text: "Q7z" + text)
CODED = SECRET.map(lambda text: quote(text, safe="")) | SECRET.map(lambda text: text.translate({35: "x", 38: "y"}))
PLACES = st.sampled_from(["host", "host:22", "host/folder", "host:2121/a b/c", "bucket/a=b/c", "[::1]:80/x"])
FORMS = st.one_of(
    st.tuples(st.sampled_from(["ftp", "sftp", "s3", "smb", "https", "webdav+https"]), CODED, PLACES).map(
        lambda parts: (f"{parts[0]}://me:{parts[1]}@{parts[2]}", parts[1])
    ),
    st.tuples(st.sampled_from(["https", "github", "hf"]), CODED.map(lambda s: s.replace(":", "")), PLACES).map(
        lambda parts: (f"{parts[0]}://{parts[1]}@{parts[2]}", parts[1])
    ),
    st.tuples(
        st.sampled_from(["az", "https", "abfs"]), st.sampled_from(["sig", "key", "token", "X-Amz-Signature", "code"]),
        SECRET.map(lambda text: quote(text, safe="")), PLACES, st.sampled_from(["?", "?sv=2&", "?port=1&", "#"]),
    ).map(lambda parts: (f"{parts[0]}://{parts[3]}{parts[4]}{parts[1]}={parts[2]}", parts[2])),
)  # fmt: skip
CHAINS = st.sampled_from(["", "simplecache::", "zip://a.zip::"])


@given(FORMS, CHAINS)
def test_no_secret_is_in_a_shown_address_and_all_else_is(form, chain):
    url, secret = chain + form[0], form[1]
    shown = show(url)
    assert secret not in shown and "Q7z" not in shown and "***" in shown
    assert shown == show(shown) and has_secrets(url) and has_secrets(shown)
    assert shown.startswith(chain) and "host" in shown or "bucket" in shown or "::1" in shown


@given(FORMS, st.sampled_from(["{}", "cannot open {}", "{!r}: no route", "x={}&y", "<{}>"]))
def test_no_secret_is_in_a_message_about_the_store_in_any_spelling(form, words):
    from urllib.parse import quote_plus, unquote

    url, secret = form
    spellings = [url, secret, unquote(secret), quote(secret), quote(unquote(secret), safe=""), quote_plus(secret)]
    text = "; ".join(words.format(one) for one in spellings)
    assert "Q7z" not in hide(text, url)


@pytest.mark.parametrize(
    "address",
    [
        "nbkit-store", "/data/me:you@there/x?a=b", "memory://", "memory://folder", "gdrive://1AbC", "s3://bucket/a@b/c",
        "sftp://host:22/a@b", "sftp://me@host/folder", "abfs://box@account.dfs.core.windows.net/x", "file:///a/b",
        "az://box/x?endpoint_url=http://localhost&version=2", "C:\\Users\\me",
    ],
)  # fmt: skip
def test_an_address_without_secrets_is_shown_as_it_is(address):
    assert show(address) == address and not has_secrets(address)


@given(st.text())
def test_any_text_can_be_shown_and_hidden(text):
    assert show(show(text)) == show(text)
    hide(text, text)


URL = "memory://me:Q7zPass@host/folder?sig=Q7zToken"


@pytest.fixture
def memory():
    yield
    fsspec.filesystem("memory").store.clear()


def test_no_secret_is_in_what_a_session_prints_and_keeps(memory, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("NBKIT_JOURNAL", str(tmp_path / "journal"))
    session = nbkit.open_session("toy", store=URL, folder=tmp_path / "work")
    for item in session.work([{"key": "a"}]):
        with item:
            item.save(x=np.zeros(2))
    session.result("a", 1.0, unit="1", baseline=0.0, baseline_is="nothing")
    session.say(str(session.store.url))
    session.close()
    said = "".join(capfd.readouterr())
    assert "memory://me:***@host/folder?sig=***" in said
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    stored = [bytes(file.getvalue()) for file in fsspec.filesystem("memory").store.values()]
    assert len(stored) >= 3
    for content in [said.encode(), *kept.values(), *stored]:
        assert b"Q7z" not in content
    private = tmp_path / "work" / "toy" / "lane-0" / "store"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_a_workspace_of_an_earlier_version_is_taken_over_and_loses_the_secret(memory, tmp_path):
    old = tmp_path / "work" / "toy" / "lane-0" / "store"
    old.parent.mkdir(parents=True)
    old.write_text(URL)
    session = nbkit.open_session("toy", store=URL, folder=tmp_path / "work")
    assert session.folder == old.parent
    session.close()
    assert "Q7z" not in old.read_text() and stat.S_IMODE(old.stat().st_mode) == 0o600


@pytest.mark.parametrize("verb", ["put", "get", "stat", "list", "delete"])
def test_no_secret_is_in_an_error_of_the_store_or_its_traceback(memory, tmp_path, verb, monkeypatch):
    store = open_store(URL)

    def fail(*args, **options):
        raise OSError(f"530 login of me with Q7zPass at {URL} and Q7zToken refused")

    for name in ("info", "exists", "find", "rm_file", "put_file", "open"):
        monkeypatch.setattr(type(store.fs), name, fail)
    file = tmp_path / "a"
    file.write_bytes(b"x")
    calls = {"put": (file, "a"), "get": ("a", file), "stat": ("a",), "list": (), "delete": ("a",)}
    with pytest.raises(NbkitError) as caught:
        list(getattr(store, verb)(*calls[verb]) or ())
    assert "530 login of me with ***" in str(caught.value)
    assert "Q7z" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url", ["nosuch://me:Q7zPass@host/x", "nosuch://host/x?sig=Q7zToken", "ftp://me:Q7zPa/ss@host"]
)
def test_no_secret_is_in_the_refusal_of_an_address(url):
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "Q7z" not in "".join(traceback.format_exception(caught.value)) and "***" in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [["status"], ["status", "--json"], ["verify"], ["report", "--out", "page.html"], ["check"]]
)
def test_no_secret_is_in_what_a_command_prints_and_writes(memory, tmp_path, arguments, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = nbkit.open_session("eeg_windows", store=URL, folder=tmp_path / "work")
    session.close()
    assert cli.run([*arguments, "--store", URL]) in (0, 1)
    said = "".join(capfd.readouterr())
    written = [path.read_text("utf-8") for path in tmp_path.glob("*.html")]
    assert "Q7z" not in said + "".join(written)


@pytest.mark.parametrize("command", ["push", "dispatch"])
def test_an_address_with_a_secret_is_not_pushed(memory, command, capfd, monkeypatch):
    from nbkit.tools.kaggle.push import reachable

    for address in (URL, show(URL)):
        with pytest.raises(UsageError, match="holds a password or token, and a pushed notebook contains the address"):
            reachable(address)


@pytest.mark.rehearse
def test_no_secret_is_in_an_executed_notebook(make_notebook, tmp_path, monkeypatch, capfd):
    from nbkit.tools.rehearsal import running

    monkeypatch.chdir(tmp_path)
    notebook = make_notebook(
        f"STORE = {URL!r}\nSMOKE = False",
        'import nbkit, os\nsession = nbkit.open_session("toy", store=STORE, smoke=SMOKE)',
        "session.close()\nprint(os.environ['NBKIT_STORE'], 'é')\nraise ValueError(f'{STORE}: Q7zPass')",
    )
    kept = []
    store = open_store(URL)
    monkeypatch.setattr(type(store), "put", lambda self, path, name: kept.append(path.read_text("utf-8")))
    assert running.run_notebook(notebook) == 1
    said = capfd.readouterr()
    assert kept and "Q7z" not in kept[0] and "memory://me:***@host/folder?sig=*** é" in kept[0]
    assert "Q7z" not in said.err and "raised ValueError" in said.err


def test_a_private_file_is_never_readable_by_others_and_replaces_an_open_one(tmp_path):
    path = tmp_path / "new" / "file"
    before = os.umask(0)
    try:
        write_private(path, b"one")
        path.chmod(0o644)
        write_private(path, b"two")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["file"]


_HEADS = (
    "ftp:",
    "fTp:/",
    "FTP:\\\\",
    "ftp;//",
    "ftp//",
    "ftp::",
    "ftp:/ /",
    " sftp:/",
    "s3:",
    "https:/",
    "//",
    "",
    "x",
)
_TAILS = ("127.0.0.1/x", "host:22/folder", "host", "host/a?b=1")
MISTYPED = st.one_of(
    st.tuples(st.sampled_from(_HEADS), SECRET.filter(lambda text: "://" not in text), st.sampled_from(_TAILS)).map(
        lambda parts: f"{parts[0]}me:{parts[1]}@{parts[2]}"
    ),
    st.tuples(st.sampled_from(["az:", "https:/", "ABFS:", "http:"]), st.sampled_from(["?", "?sv=2&", "#"])).map(
        lambda parts: f"{parts[0]}host/folder{parts[1]}sig=Q7zToken"
    ),
    st.sampled_from(["simplecache::ftp:me:Q7zPass@host/x", "ftp:me:Q7z@Pass@host", "//me:Q7z/Pass@host/x"]),
)


@given(MISTYPED)
def test_a_mistyped_address_is_never_taken_for_a_folder_and_never_shows_its_secret(address):
    assert "Q7z" not in show(address) and show(show(address)) == show(address)
    for use in (open_store, store_address):
        with pytest.raises(UsageError, match="Nothing was written") as caught:
            use(address)
        assert "Q7z" not in "".join(traceback.format_exception(caught.value))
    if not address.startswith(("/", " ", "ftp//", "me:", "xme:", "ftp;")):  # made absolute somewhere all the same
        assert "Q7z" not in show(f"/data/{address}") and "Q7z" not in hide(address, address)


@given(SECRET.filter(lambda text: not set("?#/&;") & set(text)), st.sampled_from(["/", "//", " ", "\\"]))
def test_a_url_with_a_slash_too_many_or_without_its_at_shows_no_secret(secret, slip):
    for address in (f"ftp://{slip}me:{secret}@host/x", f"ftp:/{slip}/me:{secret}@host/x", f"ftp://me:{secret}/host"):
        assert "Q7z" not in show(address) and show(show(address)) == show(address)


@pytest.mark.parametrize(
    "address", ["gdrive:1AbCdEfGhIjKl", "hf:datasets/me/x", "GDRIVE:/1AbC", "s3:/bucket", "file:/a"]
)
def test_a_store_elsewhere_that_was_mistyped_does_not_become_a_folder_here(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given_as in (address, Path(address), address.replace(":", "://", 1)):
        if not isinstance(given_as, str) or "://" not in given_as:
            with pytest.raises(UsageError, match="looks like a URL"):
                nbkit.open_session("toy", store=given_as, folder=tmp_path / "work")
    assert list(tmp_path.iterdir()) == []


FOLDERS = (
    "nbkit-store", "a/b", "./ftp:me:you@there", "../x", "run:3", "a@b", "time 12:30", "x?a=b", "a#b=c", "~/x:y@z",
    "12:a", "/data/me:you@there/x?a=b", "C:\\Users\\me:you@x", "a:b", "me@work", "/a#b=c",
)  # fmt: skip


@pytest.mark.parametrize("address", FOLDERS)
def test_an_ordinary_folder_stays_one_and_is_shown_as_it_is(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    if not address.startswith("/"):
        assert store_address(address).startswith(str(tmp_path.parent)) and open_store(address)
    assert show(address) == address or address.startswith("./ftp")


@pytest.mark.parametrize("how", ["option", "variable", "parameter"])
@pytest.mark.parametrize("address", ["ftp:me:Q7zPass@127.0.0.1/x", "fTp:/me:Q7zPass@127.0.0.1/x", "me:Q7zPass@host:/x"])
def test_no_command_takes_a_mistyped_address(address, how, make_notebook, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    notebook = make_notebook("STORE = None\nSMOKE = False", "import nbkit\nnbkit.open_session('toy', store=STORE)")
    before = sorted(tmp_path.rglob("*"))
    option = ["--store", address] if how == "option" else []
    if how == "variable":
        monkeypatch.setenv("NBKIT_STORE", address)
    parameter = ["-p", f"STORE={address}"] if how == "parameter" else []
    commands = [["run", str(notebook), *option, *parameter]]
    if how != "parameter":
        commands += [[verb, *option] for verb in ("status", "verify", "report", "check")]
    for command in commands:
        assert cli.run(command) in (1, 2)
        said = "".join(capfd.readouterr())
        assert "Q7z" not in said and "Traceback" not in said and "***" in said
    assert sorted(tmp_path.rglob("*")) == before
