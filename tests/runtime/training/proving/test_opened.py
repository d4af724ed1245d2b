"""Files that were written and read during a trial, by function; audit hooks stay, so each test has its own process."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from nbkit.runtime.training.proving.opened import Opened, place_of
from tests.runtime.training.proving.elsewhere import rarely_written


def again(folder: Path) -> None:
    path = folder / "again"
    path.write_text(path.read_text() + "." if path.exists() else "")


def appended(folder: Path) -> None:
    rarely_written(str(folder / "log"))


def replaced(folder: Path) -> None:
    (folder / "new").write_text("1")
    os.rename(folder / "new", folder / "old")
    (folder / "old").read_text()


def touched(folder: Path) -> None:
    if not (folder / "mark").exists():
        (folder / "mark").touch()


def in_another_process(folder: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=again, args=(folder,))
    worker.start()
    worker.join()


def only_read(folder: Path) -> None:
    Path(__file__).read_bytes()


def never(folder: Path) -> None: ...


def _found(function, folder: Path, queue) -> None:
    opened = Opened(folder / "opened.jsonl")
    for _ in range(2):
        function(folder)
    written = again if function is in_another_process else rarely_written if function is appended else function
    clues = [["file", "open", place_of(written.__code__), "module"], ["clock", "time", "elsewhere", "data"]]
    queue.put([clue[0] for clue in opened.really(clues)])


@pytest.mark.parametrize(
    ("function", "named"),
    [(again, True), (replaced, True), (touched, True), (in_another_process, True), (appended, False),
     (only_read, False), (never, False)],
)  # fmt: skip
def test_a_file_is_named_only_where_it_was_written_and_read(function, named: bool, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_found, args=(function, tmp_path, queue))
    process.start()
    assert queue.get(timeout=60) == (["file", "clock"] if named else ["clock"])
    process.join()
