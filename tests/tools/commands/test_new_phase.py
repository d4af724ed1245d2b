"""A new phase's places: those of the phases that are here already are the oracle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.tools.commands import cli, new_phase
from nbkit.tools.commands.badges import with_badge
from nbkit.tools.commands.new_phase import (
    kaggle_metadata,
    make_places,
    notebook_frame,
    write_all_metadata,
)
from nbkit.tools.phases import find_phase, load_owner, load_phases

SLUGS = ("start_here", "dispatcher", "eeg_windows", "bandvar_train", "tribe_evaluate")


def test_metadata_follow_the_row_of_a_phase(tmp_path):
    """Kaggle's documented fields, written down here by hand for one phase with a GPU and one without."""
    metadata = json.loads(kaggle_metadata(find_phase("bandvar_train"), tmp_path))
    assert metadata == {
        "id": "KAGGLE_USERNAME/nbkit-bandvar-train", "title": "nbkit bandvar train",
        "code_file": "../../notebooks/40_bandvar_train.ipynb", "language": "python", "kernel_type": "notebook",
        "is_private": True, "machine_shape": "NvidiaTeslaT4", "enable_internet": True,
        "dataset_sources": [], "competition_sources": [], "kernel_sources": [], "model_sources": [],
    }  # fmt: skip
    assert json.loads(kaggle_metadata(find_phase("eeg_windows"), tmp_path))["machine_shape"] == ""


@pytest.mark.parametrize("slug", SLUGS)
def test_a_badge_that_was_taken_out_comes_back_to_its_place(root, slug):
    text, phase = (root / "colab/README.md").read_text("utf-8"), find_phase(slug)
    lines = text.splitlines(keepends=True)
    without = "".join(line for line in lines if f"notebooks/{phase.notebook}" not in line)
    assert without != text and with_badge(without, phase, load_owner()) == text


@pytest.mark.parametrize("slug", SLUGS)
def test_a_frame_begins_and_ends_as_the_notebooks_do(root, slug):
    phase = find_phase(slug)
    frame = {cell["id"]: cell for cell in notebook_frame(phase, root)["cells"]}
    real = json.loads((root / "notebooks" / phase.notebook).read_text("utf-8"))
    for cell in real["cells"]:
        if cell["id"] in ("set-up", "close") and slug != "tribe_evaluate":  # that one installs an extra
            assert "".join(cell["source"]) == "".join(frame[cell["id"]]["source"])
    assert list(frame)[0] == "title" and list(frame)[-1] == "close"
    opened = "".join(frame["open"]["source"])
    assert f'"{slug}"' in opened and ("ACCELERATOR" in opened) == (phase.accelerator != "cpu")
    assert frame["parameters"]["source"][-1].startswith("SMOKE = False")


def test_frames_are_as_ruff_formats_them(root, tmp_path):
    for phase in load_phases():
        text = json.dumps(notebook_frame(phase, root), indent=1, ensure_ascii=False)
        (tmp_path / phase.notebook).write_text(text + "\n", "utf-8")
    command = [sys.executable, "-m", "ruff", "format", "--check", "--config", root / "pyproject.toml", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def checkout(root, tmp_path, monkeypatch):
    """Return a checkout that has the map, one notebook and the badges, and nothing else."""
    for name in ("manifests/phases.toml", "notebooks/00_start_here.ipynb", "colab/README.md"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(root / name, tmp_path / name)
    monkeypatch.setattr(new_phase, "home", lambda: tmp_path)
    return tmp_path


def test_places_are_made_once_and_then_left_as_they_are(checkout):
    said = make_places("bandvar_train")
    assert "made       kaggle/bandvar-train/kernel-metadata.json" in said and "there      colab/README.md" in said
    assert "made       nbkit/neuro/bandvar/__init__.py" in said
    assert "to write   nbkit/neuro/bandvar/training.py" in said and "`bands`, `curves`" in said
    notebook = checkout / "notebooks/40_bandvar_train.ipynb"
    notebook.write_text("mine")
    assert "made " not in make_places("bandvar_train") and notebook.read_text() == "mine"


def test_cells_of_a_file_stand_between_open_and_close_of_a_new_notebook_only(checkout, capsys):
    cells = checkout / "cells.py"
    cells.write_text("# %% open\nx = 1\n")
    command = ["new", "bandvar_train", "--cells", str(cells)]
    assert cli.run(command) == 2 and "names a cell 'open'" in capsys.readouterr().err
    assert not (checkout / "kaggle").exists(), "nothing was created"
    cells.write_text("# %% work\nx = 1\n# %% read [markdown]\nYou should see 1.\n")
    assert cli.run(command) == 0 and "40_bandvar_train.ipynb: its cells" not in capsys.readouterr().out
    notebook = checkout / "notebooks/40_bandvar_train.ipynb"
    made = json.loads(notebook.read_text("utf-8"))["cells"]
    assert [cell["id"] for cell in made][-5:] == ["open", "work", "read", "close-about", "close"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in made[-4:-2]] == [
        ("code", "x = 1"), ("markdown", "You should see 1."),
    ]  # fmt: skip
    before = notebook.read_bytes()
    assert cli.run(command) == 2 and "into a new notebook only" in capsys.readouterr().err
    assert notebook.read_bytes() == before and cli.run(["new", "--all", "--cells", "x"]) == 2


def test_all_metadata_are_written_from_the_rows_and_attached_sources_stay(checkout, root):
    folders = {phase.kaggle_folder for phase in load_phases()}
    first = write_all_metadata()
    assert {path.parent.name for path in (checkout / "kaggle").glob("*/kernel-metadata.json")} == folders
    for folder in folders:  # the repository's own, which a test of the house compares, too
        name = f"kaggle/{folder}/kernel-metadata.json"
        assert (checkout / name).read_text("utf-8") == (root / name).read_text("utf-8") and name in first
    path = checkout / "kaggle/eeg-windows/kernel-metadata.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(content | {"machine_shape": "x", "dataset_sources": ["someone/recordings"]}))
    again = write_all_metadata()
    assert [line.split() for line in again.splitlines() if line.startswith("written")] == [
        ["written", "kaggle/eeg-windows/kernel-metadata.json"]
    ]
    assert json.loads(path.read_text("utf-8")) == content | {"dataset_sources": ["someone/recordings"]}
    path.write_text("[")
    with pytest.raises(UsageError, match="is not a JSON object"):
        write_all_metadata()
    assert path.read_text() == "["


def test_new_takes_a_slug_or_all_and_not_both(checkout, capsys):
    for words in (["new"], ["new", "bandvar_train", "--all"]):
        assert cli.run(words) == 2 and "either the slug of a new phase or --all" in capsys.readouterr().err
    assert cli.run(["new", "--all"]) == 0 and (checkout / "kaggle/status/kernel-metadata.json").is_file()


def test_a_phase_without_a_row_and_an_nbkit_without_its_checkout_are_refused(checkout):
    with pytest.raises(UsageError, match="Did you mean 'bandvar_train'"):
        make_places("bandvar_trian")
    (checkout / "colab/README.md").unlink()
    with pytest.raises(UsageError, match="is not a checkout of nbkit"):
        make_places("bandvar_train")
    assert not (checkout / "kaggle").exists() and len(load_phases()) > 1
