"""A file that a command writes has the name that its user gave, or is refused in words; nothing else is replaced."""

from __future__ import annotations

import errno
import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import nbkit
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.tools.commands import cli
from nbkit.tools.commands.options import show
from nbkit.tools.output import output_file

COMMANDS = {"report": ["report", "toy", "--out"], "status": ["status", "toy", "--done"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    session = nbkit.open_session("toy", store=folder / "store", limit=60, folder=folder / "work")
    for item in session.work([{"key": "a"}]):
        with item:
            pass
    session.close()
    return folder / "store"


def odd_outputs(folder: Path) -> dict[str, Path]:
    (folder / "folder").mkdir()
    (folder / "file").write_text("mine")
    os.mkfifo(folder / "pipe")
    (folder / "link to a pipe").symlink_to(folder / "pipe")
    (folder / "link to a folder").symlink_to(folder / "folder")
    named = {path.name: path for path in folder.iterdir() if path.name != "file"}
    return named | {
        "below a file": folder / "file" / "x.json",
        "a long name": folder / ("x" * 300),
        "below a long name": folder / ("x" * 300) / "x",
        "where no file can be": Path("/proc/x.json"),
        "a null": folder / "a\0b",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="pipes and /proc")
@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_the_output_is_refused_and_stays(command, store, tmp_path, capsys):
    outputs = odd_outputs(tmp_path)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for what, path in outputs.items():
        assert cli.run([*COMMANDS[command], str(path), "--store", str(store)]) == 2, what
        said = capsys.readouterr().err
        assert said.startswith("error: The output ") and COMMANDS[command][-1] in said and "Nothing was" in said, what
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="a socket with a name")
def test_a_socket_is_no_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its own name must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        with pytest.raises(UsageError, match="a socket"), output_file("s", "--out"):
            raise AssertionError("it is not written")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_link_to_a_file_stays_a_link(command, store, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "file"
    for old in (True, False):  # it names a file, or one that is not there yet
        if old:
            target.write_text("old")
        else:
            target.unlink()
        link = tmp_path / f"link {old}"
        link.symlink_to(target)
        assert cli.run([*COMMANDS[command], str(link), "--store", str(store)]) == 0, capsys.readouterr().err
        assert link.is_symlink() and target.is_file() and target.read_text() != "old"


class Full(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_under_the_output_is_told(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(NbkitError, match="could not be written to the output: No space left"):
        show({}, False, "words")


@pytest.mark.parametrize("command", [["status"], ["verify"], ["report"], ["run", "nb.ipynb"]], ids=" ".join)
@pytest.mark.skipif(sys.platform != "linux", reason="a folder in use can be deleted")
def test_a_deleted_folder_is_told(command, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        f"import os, sys; os.rmdir({str(gone)!r}); from nbkit.tools.commands.cli import run; sys.exit(run({command}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(nbkit.__file__).parents[1])}
    environment.pop("NBKIT_STORE", None)
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=gone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr
