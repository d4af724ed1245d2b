"""``make gpu`` where there is no card, and on a machine that lacks packages: sentences, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tests.gpu.__main__ as gpu
from tests.bench.rows import Row
from tests.gpu.slices import Slice, all_slices

NO_GPU = (RuntimeError, AssertionError, torch.multiprocessing.ProcessRaisedException)
no_card = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")

BARE = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("mne", "braindecode", "papermill", "msgspec", "tenacity"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from tests.gpu.__main__ import main
print("listed", main(["--list"]))
sys.exit(main([]))
"""


@no_card
@pytest.mark.rehearse
def test_without_a_card_and_without_packages_it_says_so() -> None:
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, timeout=120)
    assert done.returncode == gpu.NO_CARD and "Traceback" not in done.stderr, done.stderr
    assert "There is no card: torch" in done.stdout and "listed 0" in done.stdout
    assert "fp16 through a resume (left out: msgspec, tenacity are not installed)" in done.stdout
    assert "presets decoding_finetune (left out: braindecode, mne are not installed)" in done.stdout
    assert "preset labram_codebook\n" in done.stdout


@no_card
@pytest.mark.train
def test_every_slice_comes_as_far_as_the_first_call_of_cuda(tmp_path: Path) -> None:
    """Slices of presets build their modules and estimates first, so only the others are quick enough here."""
    for one in all_slices():
        if one.name.startswith(("preset", "Band-VAR", "mixture", "selective", "LaBraM beside", "embeddings")):
            continue  # the benchmarks also run on a CPU, and have tests of their own
        with pytest.raises(NO_GPU, match="(?i)nvidia|cuda|gpu"):
            one.rows()


@no_card
@pytest.mark.train
def test_a_presets_slice_comes_as_far_as_the_first_call_of_cuda() -> None:
    from tests.gpu.presets import PRESETS
    from tests.gpu.steps import preset_rows

    with pytest.raises(NO_GPU, match="(?i)nvidia|cuda|gpu"):
        preset_rows(next(one for one in PRESETS if one.slug == "tribe_fmri"), 0.9, steps=2)


def test_the_page_names_the_card_the_rows_and_what_was_left_out(tmp_path: Path, monkeypatch) -> None:
    slices = [
        Slice("good", (), lambda: []),
        Slice("bare", ("no_such_package",), lambda: []),
        Slice("pair", (), lambda: [], cards=2),
    ]
    monkeypatch.setattr(gpu, "all_slices", lambda: slices)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    runs = []

    def run(command, **options):
        runs.append(command[command.index("--only") + 1])
        row = Row("a step", 12.5, "ms", "another", 25.0, "<= 20 ms", True)
        Path(command[-1]).write_text(json.dumps([vars(row)]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert gpu.main(["--page", str(tmp_path / "gpu.md")]) == 0
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# On a card: Tesla T4")
    assert "| a step | 12.5 ms | 25 ms (another) | <= 20 ms met |  |" in page
    assert "no_such_package is not installed" in page and "it needs 2 cards, and there is 1" in page
    gpu.main(["--page", str(tmp_path / "gpu.md")])
    assert runs == ["good"], "what is measured is kept"
