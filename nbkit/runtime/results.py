"""Scores and figures of a phase, as files in the store.

No score stands without its trivial baseline or chance level, and a run on stand-in data or random weights says so in
the same file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import UsageError
from nbkit.runtime.files import read_json, write_json
from nbkit.runtime.store.protocol import Store


class Results:
    """Collect what ``<slug>/results.json`` holds.

    Parameters
    ----------
    slug : str
    store : Store
        Where results of earlier sessions are.
    folder : Path
        This session's own folder.
    """

    def __init__(self, slug: str, store: Store, folder: Path) -> None:
        self.name = f"{slug}/results.json"
        self.path = folder / "results.json"
        try:
            store.get(self.name, self.path)
            self.content: dict[str, Any] = read_json(self.path)
        except FileNotFoundError:
            self.content = {"metrics": {}}
        except ValueError as error:
            raise UsageError(
                f"{self.name} in {store.url} is no whole JSON file ({error}). Move it away; nothing was written."
            ) from None

    def metric(self, name: str, value: float, unit: str, baseline: float, baseline_is: str) -> None:
        """Add or replace one score.

        Raises
        ------
        UsageError
            For a score or baseline that is no finite number, or one without unit or a word on its baseline.
        """
        for what, number in (("value", value), ("baseline", baseline)):
            if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
                raise UsageError(f"the {what} of {name!r} is {number!r}; it must be a finite number. Nothing was written.")
        for what, text in (("unit", unit), ("baseline_is", baseline_is)):
            if not isinstance(text, str) or not text:
                raise UsageError(f"{name!r} needs {what}=, in words ('1' for a ratio). Nothing was written.")
        self.content["metrics"][name] = {
            "value": float(value), "unit": unit, "baseline": float(baseline), "baseline_is": baseline_is
        }  # fmt: skip
        self.write()

    def note(self, facts: dict[str, str]) -> None:
        """Say what the scores were made on, such as data="synthetic stand-in" or weights="random"."""
        self.content.update(facts)
        self.write()

    def write(self) -> None:
        """Write the file to this session's folder."""
        write_json(self.path, self.content)
