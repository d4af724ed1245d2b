"""`nbkit prove`: run a notebook up to its training, and prove that this resumes bit for bit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import UsageError
from nbkit.runtime.hosts import environment
from nbkit.runtime.journal import VARIABLE as JOURNAL
from nbkit.runtime.journal import of_kind, read_journal
from nbkit.runtime.store.address import show
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.training.proving.asked import VARIABLE
from nbkit.runtime.words import parse_duration
from nbkit.tools.notebooks import find_notebook
from nbkit.tools.parameters import notebook_parameters, refuse_options
from nbkit.tools.phases import Phase, load_phases
from nbkit.tools.rehearsal.running import DONE, FAILED, LEFT, run_notebook


def prove_notebook(
    notebook: str,
    params: Mapping[str, Any],
    store: str | None = None,
    full: bool = False,
    options: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> tuple[int, dict[str, Any]]:
    """Run a notebook so that its first `session.fit` is proved instead of trained.

    Parameters
    ----------
    notebook : str
        A path, a name or a phase's slug.
    params : mapping
        Values for its parameters.
    store : str or None
        Folder or URL to read the results of other phases from; nothing is written to it. With None, the phases that the
        notebook needs are run first, at small sizes, in a temporary store.
    full : bool
        True for the notebook's own sizes instead of the small ones; then None means NBKIT_STORE or ``./nbkit-store``.
    options : mapping or None
        ``steps``, ``stops``, ``seed`` and ``limit`` of `nbkit.runtime.training.proving.proof.prove`.
    say : callable
        Prints one line.

    Returns
    -------
    code, document : int, dict
        0 if exact, 1 if not, another code if the notebook did not reach its training; the proof's result.

    Raises
    ------
    UsageError
        If there is no such notebook, it trains nothing, or a phase that it needs fails.
    """
    path = find_notebook(notebook)
    refuse_options(params, {"STORE": "--store", "LIMIT": "--limit"})
    small = not full and "SMOKE" in notebook_parameters(path)
    parse_duration((options or {}).get("limit"))
    with tempfile.TemporaryDirectory(prefix="nbkit-prove-") as scratch:
        reads = store_address(store) if store is not None or not small else str(Path(scratch, "needs"))
        if small:
            _run_needs(path, reads, store is not None, Path(scratch), say)
        journal = Path(scratch, "journal.jsonl")
        told = {"folder": scratch, "reads": reads, "options": dict(options or {})}
        say(f"Running {path.name} up to its training, which is proved and not trained ...")
        with environment({VARIABLE: json.dumps(told), JOURNAL: str(journal)}):
            code = run_notebook(path, params, store=Path(scratch, "store"), smoke=small, quiet=True)
        proofs = of_kind(read_journal(journal), "proof")
    if proofs:
        document = {name: value for name, value in proofs[0].items() if name not in ("e", "t")}
        return (DONE if document["exact"] else FAILED), document
    if code in (DONE, LEFT):
        raise UsageError(
            f"{path.name} ended without a call of session.fit, so there is no training to prove. Name a notebook that "
            "trains, or call session.prove(module, data) in it. Nothing was written to your store."
        )
    return code, {}


def _run_needs(path: Path, store: str, given: bool, scratch: Path, say: Callable[[str], None]) -> None:
    """Run the phases that a notebook needs, small, unless the store that the user named has their results."""
    for phase in _needs_of(path):
        if given and any(True for _ in open_store(store).list(f"{phase.slug}/")):
            continue
        if given:
            raise UsageError(
                f"{path.name} needs the results of {phase.slug}, which {show(store)} does not have. Run "
                f"'nbkit run {phase.slug} --smoke --store {show(store)}' first, or leave --store out: then the phases "
                "that it needs are run in a temporary store. Nothing was written."
            )
        say(f"First, at small sizes: {phase.notebook}, which {path.name} needs ...")
        code = run_notebook(phase.notebook, store=store, smoke=True, folder=scratch / phase.slug, quiet=True)
        if code != DONE:
            raise UsageError(f"{phase.notebook}, which {path.name} needs, ended with exit code {code}; see above.")


def _needs_of(path: Path) -> list[Phase]:
    """Return all phases that a notebook needs, directly or not, in their order; none for a notebook of no phase."""
    phases = {phase.slug: phase for phase in load_phases()}
    own = next((phase for phase in phases.values() if phase.notebook == path.name), None)
    found: set[str] = set()
    waiting = list(own.needs) if own is not None else []
    while waiting:
        slug = waiting.pop()
        if slug not in found:
            found.add(slug)
            waiting += phases[slug].needs
    return [phase for phase in phases.values() if phase.slug in found]
