"""What a reader should see in a figure, taken from the notebook that draws it.

The words stand below the figure's cell there; they are kept in one place and read from it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from nbkit.ground.home import home
from nbkit.tools.phases import Phase

_DRAWS = re.compile(r"""session\.figure\(.*,\s*["']([\w-]+)["']\s*\)\s*$""", re.MULTILINE)


def captions_of(phase: Phase | None) -> dict[str, str]:
    """Give the words below each figure's cell, by the figure's name; empty where the notebook is not here.

    Parameters
    ----------
    phase : Phase or None
    """
    return _read(home() / "notebooks" / phase.notebook) if phase is not None else {}


@cache
def _read(path: Path) -> dict[str, str]:
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    found = {}
    for cell, after in zip(cells, cells[1:], strict=False):
        if cell.get("cell_type") == "code" and after.get("cell_type") == "markdown":
            words = [part for part in "".join(after["source"]).split("\n\n") if "You should see" in part]
            for name in _DRAWS.findall("".join(cell["source"])):
                found[name] = " ".join(" ".join(words).replace("**", "").replace("*", "").split())
    return found
