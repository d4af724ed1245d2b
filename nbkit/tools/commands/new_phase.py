"""The files of a new phase, created from its row in ``manifests/phases.toml``.

Only the row is written by hand; Kaggle's metadata, the badge and the notebook's frame are created from it. Existing
files are not changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat

from nbkit.ground.files import write_atomically
from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.tools.commands.badges import kernel_id, with_badge
from nbkit.tools.commands.given_cells import read_cells
from nbkit.tools.phases import Phase, find_phase, load_owner, load_phases

_PATTERN = "00_start_here.ipynb"  # its set-up cell, which is the same in every notebook, is copied
_SET_UP = ("set-up-about", "set-up")


def make_places(slug: str, cells: str | None = None) -> str:
    """Create the files that a phase lacks in this checkout.

    Parameters
    ----------
    slug : str
        A phase that has a row in ``manifests/phases.toml``.
    cells : str or None
        File of the notebook's own cells, see `read_cells`.

    Returns
    -------
    text : str
        A line for each file: what was created, what was there, and what is still to write by hand.

    Raises
    ------
    UsageError
        If it has no row, nbkit is installed without its checkout, or there are cells that cannot be used.
    """
    phase, root = find_phase(slug), _checkout()
    frame = notebook_frame(phase, root)
    if cells is not None:
        if (root / "notebooks" / phase.notebook).exists():
            raise UsageError(
                f"notebooks/{phase.notebook} is there already, and the cells of a file go into a new notebook only. "
                "Write them into it, or move it away first. Nothing was created."
            )
        own = read_cells(cells, tuple(cell["id"] for cell in frame["cells"]))
        at = [cell["id"] for cell in frame["cells"]].index("close-about")
        made = {"markdown": _markdown, "code": _code}
        frame["cells"][at:at] = [made[kind](name, text) for name, kind, text in own]
    owner = load_owner(root / "manifests" / "phases.toml")
    badges = root / "colab" / "README.md"
    text = nbformat.writes(nbformat.from_dict(frame)) + "\n"
    lines = [
        _write(metadata_path(phase, root), root, kaggle_metadata(phase, root, owner)),
        _write(root / "notebooks" / phase.notebook, root, text),
    ]
    text = badges.read_text("utf-8")
    if f"notebooks/{phase.notebook}" in text:
        lines.append("there      colab/README.md: its badge")
    else:
        write_atomically(
            badges,
            lambda file: file.write(with_badge(text, phase, owner).encode()),
        )
        lines.append("made       colab/README.md: its badge")
    module = Path(*phase.module.split(".")).with_suffix(".py") if phase.module else None
    if module is not None:
        test = Path("tests", *module.parts[1:-1], f"test_{module.stem}.py")
        lines += _packages(root, module, test, phase)
        for path in (module, test):
            lines.append(f"{'there     ' if (root / path).is_file() else 'to write  '} {path}")
    if cells is not None:
        return "\n".join(lines)
    missing = "its cells between 'open' and 'close'" + (f", with the figures {_ticked(phase)}" if phase.figures else "")
    lines.append(f"to write   notebooks/{phase.notebook}: {missing}")
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
    write_atomically(path, lambda file: file.write(text.encode()))
    return f"made       {path.relative_to(root)}"


def kaggle_metadata(phase: Phase, root: Path, owner: str = "") -> str:
    """Return the text of a phase's ``kernel-metadata.json``.

    All of it follows from the phase's row and the owner, except the sources, which a person attaches: those of the
    existing file are kept.
    """
    name, path = f"nbkit-{phase.kaggle_folder}", metadata_path(phase, root)
    sources: dict[str, list[str]] = {f"{kind}_sources": [] for kind in ("dataset", "competition", "kernel", "model")}
    if path.is_file():
        try:
            old = json.loads(path.read_text("utf-8"))
            sources = {kind: list(old.get(kind, [])) for kind in sources}
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise UsageError(
                f"{path} is not a JSON object with lists of sources: {error}. Correct or delete it, then run the "
                "command again. It was left as it is."
            ) from None
    metadata = {
        "id": kernel_id(phase, owner), "title": name.replace("-", " "),
        "code_file": f"../../notebooks/{phase.notebook}", "language": "python", "kernel_type": "notebook",
        "is_private": True,
        "machine_shape": "NvidiaTeslaT4" if phase.accelerator == "gpu" else "", "enable_internet": True, **sources,
    }  # fmt: skip
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"


def metadata_path(phase: Phase, root: Path) -> Path:
    """Return where a phase's ``kernel-metadata.json`` lies in a checkout."""
    return root / "kaggle" / phase.kaggle_folder / "kernel-metadata.json"


def write_all_metadata() -> str:
    """Write every phase's ``kernel-metadata.json`` from its row in ``manifests/phases.toml``; return what changed.

    Raises
    ------
    UsageError
        Where nbkit is installed without its checkout, or a file that is there is no JSON.
    """
    root = _checkout()
    owner = load_owner(root / "manifests" / "phases.toml")
    texts = {metadata_path(phase, root): kaggle_metadata(phase, root, owner) for phase in load_phases()}
    changed = [path for path, text in texts.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        write_atomically(path, lambda file, path=path: file.write(texts[path].encode()))
    lines = [f"written    {path.relative_to(root)}" for path in changed]
    return "\n".join([*lines, f"{len(texts)} phases; {len(changed)} kernel-metadata.json files were not up to date."])


def _checkout() -> Path:
    root = home()
    if not (root / "colab" / "README.md").is_file():
        raise UsageError(f"{root} is not a checkout of nbkit. Clone nbkit and install it with -e. Nothing was created.")
    return root


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
        parameters.insert(-1, f'ACCELERATOR = "{phase.accelerator}"  # {words}')
        words = "exact; accept: changed settings or data, too; fresh, fresh-2: start again beside the old"
        parameters.insert(-1, f'RESUME = "exact"  # {words}')
        asked = ", accelerator=ACCELERATOR, resume=RESUME"
    arguments = f'"{phase.slug}", store=STORE, limit=LIMIT, smoke=SMOKE{asked}'
    opening = f"session = nbkit.open_session({arguments})"
    if len(opening) > 120:  # as ruff formats it
        opening = f"session = nbkit.open_session(\n    {arguments}\n)"
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
    return {"id": name, "cell_type": "markdown", "source": text.splitlines(True), "metadata": {}}


def _code(name: str, text: str, **metadata: Any) -> dict[str, Any]:
    empty = {"outputs": [], "execution_count": None}
    return {"id": name, "cell_type": "code", "metadata": metadata, "source": text.splitlines(True), **empty}
