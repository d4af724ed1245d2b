"""The files of a new phase, created from its row in ``manifests/phases.toml``.

Only the row is written by hand; Kaggle's metadata, the badge and the notebook's frame are created from it. Existing
files are not changed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_atomically
from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.tools.kaggle.push import PLACEHOLDER
from nbkit.tools.phases import Phase, find_phase

_PATTERN = "00_start_here.ipynb"  # its set-up cell, which is the same in every notebook, is copied
_SET_UP = ("set-up-about", "set-up")
_BADGE = re.compile(r"^\| `(\d\d)_\w+` \|.*\n", re.MULTILINE)


def make_places(slug: str) -> str:
    """Create the files that a phase lacks in this checkout.

    Parameters
    ----------
    slug : str
        A phase that has a row in ``manifests/phases.toml``.

    Returns
    -------
    text : str
        A line for each file: what was created, what was there, and what is still to write by hand.

    Raises
    ------
    UsageError
        If it has no row, or nbkit is installed without its checkout.
    """
    phase, root = find_phase(slug), home()
    badges = root / "colab" / "README.md"
    if not badges.is_file():
        raise UsageError(f"{root} is not a checkout of nbkit. Clone nbkit and install it with -e. Nothing was created.")
    lines = []
    for path, made in (
        (root / "kaggle" / phase.kaggle_folder / "kernel-metadata.json", kaggle_metadata(phase)),
        (root / "notebooks" / phase.notebook, notebook_frame(phase, root)),
    ):
        lines.append(_write(path, root, json.dumps(made, indent=1 + (path.suffix == ".json"), ensure_ascii=False)))
    text = badges.read_text("utf-8")
    if f"notebooks/{phase.notebook}" in text:
        lines.append("there      colab/README.md: its badge")
    else:
        write_atomically(badges, lambda file: file.write(with_badge(text, phase).encode()))
        lines.append("made       colab/README.md: its badge")
    module = Path(*phase.module.split(".")).with_suffix(".py") if phase.module else None
    if module is not None:
        test = Path("tests", *module.parts[1:-1], f"test_{module.stem}.py")
        lines += _packages(root, module, test, phase)
        for path in (module, test):
            lines.append(f"{'there     ' if (root / path).is_file() else 'to write  '} {path}")
    own = "its cells between 'open' and 'close'" + (f", with the figures {_ticked(phase)}" if phase.figures else "")
    lines.append(f"to write   notebooks/{phase.notebook}: {own}")
    return "\n".join(lines)


def _packages(root: Path, module: Path, test: Path, phase: Phase) -> list[str]:
    """Create the packages of a new system."""
    words = f'"""{module.parts[-2].capitalize()}: {phase.title[0].lower()}{phase.title[1:]}."""\n'
    made = []
    for path, text in ((module.parent / "__init__.py", words), (test.parent / "__init__.py", "")):
        if not (root / path).exists():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, "utf-8")
            made.append(f"made       {path}")
    return made


def _write(path: Path, root: Path, text: str) -> str:
    if path.exists():
        return f"there      {path.relative_to(root)}"
    write_atomically(path, lambda file: file.write(f"{text}\n".encode()))
    return f"made       {path.relative_to(root)}"


def kaggle_metadata(phase: Phase) -> dict[str, Any]:
    """Return a phase's ``kernel-metadata.json``; the user who pushes it becomes its owner."""
    name = f"nbkit-{phase.kaggle_folder}"
    sources = {f"{kind}_sources": [] for kind in ("dataset", "competition", "kernel", "model")}
    return {
        "id": f"{PLACEHOLDER}/{name}", "title": name.replace("-", " "),
        "code_file": f"../../notebooks/{phase.notebook}", "language": "python", "kernel_type": "notebook",
        "is_private": True,
        "machine_shape": "NvidiaTeslaT4" if phase.accelerator == "gpu" else "", "enable_internet": True, **sources,
    }  # fmt: skip


def with_badge(text: str, phase: Phase) -> str:
    """Return the text of ``colab/README.md`` with a phase's row added in order."""
    badge, where = re.search(r"!\[Open in Colab\]\(([^)]+)\)\]\(([^)]+/notebooks/)", text).groups()
    link = f"[![Open in Colab]({badge})]({where}{phase.notebook})"
    row = f"| `{Path(phase.notebook).stem}` | {phase.title} | {phase.accelerator} | {link} |\n"
    before = [found.end() for found in _BADGE.finditer(text) if int(found[1]) < phase.number]
    at = max(before, default=text.index("\n", text.index("|---")) + 1)
    return text[:at] + row + text[at:]


def notebook_frame(phase: Phase, root: Path) -> dict[str, Any]:
    """Return a phase's notebook without its work: title card, set-up, parameters, session, close."""
    pattern = json.loads((root / "notebooks" / _PATTERN).read_text("utf-8"))
    cells = {cell["id"]: cell for cell in pattern["cells"]}
    needs = [find_phase(need).notebook.removesuffix(".ipynb") for need in phase.needs]
    hours = f"{phase.sessions} of {phase.session_hours:g} h"
    card = {"Needs": ", ".join(f"`{need}`" for need in needs) or "nothing", "Makes": "; ".join(phase.makes),
            "Sessions": hours, "Figures": _ticked(phase) or "none"}  # fmt: skip
    table = "\n".join(f"| **{name}** | {words} |" for name, words in card.items())
    parameters = [line for line in "".join(cells["parameters"]["source"]).split("\n") if not line.startswith("ITEM")]
    asked = ""
    if phase.accelerator != "cpu":
        words = "gpu, or cpu on purpose" if phase.accelerator == "gpu" else "gpu, cpu, or any"
        accelerator = f'ACCELERATOR = "{phase.accelerator}"'
        parameters.insert(-1, f"{accelerator:<24} # {words}")
        asked = ", accelerator=ACCELERATOR"
    opening = f'session = nbkit.open_session(\n    "{phase.slug}", store=STORE, limit=LIMIT, smoke=SMOKE{asked}\n)'
    return {
        **{name: pattern[name] for name in ("nbformat", "nbformat_minor", "metadata")},
        "cells": [
            _markdown("title", f"# {phase.number:02d} {phase.title}\n\n| | |\n|---|---|\n{table}"),
            *(cells[name] for name in _SET_UP),
            _markdown("parameters-about", "## Parameters\n\nLiterals only, a unit each."),
            _code("parameters", "\n".join(parameters), tags=["parameters"]),
            _markdown("open-about", "## Open the session"),
            _code("open", opening),
            _markdown("close-about", "## Close"),
            _code("close", "summary = session.close()"),
        ],
    }


def _ticked(phase: Phase) -> str:
    return ", ".join(f"`{figure}`" for figure in phase.figures)


def _markdown(name: str, text: str) -> dict[str, Any]:
    return {"id": name, "cell_type": "markdown", "source": text, "metadata": {}}


def _code(name: str, text: str, **metadata: Any) -> dict[str, Any]:
    empty = {"outputs": [], "execution_count": None}
    return {"id": name, "cell_type": "code", "metadata": metadata, "source": text, **empty}
