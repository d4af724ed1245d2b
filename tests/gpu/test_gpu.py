"""``make gpu`` where there is no card, and on a machine that lacks packages: sentences, no traceback."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tests.gpu.__main__ as gpu
from tests.bench.rows import Row
from tests.gpu import steps
from tests.gpu.presets import HAS_BRAINDECODE
from tests.gpu.processes import in_turns, left_out
from tests.gpu.slices import Slice

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


# one of each kind; `python -m tests.gpu --dry` takes all, which is two minutes of a processor
DRY = (
    "labram_codebook",
    "labram_pretrain",
    "jepa_challenge1",
    "bandvar",
    "neurofm_validate",
    "tribe_fmri",
    "biot, lora",
)
DRY += ("LaBraM's steps", "mixture", "scan", "Band-VAR", "fp16", "pinned", "4 bits", "two devices")


@no_card
@pytest.mark.train
def test_slices_come_to_their_first_call_of_cuda(capsys) -> None:
    assert gpu.main(["--dry", *(word for name in DRY for word in ("--only", name))]) == 0
    *lines, last = capsys.readouterr().out.strip().splitlines()
    assert all(any(name in line for line in lines) for name in DRY if HAS_BRAINDECODE or "biot" not in name)
    assert all(" s to " in line or "left out: " in line for line in lines), lines
    assert "failed: none" in last and "gpu.md needs a card" in last
    places = [line.partition(" s to ")[2] for line in lines if " s to " in line]
    assert all(place.startswith(("nbkit/", "tests/")) for place in places), places


@no_card
def test_a_slice_that_needs_no_card_or_fails_before_it_is_no_proof(monkeypatch, capsys) -> None:
    def wrong() -> list[Row]:
        raise ValueError("no such preset")

    slices = [
        Slice("idle", (), lambda: []),
        Slice("wrong", (), wrong),
        Slice("good", (), lambda: torch.zeros(1).cuda()),
    ]
    monkeypatch.setattr(gpu, "all_slices", lambda: slices)
    assert gpu.main(["--dry"]) == 1
    said = capsys.readouterr().out
    assert "idle: failed before CUDA: NeverCalled" in said and "wrong: failed before CUDA: ValueError" in said
    assert "1 of 3 slices" in said and "failed: ['idle', 'wrong']" in said
    assert not torch.cuda.is_available()


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

    def in_turns(wanted, seconds, known, at_once):
        assert known["estimates"] == {"a preset": 1.5}
        for one in wanted:
            runs.append(one.name)
            row = Row("a step", 12.5, "ms", "another", 25.0, "<= 20 ms", True)
            yield one.name, {"rows": [] if left_out(one) else [vars(row)], "why": left_out(one), "seconds": 1.0}

    monkeypatch.setattr(gpu, "in_turns", in_turns)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda card: SimpleNamespace(total_memory=16e9))
    (tmp_path / "gpu.json").write_text(json.dumps({"estimates": {"a preset": 1.5}}))
    assert gpu.main(["--page", str(tmp_path / "gpu.md")]) == 0
    page = (tmp_path / "gpu.md").read_text()
    assert page.startswith("# On a card: Tesla T4")
    assert "| a step | 12.5 ms | 25 ms (another) | <= 20 ms met |  |" in page
    assert "no_such_package is not installed" in page and "it needs 2 cards, and there is 1" in page
    gpu.main(["--page", str(tmp_path / "gpu.md")])
    assert runs == ["good", "bare", "pair", "bare", "pair"], "what is measured is kept"


@pytest.mark.rehearse
def test_a_slice_that_fails_says_why_and_the_others_go_on() -> None:
    slices = [Slice(f"no such slice {number}", (), list, timed=number > 1) for number in range(3)]
    parts = dict(in_turns([*slices, Slice("bare", ("no_such_package",), list)], 120, {}, at_once=2))
    assert list(parts)[0] == "bare" and parts["bare"]["why"].startswith("left out: no_such_package")
    for one in slices:
        assert parts[one.name]["why"].startswith("failed: StopIteration"), parts


def test_a_slice_that_does_not_end_is_ended() -> None:
    ((_, part),) = in_turns([Slice("no such slice", (), list)], 0.0, {}, at_once=1)
    assert part["rows"] == [] and part["why"].startswith("failed: ")


def test_what_runs_beside_a_slice_ends_with_an_interrupt() -> None:
    before = set(multiprocessing.active_children())
    turns = in_turns(
        [Slice(f"no such slice {number}", (), list, timed=False) for number in range(4)], 0.0, {}, at_once=2
    )
    next(turns)
    assert set(multiprocessing.active_children()) - before
    turns.close()
    assert not set(multiprocessing.active_children()) - before


def test_the_steps_that_were_asked_for_are_those_that_run(monkeypatch) -> None:
    class Asked(Exception):
        pass

    def drawn(batches, steps):
        raise Asked(steps)

    monkeypatch.setattr(steps, "Drawn", drawn)
    monkeypatch.setattr(steps, "STEPS", 7)  # as a slice's process does with --steps
    preset = SimpleNamespace(make=lambda: (torch.nn.Linear(1, 1), lambda size: torch.zeros(size)), batch_size=2)
    with pytest.raises(Asked, match="^7$"):
        steps.preset_rows(preset, 1.0)


def test_estimates_are_kept_for_a_machine_with_a_card(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    assert gpu.main(["--estimate", "--only", "bandvar_tokenizer", "--page", str(page)]) == 0
    (found,) = json.loads(page.with_suffix(".json").read_text())["estimates"].values()
    assert 0.1 < found < 1.0
