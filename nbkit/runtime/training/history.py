"""Logged metrics, stored inside the checkpoint.

The rows of a resumed training equal those of an uninterrupted one: rows that were logged after the last save are lost
with the session and logged again, so each row appears once.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from nbkit.ground.files import write_atomically


class History(Logger):
    """Collect (step, name, value) triples as a Lightning logger.

    They are kept as columns, so that a copy for a checkpoint costs 20 bytes per row and no loop over Python objects.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, int] = {}
        self._steps, self._which, self._values = array("q"), array("i"), array("d")
        self._last: dict[str, float] = {}
        self.saved = 0
        """Entries that the newest checkpoint holds."""

    @property
    def name(self) -> str:
        return "history"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the settings are stored in the receipt."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add one row per metric; Lightning's own ``epoch`` is left out, because nbkit counts steps."""
        for name, value in metrics.items():
            if name != "epoch":
                self._steps.append(-1 if step is None else int(step))
                self._which.append(self._names.setdefault(name, len(self._names)))
                self._values.append(float(value))
                self._last[name] = float(value)

    def __len__(self) -> int:
        return len(self._steps)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield ``{"step": step, name: value, ...}`` in the order of logging, one row per call of the logger.

        `start` and `stop` count entries of one metric, as `saved` does.
        """
        names = list(self._names)
        row: dict[str, Any] = {}
        part = slice(start, stop)
        for step, which, value in zip(self._steps[part], self._which[part], self._values[part], strict=True):
            name = names[which]
            if row and (row["step"] != step or name in row):
                yield row
                row = {}
            row.setdefault("step", step)
            row[name] = value
        if row:
            yield row

    def latest(self) -> dict[str, float]:
        """Return the last value of every metric, without values that are not finite."""
        return {name: value for name, value in self._last.items() if math.isfinite(value)}

    def state_dict(self) -> dict[str, Any]:
        """Return the names and columns for a checkpoint; the tensors are copies."""
        import torch

        def column(values: array, dtype: torch.dtype) -> torch.Tensor:
            return torch.frombuffer(values, dtype=dtype).clone() if values else torch.empty(0, dtype=dtype)

        self.saved = len(self)
        return {
            "names": list(self._names),
            "step": column(self._steps, torch.int64),
            "name": column(self._which, torch.int32),
            "value": column(self._values, torch.float64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all rows with those of a checkpoint."""
        self._names = {name: i for i, name in enumerate(state["names"])}
        self._steps = array("q", state["step"].tolist())
        self._which = array("i", state["name"].tolist())
        self._values = array("d", state["value"].tolist())
        names = list(self._names)
        self._last = {names[which]: value for which, value in zip(self._which, self._values, strict=True)}
        self.saved = len(self)

    def write(self, path: Path) -> None:
        """Write the rows atomically as JSON lines; NaN and infinity become null."""
        lines = ({name: value if math.isfinite(value) else None for name, value in row.items()} for row in self.rows())
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        write_atomically(path, lambda file: file.write(text.encode("utf-8")))
