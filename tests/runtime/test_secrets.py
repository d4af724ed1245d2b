"""No secret in any byte: a Kaggle key and a Drive login are planted, and all that was written or printed is searched.

One phase goes the whole way: a session trains and stores on Drive, its notebook is pushed, dispatched and pulled, and
both services refuse their credentials in the end. Archives are opened, and the forms that a header or a URL gives a
secret are looked for too.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from nbkit.tools.commands import cli
from tests import ROOT
from tests.runtime.store.drive.drive_loopback import Loopback as DriveLoopback
from tests.runtime.store.drive.drive_state import CLIENT_SECRET, REFRESH
from tests.tools.kaggle.kaggle_loopback import KEY, USER, Kernel, need_client
from tests.tools.kaggle.kaggle_loopback import Loopback as KaggleLoopback

need_client()
pytest.importorskip("pydrive2")


def forms(secret: str) -> set[bytes]:
    """Return a secret as it may stand in bytes: plain, in a URL, in JSON, in base64 at any offset."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].replace("/", "\\/").encode()}
    found |= {base64.b64encode(f"{USER}:{secret}".encode())}
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + raw)
        found.add(coded[4 if offset else 0 : -4])
    return found


FORMS = {form for secret in (KEY, REFRESH, CLIENT_SECRET) for form in forms(secret)}


def contents(data: bytes) -> Iterator[bytes]:
    """Yield bytes, and what they hold where they are an archive."""
    yield data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from contents(archive.read(name))


def holds_a_secret(data: bytes) -> bool:
    return any(form in part for part in contents(data) for form in FORMS)


def test_the_search_finds_what_is_planted():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x", "y" * 1000 + KEY + "y" * 1000)
    assert KEY.encode() not in archive.getvalue()
    header = b"Authorization: Basic " + base64.b64encode(f"{USER}:{KEY}".encode())
    shifted = base64.b64encode(b"ab" + REFRESH.encode() + b"cd")
    for data in (archive.getvalue(), header, shifted, quote(REFRESH, safe="").encode(), f"<{CLIENT_SECRET}>".encode()):
        assert holds_a_secret(data)
    assert not holds_a_secret(b"nothing here")


SESSION = """session = nbkit.open_session("bandvar_train", store=STORE, limit=LIMIT, smoke=SMOKE, accelerator="cpu")"""
TRAIN = """from tests.runtime.training.training_support import Tiny, TinyData
for item in session.work([{"key": f"k{i}"} for i in range(3)]):
    with item:
        item.save(x=[1 / (2 - int(item.key[1:]))])
report = session.fit(Tiny(), TinyData(), max_steps=6, save_every="1s")
session.result("loss", 1.0, unit="1", baseline=2.0, baseline_is="zero")
print(repr(session), vars(session), session.store, vars(session.store))"""


@pytest.mark.timeout(240)
@pytest.mark.rehearse
def test_no_secret_is_in_any_byte_that_was_written_or_printed(make_notebook, tmp_path, root, monkeypatch, capfd):
    pytest.importorskip("hatchling")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nbkit.tools.kaggle.client.FIRST_WAIT", 0.01)
    monkeypatch.setattr("nbkit.tools.kaggle.datasets.POLL", 0.01)
    printed = []

    def command(*arguments: str) -> int:
        code = cli.run(list(arguments))
        said = capfd.readouterr()
        printed.append(f"$ {arguments} -> {code}\n{said.out}{said.err}".encode())
        return code

    (tmp_path / "drive").mkdir()
    with DriveLoopback(folder=tmp_path / "drive") as drive, KaggleLoopback() as server:
        monkeypatch.setenv("NBKIT_DRIVE_CREDENTIAL", drive.credential_text())
        monkeypatch.setenv("NBKIT_STORE", drive.url)
        parameters = "STORE = None  # s\nLIMIT = None  # l\nSMOKE = False"
        notebook = make_notebook(parameters, "import nbkit\n" + SESSION, TRAIN, "summary = session.close()")
        login = {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY, "PYTHONPATH": str(root), "VERBOSE": "true"}
        done = subprocess.run(
            [sys.executable, "-m", "nbkit", "run", str(notebook), "--limit", "2min"], cwd=tmp_path,
            env=os.environ | login, capture_output=True,
        )  # fmt: skip
        printed += [done.stdout, done.stderr]
        assert b"ZeroDivisionError" in done.stdout and done.returncode in (1, 3), done.stderr[-3000:]

        with server.point(monkeypatch, tmp_path / "home"):
            for arguments in (["status"], ["verify"], ["check"], ["quota", "--json"], ["dispatch", "--dry-run"]):
                assert command(*arguments) in (0, 1)
            assert command("push", "bandvar_train", "--json") == 0, printed[-1]
            assert command("push", "dispatcher") == 0, printed[-1]
            assert command("dispatch") == 0, printed[-1]
            server.kernels[f"{USER}/nbkit-bandvar-train"].files = {"x.bin": b"x"}
            assert command("pull", "bandvar_train") == 0 and command("status", "--json") == 0
            monkeypatch.setenv("KAGGLE_KEY", "not-" + KEY)
            assert command("quota") == 1 and command("dispatch") == 1
            assert b"rejects the credential" in printed[-1]
            monkeypatch.setenv("KAGGLE_KEY", KEY)
            drive.drive.plan.revoked = True
            drive.drive.tokens.clear()
            assert command("status") == 1 and command("push", "bandvar_train") == 1
            monkeypatch.setenv("NBKIT_DRIVE_CREDENTIAL", drive.credential_text()[:-20])
            assert command("push", "bandvar_train") == 2

        stored = {row["title"]: drive.drive.bytes_of(id) for id, row in drive.drive.rows.items()
                  if id in drive.drive.content}  # fmt: skip
        datasets = {ref: dataset.files for ref, dataset in server.datasets.items()}
        kernels: dict[str, Kernel] = server.kernels
        sent = list(server.seen)

    titles = " ".join(stored)
    for kind in (".ckpt", ".jsonl", ".ipynb", ".npz", "results.json"):
        assert kind in titles, f"no {kind} was stored, so nothing was searched in it"
    assert not [part[:300] for part in printed if holds_a_secret(part)]
    assert not [name for name, data in stored.items() if holds_a_secret(data)]
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "drive" not in path.parts[-2:]]
    assert len(written) > 3 and not [path for path in written if holds_a_secret(path.read_bytes())]
    pushed = {ref: json.dumps(kernel.request).encode() for ref, kernel in kernels.items()}
    assert len(pushed) >= 2 and not [ref for ref, data in pushed.items() if holds_a_secret(data)]

    # what reached Kaggle holds them in the two private datasets that are meant to, and nowhere else
    places = {(ref, name) for ref, files in datasets.items() for name, data in files.items() if holds_a_secret(data)}
    assert places == {
        (f"{USER}/nbkit-drive-login", "nbkit-drive-credential.json"), (f"{USER}/nbkit-kaggle-key", "kaggle.json")
    }  # fmt: skip
    assert all(server.datasets[ref].private for ref, _ in places)
    meant = {files[name] for ref, files in datasets.items() for place, name in places if place == ref}
    assert not [data[:300] for data in sent if data not in meant and holds_a_secret(data)]


def test_an_error_with_its_whole_traceback_shows_no_key(monkeypatch, tmp_path):
    """As a fault of our own would be shown: with the traceback, and the objects in it by their representation."""
    code = (
        "import sys, traceback\nfrom nbkit.tools.kaggle.client import connect\n"
        "kaggle = connect(first_wait=0.01, tries=1)\n"
        "try: kaggle.ask('trying', lambda api: api.quota_view())\n"
        "except Exception as error:\n"
        "    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()\n"
        "    print(''.join(lines)); print(repr(error), vars(error), repr(kaggle))\n"
    )
    with KaggleLoopback() as server:
        server.faults["*"] = ["drop"] * 9
        (tmp_path / "home").mkdir()
        environment = os.environ | server.environment(tmp_path / "home") | {"HOME": str(tmp_path / "home")}
        environment["PYTHONPATH"] = str(ROOT)
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, cwd=tmp_path)
    assert b"did not answer" in done.stdout, done.stderr
    assert not holds_a_secret(done.stdout + done.stderr)
