"""The results of a run: a document that grows file by file, and the machine that it was measured on.

A file's rows are in the document as soon as they exist, so a run that is ended goes on with ``--resume``. It names the
machine by what it can do, never by its name or its paths.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from tests.bench.rows import Row


def this_machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, memory, accelerator, Python and torch."""
    import psutil
    import torch

    cuda = torch.cuda.is_available()
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "accelerator": torch.cuda.get_device_name() if cuda else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


class Results:
    """Keep what was measured, in a file where one is named.

    Parameters
    ----------
    path : Path or None
    quick : bool
    resume : bool
        True to keep what the file holds of the same size. What another machine has measured is kept until it is
        measured again, and names that machine.
    """

    def __init__(self, path: Path | None, quick: bool, resume: bool) -> None:
        self.path, self.machine = path, this_machine()
        self.document: dict[str, Any] = {"machine": self.machine, "quick": quick, "parts": {}}
        if resume and path is not None and path.is_file():
            known = json.loads(path.read_text("utf-8"))
            if known["quick"] == quick:
                whole = {name: part for name, part in known["parts"].items() if not part["error"]}
                self.document = {**known, "parts": whole}
            else:
                print(f"{path} is of another size: everything is measured again")

    def __contains__(self, name: str) -> bool:
        part = self.document["parts"].get(name)
        return part is not None and part.get("machine", self.document["machine"]) == self.machine

    def add(self, name: str, title: str, seconds: float, rows: list[dict[str, Any]], error: str, load: float) -> None:
        """Add a file's rows, or what kept it from giving any."""
        self.document["parts"][name] = {
            "title": title, "seconds": round(seconds, 1), "load": round(load, 1), "date": date.today().isoformat(),
            "error": error, "rows": rows,
        }  # fmt: skip
        if self.machine != self.document["machine"]:
            self.document["parts"][name]["machine"] = self.machine
        if self.path is not None:
            temporary = self.path.with_suffix(".partial")
            temporary.write_text(json.dumps(self.document, indent=1, sort_keys=True) + "\n", "utf-8")
            temporary.replace(self.path)


def rows_of(document: dict[str, Any], names: list[str] | None = None) -> Iterator[Row]:
    """Yield all rows of a document; a file that failed is a row that says so."""
    for name, part in sorted(document["parts"].items()):
        if names is None or name in names:
            yield from (Row(**row) for row in part["rows"])
            if part["error"]:
                yield Row(f"{name}: failed", None, "", met=False, note=part["error"])
