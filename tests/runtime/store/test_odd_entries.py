"""What a folder may hold beside files: pipes, sockets, links that lead to themselves; and places that are no folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

import nbkit
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.store.remote import FsspecStore
from nbkit.tools.commands.check import check_disk
from nbkit.tools.commands.cli import run
from nbkit.tools.rehearsal.running import run_notebook
from nbkit.tools.report.page import write_report
from nbkit.tools.status.status import read_status
from nbkit.tools.status.verify import verify_store
from tests.runtime.ledger.odd_records import healthy


def make_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)  # the address of a socket has 107 characters at most
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


ENTRIES = {
    "pipe": os.mkfifo,
    "socket": make_socket,
    "link to itself": lambda path: os.symlink(path.name, path),
    "link to nothing": lambda path: os.symlink("nothing", path),
    "link to a pipe": lambda path: (os.mkfifo(path.with_name("pipe")), os.symlink("pipe", path)),
    "circle of links": lambda path: (os.symlink(path.name, path.with_name("o")), os.symlink("o", path)),
}
PLACES = (
    "p/ledger/s/000000001-000000001-deadbeef.jsonl", "p/ledger/merged/000000001-000000001-deadbeef.jsonl",
    "p/results.json", "p/rehearsal.json", "p/metrics.jsonl", "p/figures/a.png", "p/tables/a.tsv", "p/pages/a.html",
    "p/checkpoints/step-000000001.json", "p/checkpoints/step-000000001.ckpt", "p/items/good2.npz", "p/odd", "odd",
)  # fmt: skip


@pytest.mark.parametrize("kind", [FolderStore, FsspecStore])
@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_no_file_is_not_in_a_store(tmp_path, kind, entry):
    inside = healthy(tmp_path / "store")
    ENTRIES[entry](inside.root / "p" / "odd")
    store = inside if kind is FolderStore else FsspecStore(f"local://{inside.root}")
    assert {stat.name for stat in store.list()} == {stat.name for stat in healthy(tmp_path / "other").list()}
    assert store.stat("p/odd") is None
    with pytest.raises(FileNotFoundError, match="holds no p/odd"):
        store.get("p/odd", tmp_path / "got")
    (tmp_path / "new").write_bytes(b"")
    if kind is FolderStore and "link" not in entry:
        store.put(tmp_path / "new", "p/odd")
        assert store.stat("p/odd").size == 0, "a file may take its place"
    store.delete("p/odd")
    assert "p/odd" not in {stat.name for stat in store.list()}


@pytest.mark.parametrize("entry", ["pipe", "socket", "link to itself"])
@pytest.mark.parametrize("place", PLACES)
def test_every_reader_passes_over_what_is_no_file(tmp_path, entry, place):
    store = healthy(tmp_path / "store")
    (store.root / place).parent.mkdir(parents=True, exist_ok=True)
    ENTRIES[entry](store.root / place)
    (row,) = read_status(str(store.root), ["p"])
    assert row.done == 1
    verify_store(str(store.root))
    write_report(str(store.root), tmp_path / "page.html", ["p"])
    session = nbkit.open_session("p", store=store.root, folder=tmp_path / "work")
    assert "good" in session.ledger.state.done and session.results.content
    session.close()


NOWHERE = {
    "a file": "file", "below a file": "file/store", "deep below a file": "file/a/b/c", "a link to itself": "loop",
    "below a link to itself": "loop/a", "below a link to nothing": "dangling/a", "a link to nothing": "dangling",
    "the processes": "/proc/nbkit-store/a", "a name of 300": "a" * 300, "NUL": "a\0b",
    "a home of nobody": "~nobody-has-this-name/store",
}  # fmt: skip


def nowhere(folder: Path) -> None:
    """Make the entries that the paths of NOWHERE meet."""
    (folder / "file").write_text("x")
    os.symlink("loop", folder / "loop")
    os.symlink("nothing", folder / "dangling")


@pytest.mark.parametrize("what", NOWHERE)
def test_a_store_that_can_never_be_made_is_refused_before_the_work(tmp_path, what, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nowhere(tmp_path)
    path = NOWHERE[what] if what == "a home of nobody" else os.path.join(tmp_path, NOWHERE[what])
    for address in (path, Path(path), f"file://{path}"):
        with pytest.raises(UsageError, match=r"Nothing was written\."):
            open_store(address)
    with pytest.raises(UsageError):
        nbkit.open_session("p", store=path, folder=tmp_path / "work")
    assert not (tmp_path / "work").exists()
    if what not in ("a home of nobody", "NUL"):
        assert os.path.isabs(store_address(path))
    for verb in ("status", "verify", "report"):
        assert run([verb, "--store", path]) in (1, 2)
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "Traceback" not in said
    assert sorted(one.name for one in tmp_path.iterdir()) == ["dangling", "file", "loop"]


@pytest.mark.parametrize("path", ["store", "a/b/store", "link/store"])
def test_a_store_that_can_be_made_is_not_made_by_looking(tmp_path, path):
    (tmp_path / "real").mkdir()
    os.symlink("real", tmp_path / "link")
    open_store(tmp_path / path)
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["link", "real"]


@pytest.mark.parametrize("folder", ["loop", "loop/a", "file", "file/a", "dangling/a"])
def test_a_folder_of_a_session_that_can_never_be_made_is_told_in_words(tmp_path, folder):
    nowhere(tmp_path)
    with pytest.raises(NbkitError, match="cannot be created or written"):
        nbkit.open_session("p", store=tmp_path / "store", folder=tmp_path / folder)


@pytest.mark.parametrize("path", ["loop", "loop/a", "file", "file/a"])
def test_commands_that_take_a_folder_refuse_one_that_can_never_be_made(tmp_path, path, capsys):
    nowhere(tmp_path)
    for call in (["notebooks", str(tmp_path / path)], ["results", "--data", str(tmp_path / path)]):
        assert run(call) in (1, 2)
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "Traceback" not in said
    with pytest.raises(UsageError, match="cannot be made"):
        run_notebook("start_here", store=str(tmp_path / "store"), folder=tmp_path / path)
    assert check_disk(tmp_path / path).state in ("ok", "note", "fault")
