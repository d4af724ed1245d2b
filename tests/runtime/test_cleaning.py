"""Every step that tidies up deletes what nbkit itself wrote, by its whole name, and nothing behind a link."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.ground.files import own_files, remove_stray_temps
from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.runtime.errors import StoreError
from nbkit.runtime.store.drive.store import DriveStore
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.generations import Generations
from nbkit.tools.status import listing

DEAD = 999_999_999  # no process has this number
FOREIGN = (
    "thesis.tex", "photo.jpg", ".bashrc", "part", ".part", "x.part", ".x.part", "movie.mkv.part", "movie.12.part",
    ".movie.mkv.part", f"x.{DEAD}.part", f"..{DEAD}.part", f".x.{DEAD}.part.old", f".x.{DEAD}x.part", "x.upload.json",
    ".x.upload.json", ".upload.json", ".x.0123456789ab.upload.json.bak", "step-1.ckpt", "step-final.ckpt",
    "my-step-000000001.ckpt", "step-000000001.ckpt.bak", ".fetched-notes", ".fetched-step-1.ckpt", "notes.pack",
    "0" * 31 + "-5", "0" * 32 + "-5.txt", "d" * 32,
)  # fmt: skip


def sweep_incoming(folder: Path) -> None:
    (folder.parent / "new").write_text("x")
    FolderStore(folder.parent).put(folder.parent / "new", "a/x")


def sweep_drive(folder: Path) -> None:
    store = object.__new__(DriveStore)
    store.url, store._state, store._swept = "gdrive://x", None, set()
    store._state_of(folder / "file", "file")


def sweep_cache(folder: Path) -> None:
    cache = EmbeddingCache(folder.parent, limit_gb=1e-12, block=1)
    cache.embed(np.zeros((1, 2, 3), np.float32), {"model": "toy"}, lambda windows: windows.mean(axis=2))


def sweep_user_cache(folder: Path) -> None:
    listing.user_cache()


SWEEPS: dict[str, tuple[Callable[[Path], object], str, str]] = {  # what cleans, where, and what it may delete there
    "temporary": (remove_stray_temps, "any", f".x.{DEAD}.part"),
    "incoming": (sweep_incoming, ".incoming", f"{platform.node()}.{DEAD}.7.part"),
    "incoming of another machine": (sweep_incoming, ".incoming", f"other.example.org.{DEAD}.7.part"),
    "checkpoints": (lambda folder: Generations("p", folder.parent).open(), "checkpoints", "step-000000007.ckpt"),
    "fetched": (lambda folder: Generations("p", folder.parent).open(), "checkpoints", ".fetched-step-000000007.ckpt"),
    "uploads of Drive": (sweep_drive, "any", ".gone.npz.0123456789ab.upload.json"),
    "embeddings": (sweep_cache, "0" * 24, "0" * 64 + ".pack"),
    "the user's cache": (sweep_user_cache, "nbkit/store", "0" * 32 + "-5"),
    "stray in the user's cache": (sweep_user_cache, "nbkit/store", "." + "0" * 32 + f"-5.{DEAD}.part"),
}


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("precious")
        os.utime(folder / name, (time.time() - 90 * 86400,) * 2)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return lambda what: (SWEEPS[what][0], tmp_path / SWEEPS[what][1], SWEEPS[what][2])


@pytest.mark.parametrize("what", SWEEPS)
def test_only_names_that_nbkit_gives_are_deleted(place, what):
    sweep, folder, own = place(what)
    fill(folder, *FOREIGN, own)
    fill(folder / "sub", "thesis.tex")
    os.utime(folder / "sub", (1, 1))
    sweep(folder)
    assert not (folder / own).exists(), "its own stray file is removed"
    assert [name for name in (*FOREIGN, "sub/thesis.tex") if not (folder / name).is_file()] == []


@pytest.mark.parametrize("what", SWEEPS)
def test_nothing_behind_a_link_is_deleted(place, tmp_path, what):
    sweep, folder, own = place(what)
    target = tmp_path / "far" / "elsewhere"
    fill(target, *FOREIGN, own)
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, folder)
    if "incoming" in what:
        with pytest.raises(StoreError, match="is a symbolic link to .*Nothing was written") as refused:
            sweep(folder)
        assert not refused.value.passing and not (tmp_path / "a").exists()
    else:
        sweep(folder)
    assert sorted(path.name for path in target.iterdir()) == sorted((*FOREIGN, own))


@pytest.mark.parametrize("what", SWEEPS)
def test_a_link_and_a_folder_of_an_own_name_stay(place, tmp_path, what):
    sweep, folder, own = place(what)
    fill(tmp_path / "elsewhere", "thesis.tex")
    folder.mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere" / "thesis.tex", folder / own)
    sweep(folder)
    assert (tmp_path / "elsewhere" / "thesis.tex").is_file() and (folder / own).is_symlink()
    (folder / own).unlink()
    (folder / own).mkdir()
    sweep(folder)
    assert (folder / own).is_dir()


@pytest.mark.parametrize("target", ["outside", "inside", "nothing"])
def test_a_session_whose_store_has_a_link_for_unfinished_files_says_so_and_keeps_everything(tmp_path, target, capsys):
    where = {"outside": tmp_path / "precious", "inside": tmp_path / "s" / "data", "nothing": tmp_path / "gone"}[target]
    if target != "nothing":
        fill(where, "thesis.tex", "x.1.1.part")
    (tmp_path / "s").mkdir(exist_ok=True)
    os.symlink(where, tmp_path / "s" / ".incoming")
    session = nbkit.open_session("slope", store=tmp_path / "s", limit=60, folder=tmp_path / "f")
    for item in session.work([{"key": "a"}]):
        with item:
            item.save(x=np.arange(3))
    summary = session.close()
    said = capsys.readouterr().out
    assert summary["not_stored"] and "is a symbolic link to" in said and "Traceback" not in said
    assert not where.exists() if target == "nothing" else len(list(where.iterdir())) == 2
    (tmp_path / "s" / ".incoming").unlink()
    session = nbkit.open_session("slope", store=tmp_path / "s", limit=60, folder=tmp_path / "f")
    assert session.close()["not_stored"] == []


def test_files_that_vanish_while_they_are_looked_at_are_no_fault(tmp_path):
    assert own_files(tmp_path / "nothing", lambda name: True) == []
    fill(tmp_path, "a", "b")

    def other_session(name: str) -> bool:
        (tmp_path / name).unlink()
        return True

    assert own_files(tmp_path, other_session) == []
