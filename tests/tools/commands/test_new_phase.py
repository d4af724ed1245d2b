"""A new phase's places: those of the phases that are here already are the oracle."""

from __future__ import annotations

import json
import shutil

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.tools.commands import new_phase
from nbkit.tools.commands.new_phase import kaggle_metadata, make_places, notebook_frame, with_badge
from nbkit.tools.phases import find_phase, load_phases

SLUGS = ("start_here", "dispatcher", "eeg_windows", "bandvar_train", "tribe_evaluate")


@pytest.mark.parametrize("slug", SLUGS)
def test_metadata_are_those_that_were_written_by_hand(root, slug):
    phase = find_phase(slug)
    text = (root / "kaggle" / phase.kaggle_folder / "kernel-metadata.json").read_text("utf-8")
    assert json.dumps(kaggle_metadata(phase), indent=2) + "\n" == text


@pytest.mark.parametrize("slug", SLUGS)
def test_a_badge_that_was_taken_out_comes_back_to_its_place(root, slug):
    text, phase = (root / "colab/README.md").read_text("utf-8"), find_phase(slug)
    lines = text.splitlines(keepends=True)
    without = "".join(line for line in lines if f"notebooks/{phase.notebook}" not in line)
    assert without != text and with_badge(without, phase) == text


@pytest.mark.parametrize("slug", SLUGS)
def test_a_frame_begins_and_ends_as_the_notebooks_do(root, slug):
    phase = find_phase(slug)
    frame = {cell["id"]: cell for cell in notebook_frame(phase, root)["cells"]}
    real = json.loads((root / "notebooks" / phase.notebook).read_text("utf-8"))
    for cell in real["cells"]:
        if cell["id"] in ("set-up", "close") and slug != "tribe_evaluate":  # that one installs an extra
            assert "".join(cell["source"]) == frame[cell["id"]]["source"]
    assert list(frame)[0] == "title" and list(frame)[-1] == "close"
    opened = frame["open"]["source"]
    assert f'"{slug}"' in opened and ("ACCELERATOR" in opened) == (phase.accelerator != "cpu")
    assert frame["parameters"]["source"].splitlines()[-1].startswith("SMOKE = False")


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


def test_a_phase_without_a_row_and_an_nbkit_without_its_checkout_are_refused(checkout):
    with pytest.raises(UsageError, match="Did you mean 'bandvar_train'"):
        make_places("bandvar_trian")
    (checkout / "colab/README.md").unlink()
    with pytest.raises(UsageError, match="no checkout of nbkit"):
        make_places("bandvar_train")
    assert not (checkout / "kaggle").exists() and len(load_phases()) > 1
