"""The commands push, pull, log, quota and dispatch: phases on Kaggle and Colab."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nbkit.runtime.errors import UsageError
from nbkit.tools.commands.options import (
    AcceptOption,
    FreshOption,
    JsonOption,
    ParameterOption,
    SlugArgument,
    SlugsArgument,
    StoreOption,
    opened,
    resume_of,
    show,
)

HostOption = Annotated[str, typer.Option(metavar="kaggle|colab", help="where the phase runs")]
GpuOption = Annotated[str | None, typer.Option(metavar="T4", help="Colab: T4, L4, G4, A100 or H100; by default T4")]


def push(
    slug: SlugArgument,
    parameter: ParameterOption = None,
    store: StoreOption = None,
    host: HostOption = "kaggle",
    limit: Annotated[str | None, typer.Option(metavar="9h", help="length; by default the phase's own")] = None,
    gpu: GpuOption = None,
    hours: Annotated[float, typer.Option(help="Colab: hours of runtimes that it may use in all")] = 12.0,
    units: Annotated[float | None, typer.Option(help="Colab: compute units that it may use in all")] = None,
    shard: Annotated[str, typer.Option(metavar="2/5", help="part of the items, for parallel sessions")] = "",
    accept_changes: AcceptOption = False,
    fresh: FreshOption = False,
    by_dispatcher: Annotated[bool, typer.Option("--by-dispatcher", hidden=True)] = False,
    json_: JsonOption = False,
) -> int:
    """Push a phase's notebook to Kaggle, or bring it to completion on Colab, with wheel and credential.

    On Kaggle the push returns at once. On Colab it watches: a runtime that is lost is followed by another, until the
    phase is complete or the budget of --hours or --units is spent; exit code 3 if work is left.
    """
    from nbkit.runtime.store.opening import store_address
    from nbkit.tools.parameters import parse_parameters

    given, resume = parse_parameters(parameter or []), resume_of(accept_changes, fresh)
    if _checked(host) == "colab":
        from nbkit.tools.colab.push import Order

        order = Order(slug, given, gpu, limit, resume, "dispatcher" if by_dispatcher else "hand", shard)
        return _push_to_colab(order, store, hours, units, json_)
    if gpu is not None or units is not None:
        raise UsageError("--gpu and --units are for --host colab; Kaggle's GPU is that of the phase. Nothing was sent.")
    from nbkit.tools.handing_on import reachable
    from nbkit.tools.kaggle.client import connect
    from nbkit.tools.kaggle.push import push_phase
    from nbkit.tools.status.status import read_status

    address = reachable(store_address(store))
    (row,) = read_status(address, [slug])
    _name_open(row)
    given |= {"SHARD": shard} if shard else {}
    done = push_phase(connect(), slug, opened(address), given, limit, progress=(row.done, row.step), resume=resume)
    show(done.row(), json_, done.words())
    return 0


def _name_open(row: Any) -> None:
    """Print which sessions of the phase are open already; what is pushed runs beside them."""
    import sys

    from nbkit.runtime.beside.listening import what_follows
    from nbkit.tools.phases import find_phase

    for other in row.open_now:
        advice = what_follows(not find_phase(row.slug).items)
        print(f"note: a session of {row.slug} is open already: {other}. {advice}", file=sys.stderr)


def _push_to_colab(order: Any, store: str | None, hours: float, units: float | None, json_: bool) -> int:
    import signal
    import sys

    from nbkit.tools.colab.background import alone
    from nbkit.tools.colab.budget import Budget
    from nbkit.tools.colab.client import connect
    from nbkit.tools.colab.push import Supervisor
    from nbkit.tools.status.status import read_status

    def say(text: str) -> None:
        print(text, file=sys.stderr if json_ else sys.stdout, flush=True)

    def end(*_: object) -> None:
        raise KeyboardInterrupt  # so that the runtime is ended, too

    signal.signal(signal.SIGTERM, end)
    _name_open(*read_status(opened(store), [order.slug]))
    with alone(order.slug):
        outcome = Supervisor(connect(), opened(store), order, Budget(hours, units), say).run()
    show(outcome.row(), json_, outcome.words)
    return outcome.exit_code


def pull(
    slug: SlugArgument,
    to: Annotated[str | None, typer.Option(metavar="FOLDER", help="./nbkit-output/SLUG by default")] = None,
    host: HostOption = "kaggle",
    files: Annotated[
        list[str] | None, typer.Option("--files", metavar="PATTERN", help="only these, such as 'figures/*'")
    ] = None,
    store: StoreOption = None,
    json_: JsonOption = False,
) -> int:
    """Download the files and the log of a phase's last run on Kaggle, or what its runs on Colab stored."""
    folder = Path(to or f"nbkit-output/{slug}")
    if _checked(host) == "colab":
        from nbkit.tools.colab.pull import pull_stored

        stored = pull_stored(opened(store), slug, folder, files or ())
        show(stored.row(), json_, stored.words())
        return 0
    from nbkit.tools.kaggle.client import connect
    from nbkit.tools.kaggle.pull import pull_run
    from nbkit.tools.kaggle.push import read_metadata
    from nbkit.tools.phases import find_phase

    phase, kaggle = find_phase(slug), connect()
    pulled = pull_run(kaggle, read_metadata(phase, kaggle.user)["id"], folder, files or ())
    show(pulled.row(), json_, pulled.words())
    return 0


def log(
    slug: SlugArgument,
    host: HostOption = "kaggle",
    follow: Annotated[bool, typer.Option("--follow", help="show new lines until the run ends")] = False,
    store: StoreOption = None,
) -> int:
    """Show the log of a phase's last run; with --follow, go on until it ends."""
    from nbkit.tools.commands.following import follow_log

    if _checked(host) == "colab":
        from nbkit.tools.colab.background import is_pushed_from_here
        from nbkit.tools.colab.looking import read_log

        where, _ = read_log(opened(store), slug)
        print(f"{where}:")
        follow_log(lambda: read_log(opened(store), slug)[1], lambda: follow and is_pushed_from_here(slug))
        return 0
    from nbkit.tools.kaggle.client import connect
    from nbkit.tools.kaggle.pull import read_log as read_kaggle_log
    from nbkit.tools.kaggle.push import read_metadata
    from nbkit.tools.kaggle.runs import read_run
    from nbkit.tools.phases import find_phase

    phase, kaggle = find_phase(slug), connect()
    ref = read_metadata(phase, kaggle.user)["id"]

    def goes_on() -> bool:
        run = read_run(kaggle, ref) if follow else None
        return run is not None and run.busy

    follow_log(lambda: read_kaggle_log(kaggle, ref), goes_on)
    return 0


def quota(json_: JsonOption = False) -> int:
    """Show how much of this week's accelerator time is left on Kaggle."""
    from nbkit.tools.kaggle.client import connect
    from nbkit.tools.kaggle.quota import read_quota

    found = read_quota(connect())
    show(found.row(), json_, found.words())
    return 0


def dispatch(
    slugs: SlugsArgument = None,
    store: StoreOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the decision only; push and write nothing")] = False,
    colab_hours: Annotated[float, typer.Option(help="hours a week that Colab may take; 0: Kaggle alone")] = 0.0,
    colab_units: Annotated[float | None, typer.Option(help="compute units a week that Colab may take")] = None,
    gpu: GpuOption = None,
    json_: JsonOption = False,
) -> int:
    """Decide which phases continue now on Kaggle, and with --colab-hours on Colab; push them; record the reasons."""
    from nbkit.tools.dispatching.colab_plan import ColabPlan
    from nbkit.tools.dispatching.dispatch import dispatch as decide_and_push
    from nbkit.tools.kaggle.client import connect, has_credentials

    elsewhere = ColabPlan(colab_hours, colab_units, gpu or "T4") if colab_hours else None
    kaggle = None if elsewhere is not None and not has_credentials() else connect()
    decision = decide_and_push(kaggle, opened(store), slugs, dry_run, elsewhere=elsewhere)
    show(decision.row(), json_, decision.words())
    return 1 if decision.failed else 0


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (push, pull, log, quota, dispatch):
        app.command()(command)


def _checked(host: str) -> str:
    if host not in ("kaggle", "colab"):
        raise UsageError(f"There is no host {host!r}. Allowed are kaggle and colab. Nothing was begun.")
    return host
