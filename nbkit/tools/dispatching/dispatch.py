"""Dispatcher: read the store and the hosts' state, push the phases that can continue, and record the reasons.

It runs unattended from Kaggle's own schedule, from cron or from CI; with a budget for Colab it plans over both hosts.
Each call writes one decision to ``dispatcher/decisions/<time>-<id>.json``. Nothing else is remembered between calls.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_json
from nbkit.ground.home import home
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.store.protocol import Store
from nbkit.tools.dispatching.colab_plan import ColabPlan
from nbkit.tools.dispatching.decision import ROOM, Choice, Work, decide
from nbkit.tools.dispatching.elsewhere import Room, spread
from nbkit.tools.handing_on import reachable
from nbkit.tools.kaggle.client import Kaggle, connect
from nbkit.tools.kaggle.push import PushRefused, push_phase, read_metadata
from nbkit.tools.kaggle.quota import Hours, Quota, read_quota
from nbkit.tools.kaggle.runs import Push, Run, read_pushes, read_run
from nbkit.tools.parameters import notebook_parameters
from nbkit.tools.phases import Phase, find_phase, load_phases
from nbkit.tools.status.listing import list_once
from nbkit.tools.status.status import PhaseStatus, read_phase

FIRST = 10  # phases with a lower number are nbkit's own notebooks, on which no other phase depends
_TEMPORARY = ("session count", "quota")  # texts of Kaggle's refusals that do not last


@dataclass(frozen=True)
class Decision:
    """Decision of one call of the dispatcher, and what it did.

    Attributes
    ----------
    time : float
        Unix time.
    store : str
        Address of the store.
    quota : Quota
    choices : tuple of Choice
        One for each phase. After a push was tried the verb is ``pushed``, ``waits`` or ``failed``.
    dry_run : bool
        True if nothing was pushed or written.
    room : Room or None
        What Colab had left; None where the plan was for Kaggle alone.
    """

    time: float
    store: str
    quota: Quota
    choices: tuple[Choice, ...]
    dry_run: bool
    room: Room | None = None

    @property
    def failed(self) -> bool:
        """Whether a push failed for another reason than a temporary limit."""
        return any(choice.verb == "failed" for choice in self.choices)

    def row(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        return {
            "time": self.time, "store": self.store, "dry_run": self.dry_run, "quota": self.quota.row(),
            "colab": self.room.row() if self.room else None,
            "choices": [choice.row() for choice in self.choices],
        }  # fmt: skip

    def words(self) -> str:
        """Return the decision as text."""
        width = max((len(choice.slug) for choice in self.choices), default=0)
        head = "decision (nothing was pushed or written)" if self.dry_run else "decision"
        lines = [self.quota.words(), *([self.room.text()] if self.room else []), f"{head}:"]
        for choice in self.choices:
            on = f" ({choice.host}{f', shard {choice.shard}' if choice.shard else ''})" if self.room else ""
            lines.append(f"  {choice.verb:<6}  {choice.slug:<{width}}  {choice.reason}{on}")
        return "\n".join(lines)


def dispatch(
    kaggle: Kaggle | None,
    store: Store,
    slugs: list[str] | None = None,
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
    elsewhere: ColabPlan | None = None,
) -> Decision:
    """Read the present state, decide, push, and record the decision in the store.

    Parameters
    ----------
    kaggle : Kaggle or None
        None plans for Colab alone.
    store : Store
        Store of all phases; the hosts must be able to reach it.
    slugs : list of str or None
        Phases that may be pushed; all from number 10 on by default.
    dry_run : bool
        True to push and write nothing.
    clock : callable
        Returns the Unix time.
    elsewhere : ColabPlan or None
        What Colab may take; None plans for Kaggle alone.

    Returns
    -------
    decision : Decision

    Raises
    ------
    UsageError
        If a phase is unknown or Kaggle cannot reach the store.
    KaggleError
        If the quota or the state of a run cannot be read; nothing is pushed then.
    """
    reachable(store.url)
    quota = read_quota(kaggle) if kaggle is not None else Quota(None, None)
    seen = look_at_phases(kaggle, store, slugs, elsewhere)
    choices = decide(seen.work, gpu_hours(quota.gpu, seen.bound))
    room = None
    if elsewhere is not None:
        room = elsewhere.room(seen.pushes, clock())
        choices = spread(seen.work, choices, room, kaggle is not None)
    if not dry_run:
        choices = _push(kaggle, store, choices, seen.progress, clock, elsewhere)
    decision = Decision(clock(), store.url, quota, tuple(choices), dry_run, room)
    if not dry_run:
        _record(store, decision)
    return decision


def look(store: Store, slugs: list[str] | None = None, dry_run: bool = False, smoke: bool = False) -> Decision:
    """Call `dispatch` with this machine's Kaggle login, or `preview` with `smoke`, and return the decision."""
    return preview(store, slugs) if smoke else dispatch(connect(), store, slugs, dry_run)


def preview(store: Store, slugs: list[str] | None = None) -> Decision:
    """Return the decision for a full week's quota and no runs, from the store alone; no Kaggle account is needed."""
    quota = Quota(Hours(0.0, 0.0, 30.0), None)
    work = look_at_phases(None, store, slugs).work
    return Decision(time.time(), store.url, quota, tuple(decide(work, gpu_hours(quota.gpu, 0.0))), True)


def gpu_hours(quota: Hours | None, bound: float) -> float:
    """Return the GPU hours that new sessions may take.

    Parameters
    ----------
    quota : Hours or None
        None for an account without a quota.
    bound : float
        Hours reserved by running sessions. They are counted in full, because Kaggle does not say whether the used time
        includes sessions that have not ended.
    """
    return 0.0 if quota is None else max(0.0, quota.total - quota.used - max(quota.reserved, bound))


@dataclass(frozen=True)
class Seen:
    """State of the phases.

    Attributes
    ----------
    work : list of Work
    progress : dict
        (items done, step) by slug.
    bound : float
        GPU hours that runs on Kaggle have reserved.
    pushes : list of Push
        Of all phases.
    """

    work: list[Work]
    progress: dict[str, tuple[int, int]]
    bound: float
    pushes: list[Push]


def look_at_phases(
    kaggle: Kaggle | None, store: Store, slugs: list[str] | None, elsewhere: ColabPlan | None = None
) -> Seen:
    """Return the state of the phases, in the store and on the hosts."""
    phases = [phase for phase in load_phases() if phase.number >= FIRST]
    for slug in slugs or ():
        find_phase(slug, tuple(phases))
    seen = Seen([], {}, 0.0, [])
    bound = 0.0
    listing = list_once(store)
    on_colab = elsewhere.busy(phases) if elsewhere is not None else set()
    with tempfile.TemporaryDirectory(prefix="nbkit-dispatch-") as folder:
        for phase in phases:
            status = read_phase(listing, phase.slug, phase, Path(folder, phase.slug))
            pushes = read_pushes(listing, phase.slug)
            seen.pushes.extend(pushes)
            complete = status.state.startswith("complete")
            run = None
            if kaggle is not None and (pushes or not complete):
                run = read_run(kaggle, read_metadata(phase, kaggle.user)["id"])
            seen.progress[phase.slug] = (status.done, status.step)
            one = _work(phase, status, pushes, run, complete)
            on_kaggle = [push for push in pushes if push.host == "kaggle"]
            if one.gpu and one.busy:
                bound += on_kaggle[-1].hours if on_kaggle else phase.session_hours + ROOM
            if phase.slug in on_colab:
                one = replace(one, busy=True, where="Kaggle and Colab" if one.busy else "Colab")
            seen.work.append(replace(one, wanted=not slugs or phase.slug in slugs))
    return replace(seen, bound=bound)


def _work(phase: Phase, status: PhaseStatus, pushes: list[Push], run: Run | None, complete: bool) -> Work:
    where = f"step {status.step} of {status.max_steps}" if status.max_steps else f"{status.done} items done"
    text = f"{status.state}, {where}" if status.state != "not begun" else "not begun"
    if run is not None and run.busy:
        text = f"{run.state}; in the store: {text}"
    elif run is not None and run.state == "error":
        text += f"; its last run failed{f' ({run.message})' if run.message else ''}"
    return Work(
        phase.slug, phase.number, phase.needs, phase.accelerator == "gpu", phase.session_hours, complete,
        run is not None and run.busy, fruitless_runs(pushes, (status.done, status.step)), True, text,
        phase.items and is_divisible(phase), status.sessions_left or 0,
        open_now="" if phase.items else "; ".join(status.open_now),
    )  # fmt: skip


def fruitless_runs(pushes: list[Push], now: tuple[int, int]) -> int:
    """Count the dispatcher's newest pushes without progress in the store; a push by hand ends the count."""
    count = 0
    for push in reversed([push for push in pushes if not push.lost]):
        if push.by != "dispatcher" or (push.done, push.step) != now:
            break
        count += 1
    return count


def is_divisible(phase: Phase) -> bool:
    """Return whether a phase's notebook takes a shard of its items."""
    notebook = home() / "notebooks" / phase.notebook
    return notebook.is_file() and "SHARD" in notebook_parameters(notebook)


def _push(
    kaggle: Kaggle | None,
    store: Store,
    choices: list[Choice],
    progress: dict[str, tuple[int, int]],
    clock: Callable[[], float],
    elsewhere: ColabPlan | None,
) -> list[Choice]:
    """Push the chosen phases; those that a host rejects for now wait for the next call."""
    done, full = [], ""
    for choice in choices:
        if choice.verb != "push":
            done.append(choice)
            continue
        if choice.gpu and full:
            done.append(replace(choice, verb="waits", reason=f"Kaggle has just rejected another push: {full}"))
            continue
        try:
            if choice.host == "colab" or kaggle is None:
                done.append(
                    replace(choice, verb="pushed", reason=f"{choice.reason}; {elsewhere.launch(choice, store)}")
                )
                continue
            run = read_run(kaggle, read_metadata(find_phase(choice.slug), kaggle.user)["id"])
            if run is not None and run.busy:
                done.append(replace(choice, verb="runs", reason="another dispatcher or a person has just pushed it"))
                continue
            limit = f"{3600 * (choice.hours - min(ROOM, choice.hours / 4)):.0f}s"
            given = {"SHARD": choice.shard} if choice.shard else {}
            pushed = push_phase(
                kaggle, choice.slug, store, given, limit=limit, by="dispatcher", progress=progress[choice.slug],
                hours=choice.hours, clock=clock,
            )  # fmt: skip
            done.append(replace(choice, verb="pushed", reason=f"{choice.reason}; {pushed.push.url}"))
        except NbkitError as error:  # an error of one phase must not prevent the other pushes
            later = isinstance(error, PushRefused) and any(part in str(error) for part in _TEMPORARY)
            full = str(error) if later else full
            done.append(replace(choice, verb="waits" if later else "failed", reason=str(error)))
    return done


def _record(store: Store, decision: Decision) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(decision.time))
    with tempfile.TemporaryDirectory(prefix="nbkit-dispatch-") as folder:
        path = Path(folder, "decision.json")
        write_json(path, decision.row())
        store.put(path, f"dispatcher/decisions/{stamp}-{uuid.uuid4().hex[:8]}.json")
