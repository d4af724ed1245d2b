"""Every training of the repository under `nbkit prove`, small, from an empty store onwards.

A proof promises at most two minutes. The phases that a notebook needs run before it in the same store.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from pathlib import Path

from nbkit.runtime.errors import NbkitError
from nbkit.tools.commands.proving import prove_notebook
from nbkit.tools.phases import load_phases
from nbkit.tools.rehearsal.running import run_notebook
from tests.bench.rows import Row

SECONDS = 120.0
QUICK = ("bandvar_train",)


def training_notebooks() -> list[str]:
    """Return the slugs of the phases whose notebooks call session.fit, in their order."""
    folder = Path(__file__).parents[2] / "notebooks"
    return [phase.slug for phase in load_phases() if "session.fit(" in (folder / phase.notebook).read_text("utf-8")]


def run(quick: bool, store: str | None = None, only: tuple[str, ...] = ()) -> list[Row]:
    """Run the phases that others need, and prove each training when its inputs are there."""
    rows, chosen = [], only or (QUICK if quick else tuple(training_notebooks()))
    phases = load_phases()
    needed = {need for phase in phases if phase.slug in chosen for need in phase.needs}
    for _ in phases:
        needed |= {need for phase in phases if phase.slug in needed for need in phase.needs}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(store or folder, "store")
        for phase in phases:
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                if phase.slug in chosen:
                    rows.append(_prove(phase.slug, str(kept)))
                if phase.slug in needed and not (kept / phase.slug).is_dir():
                    run_notebook(phase.notebook, store=kept, smoke=True, folder=Path(folder, phase.slug), quiet=True)
    return rows


def _prove(slug: str, store: str) -> Row:
    began = time.perf_counter()
    try:
        _, found = prove_notebook(slug, {}, store=store)
    except NbkitError as error:
        found = {"exact": False, "words": str(error)}
    whole = time.perf_counter() - began
    seconds = found.get("seconds", whole)
    note = f"{whole:.0f} s with its notebook; {found.get('words', 'the notebook failed')}"[:400]
    met = bool(found.get("exact")) and seconds < SECONDS
    return Row(f"prove {slug}", seconds, "s", target=f"exact, < {SECONDS:.0f} s", met=met, note=note)
