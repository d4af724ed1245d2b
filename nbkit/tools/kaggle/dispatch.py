"""Dispatch: look at the store and at Kaggle, push what can go on, write down why.

Unattended from Kaggle's own schedule, from cron or from CI. Each look leaves one decision,
``dispatcher/decisions/<time>-<id>.json``, written once; nothing else is remembered between two looks.
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
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.store.protocol import Store
from nbkit.tools.kaggle.client import Kaggle, connect
from nbkit.tools.kaggle.decision import ROOM, Choice, Work, decide
from nbkit.tools.kaggle.push import PushRefused, push_phase, reachable, read_metadata
from nbkit.tools.kaggle.quota import Hours, Quota, read_quota
from nbkit.tools.kaggle.runs import Push, Run, read_pushes, read_run
from nbkit.tools.phases import Phase, find_phase, load_phases
from nbkit.tools.status.listing import list_once
from nbkit.tools.status.status import PhaseStatus, read_phase

FIRST = 10  # below this number are nbkit's own pages, which nobody's work waits for
_LATER = ("session count", "quota")


@dataclass(frozen=True)
class Decision:
    """Say what one look decided and did.

    Attributes
    ----------
    time : float
        Unix time.
    choices : tuple of Choice
        Verbs as planned; ``pushed``, ``waits`` or ``failed`` where a push was tried.
    dry_run : bool
        True where nothing was pushed or written.
    """

    time: float
    store: str
    quota: Quota
    choices: tuple[Choice, ...]
    dry_run: bool

    @property
    def failed(self) -> bool:
        """True where a push failed for another cause than a limit that passes."""
        return any(choice.verb == "failed" for choice in self.choices)

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "time": self.time, "store": self.store, "dry_run": self.dry_run, "quota": self.quota.row(),
            "choices": [choice.row() for choice in self.choices],
        }  # fmt: skip

    def words(self) -> str:
        """Lay it out for reading."""
        width = max((len(choice.slug) for choice in self.choices), default=0)
        head = "would do (nothing was pushed or written)" if self.dry_run else "decided"
        lines = [self.quota.words(), f"{head}:"]
        lines += [f"  {choice.verb:<6}  {choice.slug:<{width}}  {choice.reason}" for choice in self.choices]
        return "\n".join(lines)


def dispatch(
    kaggle: Kaggle,
    store: Store,
    slugs: list[str] | None = None,
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
) -> Decision:
    """Look, decide, push and write down.

    Parameters
    ----------
    kaggle : Kaggle
    store : Store
        Holds all phases' work; one that Kaggle can reach.
    slugs : list of str or None
        Phases that may be pushed; all from number 10 on by default.
    dry_run : bool
        True to push and write nothing.
    clock : callable

    Returns
    -------
    decision : Decision

    Raises
    ------
    UsageError
        For an unknown phase, or a store that Kaggle cannot reach.
    KaggleError
        Where the quota or the runs' states cannot be read: then nothing is pushed.
    """
    reachable(store.url)
    quota = read_quota(kaggle)
    work, progress, bound = look_at_phases(kaggle, store, slugs)
    choices = decide(work, gpu_hours(quota.gpu, bound))
    if not dry_run:
        choices = _push(kaggle, store, choices, progress, clock)
    decision = Decision(clock(), store.url, quota, tuple(choices), dry_run)
    if not dry_run:
        _record(store, decision)
    return decision


def look(store: Store, slugs: list[str] | None = None, dry_run: bool = False, smoke: bool = False) -> Decision:
    """Do what notebook 01 does: `dispatch` with this machine's login, or with `smoke` `preview`."""
    return preview(store, slugs) if smoke else dispatch(connect(), store, slugs, dry_run)


def preview(store: Store, slugs: list[str] | None = None) -> Decision:
    """Decide as at the start of a week with nothing at work, from the store alone: no account is needed."""
    quota = Quota(Hours(0.0, 0.0, 30.0), None)
    work, _, _ = look_at_phases(None, store, slugs)
    return Decision(time.time(), store.url, quota, tuple(decide(work, gpu_hours(quota.gpu, 0.0))), True)


def gpu_hours(quota: Hours | None, bound: float) -> float:
    """Return the hours that a new session may take.

    Parameters
    ----------
    quota : Hours or None
    bound : float
        Hours that our runs may take as long as they go on. They are counted in full: nothing says whether the time
        used holds that of sessions that have not ended.
    """
    return 0.0 if quota is None else max(0.0, quota.total - quota.used - max(quota.reserved, bound))


def look_at_phases(
    kaggle: Kaggle | None, store: Store, slugs: list[str] | None
) -> tuple[list[Work], dict[str, tuple[int, int]], float]:
    """Return what is known of each phase, (items done, step) of each, and the GPU hours bound by runs."""
    phases = [phase for phase in load_phases() if phase.number >= FIRST]
    for slug in slugs or ():
        find_phase(slug, tuple(phases))
    work, progress, bound = [], {}, 0.0
    listing = list_once(store)
    with tempfile.TemporaryDirectory(prefix="nbkit-dispatch-") as folder:
        for phase in phases:
            status = read_phase(listing, phase.slug, phase, Path(folder, phase.slug))
            pushes = read_pushes(listing, phase.slug)
            complete = status.state.startswith("complete")
            run = None
            if kaggle is not None and (pushes or not complete):
                run = read_run(kaggle, read_metadata(phase, kaggle.user)["id"])
            progress[phase.slug] = (status.done, status.step)
            seen = _work(phase, status, pushes, run, complete)
            work.append(replace(seen, wanted=not slugs or phase.slug in slugs))
            if seen.gpu and seen.busy:
                bound += pushes[-1].hours if pushes else phase.session_hours + ROOM
    return work, progress, bound


def _work(phase: Phase, status: PhaseStatus, pushes: list[Push], run: Run | None, complete: bool) -> Work:
    where = f"step {status.step} of {status.max_steps}" if status.max_steps else f"{status.done} items done"
    words = f"{status.state}, {where}" if status.state != "not begun" else "not begun"
    if run is not None and run.busy:
        words = f"{run.state}; in the store: {words}"
    elif run is not None and run.state == "error":
        words += f"; its last run failed{f' ({run.message})' if run.message else ''}"
    return Work(
        phase.slug, phase.number, phase.needs, phase.accelerator == "gpu", phase.session_hours, complete,
        run is not None and run.busy, fruitless_runs(pushes, (status.done, status.step)), True, words,
    )  # fmt: skip


def fruitless_runs(pushes: list[Push], now: tuple[int, int]) -> int:
    """Count the dispatcher's newest pushes since which nothing came into the store; a push by hand ends the count."""
    count = 0
    for push in reversed(pushes):
        if push.by != "dispatcher" or (push.done, push.step) != now:
            break
        count += 1
    return count


def _push(
    kaggle: Kaggle,
    store: Store,
    choices: list[Choice],
    progress: dict[str, tuple[int, int]],
    clock: Callable[[], float],
) -> list[Choice]:
    """Push what was chosen; what Kaggle does not take waits for the next look."""
    done, full = [], ""
    for choice in choices:
        if choice.verb != "push":
            done.append(choice)
            continue
        if choice.gpu and full:
            done.append(replace(choice, verb="waits", reason=f"Kaggle has just refused another: {full}"))
            continue
        try:
            run = read_run(kaggle, read_metadata(find_phase(choice.slug), kaggle.user)["id"])
            if run is not None and run.busy:
                done.append(replace(choice, verb="runs", reason="another dispatcher or a person has just pushed it"))
                continue
            told = f"{3600 * (choice.hours - min(ROOM, choice.hours / 4)):.0f}s"
            pushed = push_phase(
                kaggle, choice.slug, store, limit=told, by="dispatcher", progress=progress[choice.slug],
                hours=choice.hours, clock=clock,
            )  # fmt: skip
            done.append(replace(choice, verb="pushed", reason=f"{choice.reason}; {pushed.push.url}"))
        except NbkitError as error:  # one phase's fault must not keep the others from their turn
            later = isinstance(error, PushRefused) and any(part in str(error) for part in _LATER)
            full = str(error) if later else full
            done.append(replace(choice, verb="waits" if later else "failed", reason=str(error)))
    return done


def _record(store: Store, decision: Decision) -> None:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(decision.time))
    with tempfile.TemporaryDirectory(prefix="nbkit-dispatch-") as folder:
        path = Path(folder, "decision.json")
        write_json(path, decision.row())
        store.put(path, f"dispatcher/decisions/{stamp}-{uuid.uuid4().hex[:8]}.json")
