"""The command `nbkit results`: run the list, then write the page, its figures and the table of CPU times."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from nbkit.ground.files import make_folder, write_atomically
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.words import counted
from nbkit.tools.results.drawing import write_figures
from nbkit.tools.results.fetching import fetch
from nbkit.tools.results.listing import read_plan
from nbkit.tools.results.page import in_short, page_of, read_found, usage_table
from nbkit.tools.results.running import LEFT, Folders, missing_data, run_all


def make_results(
    data: str | Path,
    store: str | Path,
    docs: str | Path,
    list_: str | Path | None = None,
    workers: int = 2,
    say: Callable[[str], None] = print,
) -> int:
    """Bring all runs of the list to completion and write ``results.md``, ``results-run.tsv`` and ``figures/``.

    Parameters
    ----------
    data : str or path
        Folder of the recordings, with a folder for each set.
    store : str or path
        Folder of the stores; a later call goes on from what is in it.
    docs : str or path
        Folder of the page.
    list_ : str, path or None
        The list; by default ``manifests/results.toml``.
    workers : int
        Stores that are worked on side by side.
    say : callable
        Prints one line.

    Returns
    -------
    exit_code : int
        0, or 3 if data were missing.

    Raises
    ------
    UsageError
        If there is no folder of data, the list is wrong, or something complete was run with other parameters.
    NbkitError
        If a session failed.
    """
    folders = Folders(Path(os.path.realpath(data)), Path(os.path.realpath(store)))
    plan = read_plan(Path(list_) if list_ is not None else None)
    if not folders.data.is_dir():
        names = ", ".join(one.folder for one in plan.data)
        raise UsageError(
            f"There is no folder of recordings {folders.data}. Give one with --data; it holds a folder for each set: "
            f"{names}. {plan.path.name} says where each is from. Nothing was begun."
        )
    for one in plan.data:
        if one.url and not (folders.data / one.folder).is_dir():
            say(f"Downloading {one.folder} from {one.url} ...")
            try:
                fetch(one, folders.data)
            except NbkitError as error:
                say(str(error))
    lacking = {name for run in plan.runs for name in missing_data(plan, run, folders)}
    for name in sorted(lacking):
        say(f'Missing in {folders.data}: {name} Its rows will say "not run".')
    run_all(plan, folders, workers, say)
    found = read_found(plan, folders)
    target = Path(docs)
    make_folder(target / "figures")
    figures = write_figures(found, folders, target / "figures")
    write_atomically(target / "results-run.tsv", lambda file: file.write(usage_table(plan, folders).encode()))
    write_atomically(target / "results.md", lambda file: file.write(page_of(plan, found, figures).encode()))
    say(in_short(found))
    say(f"{target / 'results.md'}: {counted(sum(len(one.scores) for one in found), 'score')}, with figures.")
    return LEFT if lacking else 0
