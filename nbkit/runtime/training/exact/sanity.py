"""What a sanity check changes before the training begins.

Lightning runs it only in the session that begins a training. What it has changed there is no part of what a later
session makes by itself, and is saved like what the training changes.
"""

from __future__ import annotations

from typing import Any

from nbkit.runtime.training.held.held import Held, _digest


class Sanity:
    """Compare what objects hold before and after a sanity check.

    Parameters
    ----------
    held : Held
    """

    def __init__(self, held: Held) -> None:
        self._held = held
        self._before: dict[str, tuple[bytes, Any]] | None = None

    def begin(self, trainer: Any) -> None:
        """Look at everything before the check."""
        self._before = self._look(trainer)

    def end(self, trainer: Any) -> None:
        """Have saved from now on what has changed since then; nothing where there was no check."""
        before, self._before = self._before, None
        if before is None:
            return
        for path, (now, value) in self._look(trainer).items():
            then, first = before.get(path, (b"", None))
            if now != then:
                self._held._live[path] = first is not value

    def _look(self, trainer: Any) -> dict[str, tuple[bytes, Any]]:
        walk = self._held._walk(trainer, None)
        return {place.path: (_digest(place), place.value) for place in walk.places if place.kind != "iterator"}
