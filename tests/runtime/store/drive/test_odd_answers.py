"""What is not Drive's answer is a passing fault in words: no traceback, no empty listing, and nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nbkit.runtime.session import open_session
from nbkit.runtime.store.drive import answers
from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.faults import DriveError
from nbkit.runtime.store.drive.store import DriveStore
from nbkit.tools.commands.cli import run
from tests.runtime.store.drive.drive_loopback import Loopback
from tests.runtime.store.drive.drive_state import Plan, md5_of
from tests.runtime.store.drive.odd_answers import CASES, ODD_FIELDS, REQUESTS, Between, between

_SMALL = 3000  # bytes that are sent in one request; what is larger goes in chunks
_WHAT_IS_NO_FAULT = {  # an upload in chunks asks in two requests, and a deletion is answered with nothing
    ("delete", "nothing"), ("delete", "an empty object"), ("token", "refresh_token=5"), ("token", "refresh_token=[]"),
    ("token", "expires_in=None"), ("token", "error=5"),
}  # fmt: skip


@pytest.fixture
def drive():
    with Loopback(Plan(retry_after="0")) as served:
        yield served


@pytest.fixture
def here():
    with between() as one:
        yield one


def store_of(drive: Loopback) -> DriveStore:
    credential = read_credential(drive.credential_text(), "the test")
    return DriveStore(drive.drive.made_folder, credential, first_wait=0.001, small=_SMALL, chunk=256 << 10)


def files(folder: Path) -> dict[str, Path]:
    found = {}
    for name, size in {"a/small": 1000, "a/large": 300_000, "b/c/other": 10}.items():
        found[name] = folder / name.replace("/", "-")
        found[name].write_bytes(os.urandom(size))
    return found


def every_verb(drive: Loopback, store: DriveStore, made: dict[str, Path], back: Path) -> list[DriveError]:
    """Call everything that a store can do, and return the faults."""
    faults = []
    old = {name for name, *_ in drive.drive.tree()}

    def check_listing(found: list[str]) -> None:
        assert old <= set(found), "files that are there were not listed"

    calls = [
        lambda: check_listing([stat.name for stat in store.list()]),
        lambda: check_listing([stat.name for prefix in ("a/", "gone", "old") for stat in store.list(prefix)]),
        lambda: store.put(back.with_name("old"), "old"),
        lambda: [store.put(path, name) for name, path in made.items()],
        lambda: store.put(made["a/large"], "a/small"),
        lambda: store.put(made["a/small"], "a/small"),
        lambda: store.get("old", back),
        lambda: store.stat("old").size,
        lambda: store.tidy(""),
        lambda: store.delete("gone"),
        lambda: store.space(),
    ]
    for call in calls:
        try:
            call()
        except DriveError as error:
            assert error.passing, error
            faults.append(error)
    return faults


@pytest.mark.parametrize(("request_", "kind"), CASES, ids=lambda value: str(value).replace(" ", "-"))
def test_every_verb_outlasts_an_answer_that_is_not_drives(drive, here: Between, tmp_path, request_, kind):
    made, back = files(tmp_path), tmp_path / "back"
    (tmp_path / "old").write_bytes(b"old" * 100)
    for name in ("old", "gone"):
        store_of(drive).put(tmp_path / "old", name)
    here.of, here.kind = {request_}, kind
    faults = every_verb(drive, store_of(drive), made, back)
    assert here.answered, "the request is one of those that are made"
    if (request_, kind) not in _WHAT_IS_NO_FAULT and kind not in ("cut", "a range of nonsense"):
        assert faults, "what is not Drive's answer was taken for one"
    assert all("\n" not in str(fault) and "ya29" not in str(fault) for fault in faults)
    here.of = set()
    store = store_of(drive)
    for name, path in made.items():
        store.put(path, name)
    assert {name: md5 for name, md5, _ in drive.drive.tree() if name in made} == {
        name: md5_of(path.read_bytes()) for name, path in made.items()
    }
    names = [name for name, *_ in drive.drive.tree()]
    assert len(names) == len(set(names)) and "old" in names, "a name was stored twice, or one is lost"


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize(("kind", "most"), [("a login page", 30), ("cut", 1)])
def test_a_session_that_meets_them_stores_everything_or_names_it(
    drive, here: Between, tmp_path, request_, most, kind, capsys
):
    session = open_session("p", store=store_of(drive), folder=tmp_path / "work", limit=60)
    for item in session.work([{"key": f"k{n}"} for n in range(3)]):
        with item:
            if item.key == "k1":
                here.of, here.kind, here.most = {request_}, kind, most
                if request_ == "token":
                    drive.drive.tokens.clear()  # else none is asked for
            item.save(x=np.arange(2))
    summary = session.close()
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said and summary["done"] == 3 and summary["not_stored"] == []
    assert len([name for name, *_ in drive.drive.tree() if name.startswith("p/items/")]) == 3


@pytest.mark.parametrize("kind", ["a login page", "null", "an empty object"])
def test_one_that_does_not_end_ends_the_session_in_words_and_names_what_waits(drive, here, tmp_path, kind, capsys):
    session = open_session("p", store=store_of(drive), folder=tmp_path / "work", limit=8)
    for item in session.work([{"key": f"k{n}"} for n in range(3)]):
        with item:
            if item.key == "k2":
                here.of, here.kind = set(REQUESTS), kind
            item.save(x=np.arange(2))
    summary = session.close()
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said and summary["exit"] == 3
    stored = {name for name, *_ in drive.drive.tree()}
    assert {"p/items/k2.npz"} <= stored | set(summary["not_stored"])
    here.of = set()
    session = open_session("p", store=store_of(drive), folder=tmp_path / "work", limit=60)
    summary = session.close()
    assert summary["done"] == 3 and summary["not_stored"] == []


@pytest.mark.parametrize("command", [["status"], ["status", "p"], ["verify"], ["report", "--out", "page.html"]])
@pytest.mark.parametrize("kind", ["a login page", "a list"])
def test_commands_and_opening_say_it_in_words(drive, here, tmp_path, command, kind, monkeypatch, capsys):
    monkeypatch.setenv("NBKIT_DRIVE_CREDENTIAL", drive.credential_text())
    monkeypatch.setattr("nbkit.runtime.store.retried.time.sleep", lambda _: None)
    monkeypatch.chdir(tmp_path)
    here.of, here.kind = {"list", "look"}, kind
    assert run([*command, "--store", drive.url]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "the answer was not Drive's" in said and "Traceback" not in said


def test_an_empty_listing_is_drives_only_where_it_says_so():
    assert answers.page({"kind": "drive#fileList"}) == answers.page({"items": []}) == ([], None)
    with pytest.raises(answers.OddAnswer):
        answers.page({})


ROW = {
    "id": "1abc-_", "title": "a", "mimeType": "text/plain", "createdDate": "2026-01-02T03:04:05.678Z", "fileSize": "5",
    "modifiedDate": "2026-01-02T03:04:05.678Z", "md5Checksum": "0" * 32, "parents": [{"id": "1root"}],
    "labels": {"trashed": False},
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in ODD_FIELDS for value in ODD_FIELDS[name]])
def test_every_field_of_a_row_has_a_form(name, value):
    row = {key: old for key, old in (ROW | {name: value}).items() if key != name or value is not None}
    for form in (answers.described, answers.content, lambda row: answers.page({"items": [ROW, row]})):
        with pytest.raises(answers.OddAnswer):
            form(row, *(["1abc-_"] if form is answers.content else []))
    with pytest.raises(answers.OddAnswer, match="another file"):
        answers.row(ROW, "1other")
    assert answers.content(ROW, "1abc-_") == ROW


@pytest.mark.parametrize("without", ["md5Checksum fileSize", "md5Checksum", "parents", "labels", "modifiedDate"])
def test_what_drive_leaves_out_of_its_own_documents_and_shared_files_is_no_fault(without):
    row = {key: value for key, value in ROW.items() if key not in without.split()}
    assert answers.described(row) == {"parents": []} | row
