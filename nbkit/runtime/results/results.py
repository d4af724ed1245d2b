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
from nbkit.runtime.results.rivals import as_float, judged, maybe, shortened
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
            found = read_results(path)
        except ValueError as error:
            way = f" 'nbkit verify {self.name.partition('/')[0]} --repair' sets it aside." if path != self.path else ""
            raise UsageError(
                f"{what} is not a valid results.json ({error}). Move it away and run again. Nothing was written.{way}"
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
            If a number is not finite, the name, the unit, the baseline's description or the anchor's source is missing,
            or the value is far outside its interval.
        """
        if not isinstance(name, str) or not name:
            raise UsageError(f"The name of a score is {name!r}; it must be text. Nothing was written.")
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
        ends = _interval(name, value, low, high)
        if ends is not None:
            if not isinstance(over, str) or not over:
                raise UsageError(
                    f"{name!r} has an interval without over= in words, such as '36 people'; it is {over!r}. Nothing "
                    "was written."
                )
            row |= {"low": ends[0], "high": ends[1], "over": over}
        if rivals := judged(name, rivals, lower_is_better):
            row |= {"rivals": rivals}
        if lower_is_better:
            row |= {"lower_is_better": True}
        _refuse_unprintable({name: row})
        self.content["metrics"][name] = hide_in(row, "")
        self.write()

    def note(self, facts: dict[str, str]) -> None:
        """Add labels of the scores, such as data="synthetic stand-in" or weights="random"."""
        for name, words in facts.items():
            if name == "metrics" or not isinstance(name, str) or not isinstance(words, str):
                raise UsageError(
                    f"The note {name}={words!r} is not valid. A note is text under a name other than 'metrics'."
                )
        _refuse_unprintable(facts)
        self.content.update(hide_in(facts, ""))
        self.write()

    def write(self) -> None:
        """Write the file to this session's folder."""
        with on_disk(f"{self.name} was not written", self.path.parent):
            write_json(self.path, hide_in(self.content, ""))


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of a results.json.

    Raises
    ------
    ValueError
        If it is no JSON, has another form, or holds a text that cannot be shown.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.setdefault("metrics", {}), dict):
        raise ValueError("it has another form")
    if (odd := _unprintable(found)) is not None:
        raise ValueError(f"the text {odd} in it cannot be shown")
    return found


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


def _interval(name: str, value: float, low: Any, high: Any) -> tuple[float, float] | None:
    """Return the ends of a score's interval; None where they are not known."""
    first, last = maybe(low, f"low of {name!r}"), maybe(high, f"high of {name!r}")
    if first is None and last is None:
        return None
    if first is None or last is None:
        raise UsageError(
            f"{name!r} has low={low!r} and high={high!r}: one end of an interval says nothing. Give both, or none. "
            "Nothing was written."
        )
    if first > last:
        raise UsageError(f"{name!r} has low={first}, which is above high={last}. Nothing was written.")
    # an interval by resampling may just leave out a skewed statistic's own value, and rounding may
    spare = last - first + 1e-6 * max(abs(first), abs(last))
    if not first - spare <= value <= last + spare:
        raise UsageError(
            f"{name!r} is {value}, which is far outside of its interval from {first} to {last}. See that all three "
            "have the same unit. Nothing was written."
        )
    return first, last


def _finite(number: Any, what: str) -> float:
    found = as_float(number)
    if not math.isfinite(found):
        raise UsageError(f"The {what} is {shortened(number)}; it must be a finite number. Nothing was written.")
    return found
