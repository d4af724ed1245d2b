"""Trainings in one go and in many sessions, for comparison bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbkit.runtime.training.fit import FitReport, fit
from tests.runtime.training.training_support import FakeSession, TinyData, checkpoint_of, digest

MOST = 60  # sessions


def one_session(
    folder: Path, module: Any, data: Any = None, *, steps: int | None = None, **options: Any
) -> tuple[FitReport, FakeSession]:
    """Train in one session of at most so many steps."""
    session = FakeSession(folder, steps=steps)
    options = {"max_steps": 30, "save_every": None, **options}
    return fit(session, module, data or TinyData(), **options), session


def in_sessions(
    folder: Path,
    module: Callable[[], Any],
    *,
    steps: int | None = None,
    data: Callable[[], Any] = TinyData,
    callbacks: Callable[[], list[Any]] = list,
    **options: Any,
) -> dict[str, Any]:
    """Train in sessions of so many steps until it is complete, and return the last checkpoint.

    Parameters
    ----------
    module, data, callbacks : callable
        Make what every session makes anew.
    steps : int or None
        Steps of a session; None for one session.
    """
    for _ in range(MOST):
        report, _ = one_session(folder, module(), data(), steps=steps, callbacks=callbacks(), **options)
        if report.complete:
            return checkpoint_of(folder)
    raise AssertionError(f"not complete after {MOST} sessions")


def assert_same(folder: Path, module: Callable[[], Any], *, steps: tuple[int, ...] = (4,), **options: Any) -> None:
    """Assert that sessions of several lengths give the bits of one session."""
    whole = in_sessions(folder / "whole", module, **options)
    for length in steps:
        parts = in_sessions(folder / f"every {length}", module, steps=length, **options)
        assert digest(parts) == digest(whole), f"sessions of {length} steps: {first_difference(whole, parts)}"


def first_difference(whole: dict[str, Any], parts: dict[str, Any]) -> str:
    """Return the first entry of two checkpoints that differs, by its path."""
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        if found := _difference(whole[part], parts[part], part):
            return found
    return _difference(whole["nbkit"]["history"], parts["nbkit"]["history"], "history") or "nothing"


def _difference(a: Any, b: Any, path: str) -> str:
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            return f"{path} has keys {list(a)} and {list(b)}"
        return next((found for key in a if (found := _difference(a[key], b[key], f"{path}.{key}"))), "")
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return f"{path} has {len(a)} and {len(b)} entries"
        pairs = enumerate(zip(a, b, strict=True))
        return next((found for i, (x, y) in pairs if (found := _difference(x, y, f"{path}[{i}]"))), "")
    same = a.equal(b) if hasattr(a, "equal") and hasattr(b, "equal") else a == b
    return "" if same else f"{path}: {a} and {b}"
