"""Scores of a phase, as a file in the store.

Every score has its trivial baseline or chance level beside it, and a run on stand-in data or random weights is labelled
as such in the same file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbkit.ground.files import read_json, write_json
from nbkit.runtime.disk import on_disk
from nbkit.runtime.errors import UsageError
from nbkit.runtime.results.rivals import is_known, judged
from nbkit.runtime.store.address import hide_in
from nbkit.runtime.store.protocol import Store


class Results:
    """Content of ``<slug>/results.json``.

    Parameters
    ----------
    slug : str
    store : Store
        Has the results of earlier sessions.
    folder : Path
        This session's own folder.
    unsent : bool
        Whether the file in the folder has scores of a killed session that are not yet in the store.
    """

    def __init__(self, slug: str, store: Store, folder: Path, unsent: bool = False) -> None:
        self.name = f"{slug}/results.json"
        self.path = folder / "results.json"
        self.content: dict[str, Any] = {"metrics": {}}
        fetched = folder / "results-stored.json"
        try:
            store.get(self.name, fetched)
        except FileNotFoundError:
            with on_disk(f"An old copy of {self.name} was not removed", folder):
                fetched.unlink(missing_ok=True)
        for path in (fetched, self.path) if unsent else (fetched,):
            if path.is_file():
                self._take_in(path, f"{self.name} in {store.url}" if path == fetched else str(path))

    def _take_in(self, path: Path, what: str) -> None:
        try:
            found = read_json(path)
            if not isinstance(found, dict) or not isinstance(found.setdefault("metrics", {}), dict):
                raise ValueError("it has another form")
            if (odd := _unprintable(found)) is not None:
                raise ValueError(f"the text {odd} in it cannot be shown")
        except ValueError as error:
            raise UsageError(
                f"{what} is not a valid results.json ({error}). Move it away and run again. Nothing was written."
            ) from None
        metrics = self.content["metrics"] | found["metrics"]
        self.content |= {**found, "metrics": metrics}

    def metric(
        self,
        name: str,
        value: float,
        unit: str,
        baseline: float,
        baseline_is: str,
        anchor: float | None = None,
        anchor_is: str | None = None,
        low: float | None = None,
        high: float | None = None,
        over: str = "",
        rivals: Sequence[Mapping[str, Any]] = (),
        lower_is_better: bool = False,
    ) -> None:
        """Add or replace one score; see `Showing.result`.

        Raises
        ------
        UsageError
            If a number is not finite, or the unit, the baseline's description or the anchor's source is missing.
        """
        value, baseline = _finite(value, f"value of {name!r}"), _finite(baseline, f"baseline of {name!r}")
        for what, text in (("unit", unit), ("baseline_is", baseline_is)):
            if not isinstance(text, str) or not text:
                raise UsageError(f"{name!r} needs {what}=, in words ('1' for a ratio). Nothing was written.")
        row: dict[str, Any] = {"value": value, "unit": unit, "baseline": baseline, "baseline_is": baseline_is}
        if anchor is not None or anchor_is is not None:
            if not isinstance(anchor_is, str) or not anchor_is:
                raise UsageError(
                    f"{name!r} has anchor={anchor!r} without its source. Add anchor_is=, who published it and where. "
                    "Nothing was written."
                )
            row |= {"anchor": _finite(anchor, f"anchor of {name!r}"), "anchor_is": anchor_is}
        if is_known(low) and is_known(high):
            if not over:
                raise UsageError(f"{name!r} has an interval without over=, such as '36 people'. Nothing was written.")
            row |= {"low": float(low or 0), "high": float(high or 0), "over": over}
        if rivals:
            row |= {"rivals": judged(name, rivals, lower_is_better)}
        if lower_is_better:
            row |= {"lower_is_better": True}
        _refuse_unprintable({name: row})
        self.content["metrics"][name] = row
        self.write()

    def note(self, facts: dict[str, str]) -> None:
        """Add labels of the scores, such as data="synthetic stand-in" or weights="random"."""
        for name, words in facts.items():
            if name == "metrics" or not isinstance(words, str):
                raise UsageError(
                    f"The note {name}={words!r} is not valid. A note is text under a name other than 'metrics'."
                )
        _refuse_unprintable(facts)
        self.content.update(facts)
        self.write()

    def write(self) -> None:
        """Write the file to this session's folder."""
        with on_disk(f"{self.name} was not written", self.path.parent):
            write_json(self.path, hide_in(self.content, ""))


def _refuse_unprintable(given: dict[str, Any]) -> None:
    odd = _unprintable(given)
    if odd is not None:
        raise UsageError(
            f"The text {odd} holds characters that cannot be shown, such as those that steer a terminal. Allowed are "
            "printable characters, line breaks and tabs. Nothing was written."
        )


def _unprintable(value: Any) -> str | None:
    """Return the first text in a JSON value that steers a terminal or cannot be encoded, or None."""
    level = [value]
    while level:
        for text in level:
            if isinstance(text, str) and not text.replace("\n", "").replace("\t", "").isprintable():
                return repr(text[:40])
        inner = ([*one, *one.values()] if isinstance(one, dict) else one for one in level)
        level = [one for some in inner if isinstance(some, list | tuple) for one in some]
    return None


def _finite(number: Any, what: str) -> float:
    number = number.item() if hasattr(number, "item") and getattr(number, "ndim", 0) == 0 else number
    if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
        raise UsageError(f"The {what} is {number!r}; it must be a finite number. Nothing was written.")
    return float(number)
