"""Reading of the metrics that a training logged, as `History.write` wrote them."""

from __future__ import annotations

import math
from typing import Any

import msgspec


def read_rows(data: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the logged rows, and a sentence on each line that is none.

    Parameters
    ----------
    data : bytes
        Lines ``{"step": step, name: value, ...}``; a value is null where it was not finite.
    """
    rows, faults = [], []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            row = msgspec.json.decode(line, type=dict[str, int | float | None])
            values = [value for value in row.values() if value is not None]
            if type(row.get("step")) is not int or not all(abs(v) < 1e300 and math.isfinite(v) for v in values):
                raise ValueError("no step, or a value that is too large")
            rows.append(row)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            faults.append(f"line {number}: {error}")
    return rows, faults
