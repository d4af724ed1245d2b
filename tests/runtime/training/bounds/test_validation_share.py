"""Validation on a share of the set: chosen once by time, random, the same in every later validation and session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.bounds.options import WHOLE, check_share
from nbkit.runtime.training.bounds.validation_share import FEWEST, ValidationBound
from nbkit.runtime.training.fit import fit
from nbkit.runtime.training.generations import Generations
from nbkit.runtime.training.ranks.ranks import Ranks
from tests.runtime.training.training_support import FakeSession, Points, Tiny, TinyData, run_child


class Clocked(Tiny):
    """A training batch takes 1 s and a validation batch 3 s of the session's clock; remembers what it validated."""

    def __init__(self, session: FakeSession, val_seconds: float = 3.0) -> None:
        super().__init__()
        self.__dict__["session"], self.val_seconds = session, val_seconds
        self.__dict__["seen"] = []

    def training_step(self, batch, batch_idx):
        self.session.now += 1.0
        return super().training_step(batch, batch_idx)

    def on_validation_start(self):
        self.seen.append([])

    def validation_step(self, batch, batch_idx):
        self.session.now += self.val_seconds
        self.seen[-1].append(batch[0])
        super().validation_step(batch, batch_idx)


class MuchToValidate(TinyData):
    def __init__(self) -> None:
        super().__init__(n=400)
        self.val_dataloader = lambda: DataLoader(Points(200), batch_size=2)


def session_of(folder: Path, stop: int | None, share: float | None, val_seconds: float = 3.0):
    session = FakeSession(folder, steps=10_000)
    module = Clocked(session, val_seconds)
    report = fit(
        session, module, MuchToValidate(), max_steps=stop, save_every=None, val_check_interval=50,
        val_time_share=share, monitor="val_loss",
    )  # fmt: skip
    return report, [torch.cat(pass_) for pass_ in module.seen], session.said


def test_the_share_is_chosen_by_time_and_kept_by_later_sessions(tmp_path: Path) -> None:
    def train():
        # 50 s of training between validations: 0.25 / 0.75 of them are 16.7 s, or six batches of 3 s
        first = session_of(tmp_path, 100, 0.25)
        # a machine on which validations are slow would choose fewer; it keeps the choice
        second = session_of(tmp_path, 200, 0.25, val_seconds=30.0)
        return first, second

    (report, passes, said), (later, later_passes, _) = run_child(train)
    assert report.chosen["val_batches"] in (6, 7), report.chosen
    assert later.chosen == report.chosen and later.resumed_from == 100
    assert any(f"Validations use {report.chosen['val_batches']} of 100 batches" in line for line in said)
    # what a module has seen is state, too: the second session's list begins with the first's
    every = [*passes, *later_passes]
    assert (len(passes), len(later_passes)) == (2, 4) and all(torch.equal(one, every[0]) for one in every)
    points = Points(200).x
    places = [int((points == row).all(1).nonzero()) for row in every[0]]
    assert len(set(places)) == len(places) == 2 * report.chosen["val_batches"]
    assert max(places) > 100 and places != sorted(places), "a random share of the set, not its beginning"


def test_a_validation_that_is_quick_enough_is_whole(tmp_path: Path) -> None:
    report, passes, said = run_child(session_of, tmp_path, 100, 0.25, 0.01)
    assert report.chosen["val_batches"] == 100 and all(len(one) == 200 for one in passes)
    assert not any("Validations use" in line for line in said)


def test_without_a_share_nothing_is_bounded(tmp_path: Path) -> None:
    report, passes, _ = run_child(session_of, tmp_path, 100, None)
    assert report.chosen == {} and torch.equal(passes[0], Points(200).x)


def test_the_receipts_hold_the_choice(tmp_path: Path) -> None:
    report = run_child(session_of, tmp_path, 100, 0.25)[0]
    found = run_child(lambda: Generations("tiny", tmp_path, None, None, print, print).open().newest()[0])
    assert found.chosen == report.chosen


def test_slow_batches_leave_the_fewest() -> None:
    now = [0.0]
    bound = ValidationBound(0.05, {}, lambda: now[0], Ranks(), print)
    bound.begin(0.001, 10)
    seen = 0
    while not bound.ends(seen, 50):
        seen, now[0] = seen + 1, now[0] + 100.0
    assert seen == FEWEST and bound.chosen == {"val_batches": FEWEST}


@pytest.mark.parametrize("share", [0, 1.0, 5, -0.1])
def test_a_share_that_is_none_is_refused(share: float, tmp_path: Path) -> None:
    def train() -> str:
        with pytest.raises(UsageError) as error:
            fit(FakeSession(tmp_path), Tiny(), TinyData(validation=True), max_steps=5, val_time_share=share)
        return str(error.value)

    assert f"val_time_share={share!r}" in run_child(train)


def test_a_variable_asks_for_whole_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_share(0.05) == 0.05
    monkeypatch.setenv(WHOLE, "whole")
    assert check_share(0.05) is None
    monkeypatch.setenv(WHOLE, "half")
    with pytest.raises(UsageError, match="may be 'whole'"):
        check_share(0.05)
