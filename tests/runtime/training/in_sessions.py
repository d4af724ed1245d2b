"""One training in one session and in several: the same checkpoint and the same weights, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch

from nbkit.runtime.training.fit import fit
from tests.runtime.training.training_support import FakeSession, StopAt, checkpoint_of, digest


def assert_the_same_in_sessions(
    make: Callable[[str], tuple[lightning.LightningModule, Any]],
    folder: Path,
    steps: int,
    stops: Sequence[int],
    check: int = 4,
    monitor: str | None = None,
) -> tuple[lightning.LightningModule, dict[str, Any]]:
    """Train in one session and in sessions that stop after some steps, each with a store of its own; compare.

    The complete training is then called once more: nothing is trained, and the weights are the same again.

    Parameters
    ----------
    make : callable
        Returns a new module and its data, for the training called "whole" or the one called "parts".
    folder : Path
    steps, check : int
        Optimizer steps of the training and between two validations.
    stops : sequence of int
        Steps at which a session of the second training is asked to stop.
    monitor : str or None

    Returns
    -------
    module : LightningModule
        Of the training in one session.
    checkpoint : dict
        The last one of the training in several.
    """
    more = {} if monitor is None else {"monitor": monitor}

    def session(name: str, stop: int | None = None) -> tuple[Any, lightning.LightningModule]:
        running = FakeSession(folder / name, store=folder / f"{name}-store")
        module, data = make(name)
        callbacks = [StopAt(running, stop)] if stop else []
        report = fit(running, module, data, max_steps=steps, val_check_interval=check, callbacks=callbacks, **more)
        assert not [line for line in running.said if "checkpoint cannot" in line]
        return report, module

    whole, first = session("whole")
    reports = [session("parts", stop)[0] for stop in stops]
    rest, second = session("parts")
    assert whole.complete and rest.complete and not any(report.complete for report in reports)
    assert [report.step for report in reports] == list(stops) and rest.resumed_from == stops[-1]
    checkpoint = checkpoint_of(folder / "parts")
    assert digest(checkpoint) == digest(checkpoint_of(folder / "whole"))
    once_more, third = session("parts")
    assert once_more.complete and once_more.step == once_more.resumed_from == steps
    for theirs in (second.state_dict(), third.state_dict()):
        assert all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())
    return first, checkpoint
