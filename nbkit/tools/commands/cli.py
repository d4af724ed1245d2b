"""The commands of nbkit, one function each.

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 stopped with work left. nbkit's own errors are printed as a
message; any other exception is a bug of nbkit and shows its traceback.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.tools.commands.hosts import add_commands
from nbkit.tools.commands.login import login
from nbkit.tools.commands.options import (
    AcceptOption,
    FreshOption,
    JsonOption,
    ParameterOption,
    SlugsArgument,
    SmokeOption,
    StoreOption,
    resume_of,
    show,
)

app = typer.Typer(
    name="nbkit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="One long, reliable run out of many short, free GPU sessions.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 stopped with work left.",
)

_NOWHERE = "The current folder was deleted. Change to one that exists (cd) and run again. Nothing was begun."
_INTERRUPTED = 130  # what typer makes of Ctrl-C


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    import click

    try:
        code = app(args=arguments, standalone_mode=False, prog_name="nbkit")
    except NbkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return 2
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not _has_folder():
            print(f"error: {_NOWHERE}", file=sys.stderr)
            return 2
        if not _is_typers(error):
            raise
        error.show()
        return 2
    if code == _INTERRUPTED:
        print("Stopped. What is in the store is kept; run the same command again to continue.", file=sys.stderr)
        return 3
    return int(code or 0)


def _has_folder() -> bool:
    """Return whether the folder that the command was started in still exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _is_typers(error: Exception) -> bool:
    """Return whether an error is typer's own copy of click's usage errors, which its newer versions have."""
    return hasattr(error, "show") and hasattr(error, "exit_code")


@app.command()
def check(store: StoreOption = None, json_: JsonOption = False) -> int:
    """Check this machine: host, GPU, precision, packages, store, disk; print how to correct each fault."""
    from nbkit.tools.commands.check import check_all, memory_rows, memory_words, words

    findings, memory = check_all(store), memory_rows()
    rows = [*(finding.row() for finding in findings), *memory]
    show(rows, json_, f"{words(findings)}\n\n{memory_words(memory)}")
    return 1 if any(finding.state == "fault" for finding in findings) else 0


@app.command("run")
def run_command(
    notebook: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="a path, or a name such as 00_start_here")],
    parameter: ParameterOption = None,
    store: StoreOption = None,
    limit: Annotated[str | None, typer.Option(metavar="9h", help="length of the session")] = None,
    smoke: SmokeOption = False,
    accept_changes: AcceptOption = False,
    fresh: FreshOption = False,
) -> int:
    """Run one session of a notebook here; its executed copy goes to the store."""
    from nbkit.tools.parameters import parse_parameters
    from nbkit.tools.rehearsal.running import run_notebook

    given, resume = parse_parameters(parameter or []), resume_of(accept_changes, fresh)
    return run_notebook(notebook, given, store=store, limit=limit, smoke=smoke, resume=resume)


@app.command()
def rehearse(
    notebooks: Annotated[
        list[str] | None, typer.Argument(metavar="NOTEBOOK...", help="paths or names, run in this order")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="every phase, each after those it needs")] = False,
    session: Annotated[str, typer.Option(metavar="20s", help="length of a session from its opening")] = "20s",
    longest: Annotated[
        str, typer.Option(metavar="10min", help="longest session, where start-up needs more time")
    ] = "10min",
    kill: Annotated[str, typer.Option(metavar="mixed|random|wall|work|none", help="how sessions end")] = "mixed",
    seed: Annotated[int, typer.Option(help="random seed of the times of the kills")] = 0,
    poison: Annotated[
        str | None, typer.Option(metavar="KEY", help="an item that takes its machine down each time it begins")
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="local|kaggle", help="folders, variables and runner to imitate")
    ] = "local",
    store: StoreOption = None,
    parameter: ParameterOption = None,
    smoke: SmokeOption = False,
    max_sessions: Annotated[int, typer.Option(min=1, help="sessions of one notebook at most")] = 200,
    json_: JsonOption = False,
) -> int:
    """Run notebooks in many short sessions that are killed and wiped until all is complete; then print a summary.

    random: SIGKILL at a random time in each session. wall: SIGKILL at a time limit that the session does not know.
    none: every session stops by itself. mixed: random kills and planned stops alternate. work: the same, with the kill
    at the first item or checkpoint. Sessions become longer if start-up leaves no time for work. With --host kaggle, the
    copy that a push would send is run as Kaggle runs it. The item of --poison is to be set aside after three such ends,
    and all others are to be done.
    """
    from nbkit.runtime.words import parse_duration
    from nbkit.tools.parameters import parse_parameters
    from nbkit.tools.rehearsal.live_line import LiveLine
    from nbkit.tools.rehearsal.rehearse import Script
    from nbkit.tools.rehearsal.rehearse import rehearse as play

    line = LiveLine(sys.stderr if json_ else sys.stdout)
    code, documents = play(
        notebooks or [],
        script=Script(parse_duration(session), kill, seed, parse_duration(longest), poison),
        store=store,
        parameters=parse_parameters(parameter or []),
        smoke=smoke,
        max_sessions=max_sessions,
        host=host,
        chain=all_,
        say=line.say,
        show=line.refresh,
    )
    if json_:
        print(json.dumps(documents, indent=1))
    return code


@app.command()
def prove(
    notebook: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="a path, or a name such as 40_bandvar_train")],
    parameter: ParameterOption = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="read other phases from it; nothing is written. Without: they are run small"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="the notebook's own sizes, not SMOKE")] = False,
    steps: Annotated[int, typer.Option(min=4, help="steps of the two trainings")] = 36,
    stops: Annotated[int, typer.Option(min=1, help="how often the second one is stopped; one stop is a kill")] = 6,
    seed: Annotated[int | None, typer.Option(help="where it is stopped; by default the session's seed")] = None,
    limit: Annotated[str, typer.Option(metavar="2min", help="longest time of the proof")] = "2min",
    json_: JsonOption = False,
) -> int:
    """Prove in two minutes that a notebook's training resumes bit for bit; name what differs first, and why.

    The notebook runs up to its first session.fit. Instead of the training, some steps are trained in one go and again
    with stops inside and between epochs, around validations and with a kill, each time in a fresh process. Weights,
    buffers, optimizer, schedulers, callbacks and metrics are compared bit for bit. Your store and folder are not
    written to. Exit code 0: exact. 1: not exact; the first tensor and step that differ, and the likeliest cause with
    its remedy, are printed.
    """
    from nbkit.tools.commands.proving import prove_notebook
    from nbkit.tools.parameters import parse_parameters

    options = {"steps": steps, "stops": stops, "seed": seed, "limit": limit}

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    code, found = prove_notebook(notebook, parse_parameters(parameter or []), store, full, options, say)
    if found:
        show(found, json_, found["words"])
    return code


@app.command()
def status(
    slugs: SlugsArgument = None,
    store: StoreOption = None,
    history: Annotated[bool, typer.Option("--history", help="list the sessions of each phase, too")] = False,
    done: Annotated[
        str | None, typer.Option(metavar="FILE", help='write the done items of one phase as {"key": "done"}')
    ] = None,
    json_: JsonOption = False,
) -> int:
    """Show the progress of every phase, its rate and the time that it still takes, and how full the store is."""
    from nbkit.tools.colab.looking import state_lines
    from nbkit.tools.kaggle.runs import state_words, states
    from nbkit.tools.status.listing import held_phases, list_once, user_cache
    from nbkit.tools.status.status import read_status, write_done
    from nbkit.tools.status.store_use import read_use
    from nbkit.tools.status.table import words

    listing = list_once(store, cache=user_cache())
    rows = read_status(listing, slugs)
    held_phases(listing)  # refuses what is no store
    use = read_use(listing)
    runs, note = states(listing, [row.slug for row in rows])
    on_colab = state_lines(listing, [row.slug for row in rows])
    written = [write_done(listing, slugs, Path(done), user_cache() / "segments")] if done else []
    text = "\n".join([words(rows, use, history), *written, *state_words(runs, note), *on_colab])
    phases = [{**row.row(), **({"run": runs[row.slug]} if row.slug in runs else {})} for row in rows]
    show({"store": use.row(), "phases": phases, "colab": on_colab}, json_, text)
    return 0


@app.command()
def report(
    slugs: SlugsArgument = None,
    store: StoreOption = None,
    out: Annotated[str, typer.Option(metavar="FILE", help="HTML file to write")] = "nbkit-report.html",
    json_: JsonOption = False,
) -> int:
    """Write one HTML page from the store: phases, sessions, curves, figures, and scores beside their baselines."""
    from nbkit.tools.report.page import write_report
    from nbkit.tools.status.listing import held_phases, list_once, user_cache

    listing = list_once(store, cache=user_cache())
    held_phases(listing)  # refuses what is no store
    written = write_report(listing, out, slugs)
    show(written.row(), json_, written.words())
    return 0


@app.command()
def verify(
    slugs: SlugsArgument = None,
    store: StoreOption = None,
    repair: Annotated[bool, typer.Option("--repair", help="make what is lost or damaged pending again")] = False,
    json_: JsonOption = False,
) -> int:
    """Read every output and checkpoint in the store and compare it with its record; exit 1 if one differs.

    With --repair, items of lost or damaged files are done again by the next session, and damaged checkpoints are set
    aside, so that training resumes from the one before; exit 3 if that dealt with all of them.
    """
    from nbkit.tools.status.verify import verify_store, words

    found = verify_store(store, slugs, repair)
    show(found.row(), json_, words(found, repair))
    if found.faults and not found.faults.keys() - found.repaired.keys():
        return 3
    return 1 if found.faults else 0


@app.command()
def results(
    data: Annotated[str, typer.Option(metavar="FOLDER", help="the recordings, a folder for each set")] = "data",
    store: Annotated[
        str, typer.Option(metavar="FOLDER", help="where all stores of it are kept")
    ] = "nbkit-results-store",
    docs: Annotated[str, typer.Option(metavar="FOLDER", help="where the page and its figures go")] = "docs",
    list_: Annotated[
        str | None, typer.Option("--list", metavar="FILE", help="what to run; by default manifests/results.toml")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="systems side by side, each on one thread")] = 2,
) -> int:
    """Run every system on real recordings by its notebooks, small, and write the page of results with its figures.

    Kill it at any time and run it again: it goes on from what its stores hold, and writes the same page. Sets of
    recordings that are not there are named on the page. Exit code 3: some were missing, so the page is not whole.
    """
    from nbkit.tools.results.making import make_results

    return make_results(data, store, docs, list_, workers)


app.add_typer(login, name="login")
add_commands(app)


@app.command()
def install(
    extras: Annotated[
        list[str] | None, typer.Argument(metavar="[EXTRA...]", help="such as drive, decoding, tribe")
    ] = None,
) -> int:
    """Install what this Python lacks of nbkit's requirements and of some extras; nothing that is there is replaced."""
    from nbkit.tools.commands.installing import main

    return main(extras or [])


@app.command()
def notebooks(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="where to put them")] = "my-notebooks",
) -> int:
    """Copy the notebooks into a folder of your own, to open and change them there; later copies overwrite nothing."""
    from nbkit.tools.commands.copied import copy_notebooks

    print(copy_notebooks(folder))
    return 0


@app.command()
def new(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="a phase with a row in manifests/phases.toml")] = "",
    all_: Annotated[
        bool, typer.Option("--all", help="write every phase's kaggle/*/kernel-metadata.json from its row")
    ] = False,
    cells: Annotated[
        str | None, typer.Option(metavar="FILE", help="the notebook's own cells; each begins with '# %% name'")
    ] = None,
) -> int:
    """Create the files of a new phase from its row in manifests/phases.toml, and print what is still to write."""
    from nbkit.tools.commands.new_phase import make_places, write_all_metadata

    if all_ == bool(slug) or all_ and cells:
        raise UsageError("Give either the slug of a new phase or --all, which updates the Kaggle metadata of all.")
    print(write_all_metadata() if all_ else make_places(slug, cells))
    return 0


for _command in app.registered_commands:  # the whole first sentence, folded: click would cut it at the window's width
    _command.short_help = " ".join((_command.callback.__doc__ or "").partition("\n\n")[0].split())
