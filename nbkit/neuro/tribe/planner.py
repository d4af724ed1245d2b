"""Plan the GPU hours, sessions, weeks of quota and storage of a training.

All results are computed from rates: rates measured on this machine, or the seed project's estimates, which the table
then marks as such. Prices and quotas are inputs; no price is built in. Second accounts, keep-alive scripts and demo
services used as an API violate the hosts' terms and are not planned for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nbkit.ground.fields import checked
from nbkit.neuro.tribe.stimuli.features import BYTES_PER_STEP, FEATURE_HZ
from nbkit.neuro.tribe.stimuli.segments import FUSION_DIM, N_VERTICES, TEACHER_TR

GB = 1e9


@checked
@dataclass(frozen=True)
class Rates:
    """Hours of stimulus processed per GPU hour; the defaults are the seed project's estimates for a T4.

    Attributes
    ----------
    teacher, features : float
        Inference of the teacher, and of the three backbones with speech recognition.
    pretrain, distill, fmri : float
        Training, for one pass.
    load_s : float
        Time to load the teacher in each session, in s.
    source : str
        Origin of the numbers.
    """

    teacher: float = 2.0
    features: float = 10.0
    pretrain: float = 1770 * 25 / 20
    distill: float = 320 * 10 / 5
    fmri: float = 270 * 10 / 10
    load_s: float = 45.0
    source: str = "estimates of the plan for a T4, not measured"

    def measured(self, seconds: Mapping[str, tuple[float, float]], source: str) -> Rates:
        """Return a copy with measured rates in place of estimates.

        Parameters
        ----------
        seconds : mapping of str to (stimulus seconds, machine seconds)
            For some of teacher, features, pretrain, distill, fmri.
        source : str
            Machine and method of the measurement.

        Raises
        ------
        ValueError
            If a step is unknown, or a time is not above 0.
        """
        known = ("teacher", "features", "pretrain", "distill", "fmri")
        for name, (stimulus, machine) in seconds.items():
            if name not in known:
                raise ValueError(f"Step {name!r} has no rate; the steps are {', '.join(known)}.")
            if not (stimulus > 0 and machine > 0):
                raise ValueError(f"Step {name}: {stimulus} s of stimulus in {machine} s; both must be above 0.")
        found = {name: stimulus / machine for name, (stimulus, machine) in seconds.items()}
        rest = [name for name in known if name not in found]
        said = f"{', '.join(found)} measured ({source})" + (f"; {', '.join(rest)} estimated" if rest else "")
        return replace(self, **found, source=said)


def measured_rates(seconds: Mapping[str, tuple[float, float]], source: str) -> Rates:
    """Return the plan's rates, with those measured of which anything was done (see `Rates.measured`)."""
    done = {name: pair for name, pair in seconds.items() if min(pair) > 0}
    return Rates().measured(done, source) if done else Rates()


@checked
@dataclass(frozen=True)
class Host:
    """Limits and price of a host.

    Attributes
    ----------
    name : str
    weekly_hours : float
        Quota of GPU hours per week.
    session_hours : float
        Longest session, in h; a tenth is kept for saving and uploads.
    price_per_hour : float or None
        Price of a GPU hour in any currency; None if there is none or it is unknown.
    gpus : int
        Number of GPUs that work in parallel.
    """

    name: str = "Kaggle"
    weekly_hours: float = 30.0
    session_hours: float = 9.0
    price_per_hour: float | None = None
    gpus: int = 1


@dataclass(frozen=True)
class Step:
    """One line of a plan: hours of stimulus, number of passes, and the rate that applies."""

    name: str
    rate: str
    hours: float
    passes: float = 1.0
    stores: str = ""  # what it stores: "teacher", "features" or ""


@dataclass(frozen=True)
class Strategy:
    """A named plan."""

    name: str
    steps: tuple[Step, ...]


STRATEGIES = {
    "A": Strategy("A: distil directly", (
        Step("teacher", "teacher", 500, stores="teacher"), Step("features", "features", 500, stores="features"),
        Step("distill", "distill", 500, 6.4), Step("fmri", "fmri", 270, 10),
    )),
    "C": Strategy("C: pretrain, distil, fMRI", (
        Step("teacher", "teacher", 320, stores="teacher"), Step("features", "features", 2040, stores="features"),
        Step("pretrain", "pretrain", 1770, 25), Step("distill", "distill", 320, 10), Step("fmri", "fmri", 270, 10),
    )),
    "medium": Strategy("medium: C without extra videos and speech", (
        Step("teacher", "teacher", 264, stores="teacher"), Step("features", "features", 964, stores="features"),
        Step("pretrain", "pretrain", 700, 25), Step("distill", "distill", 264, 10), Step("fmri", "fmri", 270, 10),
    )),
    "minimal": Strategy("minimal: the films alone, distilled directly", (
        Step("teacher", "teacher", 264, stores="teacher"), Step("features", "features", 464, stores="features"),
        Step("distill", "distill", 264, 10), Step("fmri", "fmri", 270, 10),
    )),
    "free": Strategy("free: predictions of the teacher exist", (
        Step("features", "features", 2040, stores="features"), Step("pretrain", "pretrain", 1770, 25),
        Step("distill", "distill", 320, 10), Step("fmri", "fmri", 270, 10),
    )),
    "sprint": Strategy("sprint: two days, no pretraining", (
        Step("teacher", "teacher", 5, stores="teacher"), Step("features", "features", 5, stores="features"),
        Step("distill", "distill", 5, 20), Step("fmri", "fmri", 15, 8),
    )),
    "minimum": Strategy("minimum: one run through everything", (
        Step("teacher", "teacher", 2, stores="teacher"), Step("features", "features", 12, stores="features"),
        Step("pretrain", "pretrain", 12, 5), Step("distill", "distill", 2, 3), Step("fmri", "fmri", 0.75, 3),
    )),
}  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """Resources of a step or of a whole plan.

    Attributes
    ----------
    name : str
    data_hours : float
        Hours of stimulus.
    gpu_hours, weeks, storage_gb : float
    sessions : int
    cost : float or None
        In the currency of the host's price.
    """

    name: str
    data_hours: float
    gpu_hours: float
    sessions: int
    weeks: float
    storage_gb: float
    cost: float | None


def storage_gb(kind: str, hours: float, n_vertices: int = N_VERTICES) -> float:
    """Return the size in the store of hours of stimulus, in GB (1e9 bytes), in fp16.

    Parameters
    ----------
    kind : {"teacher", "features"}
    hours : float
    n_vertices : int
        Vertices of the teacher's predictions: 20484, or 5124 if they are kept on fsaverage4.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind == "teacher":
        return hours * 3600 / TEACHER_TR * 2 * (n_vertices + 2 * FUSION_DIM) / GB
    if kind == "features":
        return hours * 3600 * FEATURE_HZ * BYTES_PER_STEP / GB
    raise ValueError(f"Unknown {kind=}; it may be 'teacher' or 'features'.")


def plan(
    strategy: str | Strategy, rates: Rates | None = None, host: Host | None = None, n_vertices: int = N_VERTICES
) -> list[Estimate]:
    """Compute a plan step by step.

    Parameters
    ----------
    strategy : str or Strategy
        A `Strategy`, or its name in `STRATEGIES`.
    rates : Rates, optional
    host : Host, optional
    n_vertices : int
        Vertices of the teacher's predictions.

    Returns
    -------
    estimates : list of Estimate
        One per step; the last is the total.

    Raises
    ------
    ValueError
        If the strategy is unknown, a rate is not above 0, or the host has no hours or GPUs.
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise ValueError(f"Strategy {strategy!r} is unknown; it may be {', '.join(STRATEGIES)}.")
        strategy = STRATEGIES[strategy]
    rates, host = rates or Rates(), host or Host()
    if min(host.weekly_hours, host.session_hours, host.gpus) <= 0:
        raise ValueError(f"The host {host} grants nothing; hours and GPUs must be above 0.")
    rows = [_estimate(step, rates, host, n_vertices) for step in strategy.steps]
    costs = [row.cost for row in rows]
    rows.append(
        Estimate(
            strategy.name,
            sum(row.data_hours for row in rows[:2]),
            sum(row.gpu_hours for row in rows),
            sum(row.sessions for row in rows),
            sum(row.weeks for row in rows),
            sum(row.storage_gb for row in rows),
            None if None in costs else sum(cost for cost in costs if cost is not None),
        )  # fmt: skip
    )
    return rows


def _estimate(step: Step, rates: Rates, host: Host, n_vertices: int) -> Estimate:
    rate = getattr(rates, step.rate)
    if not rate > 0:
        raise ValueError(
            f"Rate too low: the rate of {step.rate} is {rate}; give hours of stimulus per GPU hour, above 0."
        )
    hours = step.hours * step.passes / rate
    usable = 0.9 * host.session_hours
    if step.rate == "teacher":
        usable -= rates.load_s / 3600
        hours += math.ceil(hours / usable) * rates.load_s / 3600
    sessions = math.ceil(hours / (0.9 * host.session_hours) - 1e-9)
    stored = storage_gb(step.stores, step.hours, n_vertices) if step.stores else 0.0
    cost = None if host.price_per_hour is None else hours * host.price_per_hour
    return Estimate(step.name, step.hours, hours, sessions, hours / host.weekly_hours / host.gpus, stored, cost)


def plan_table(strategies: Sequence[str] = ("A", "C", "sprint", "minimum"), rates: Rates | None = None,
               host: Host | None = None, n_vertices: int = N_VERTICES) -> str:  # fmt: skip
    """Return plans as a table of text, with the origin of the rates."""
    rates, host = rates or Rates(), host or Host()
    head = f"{'step':34}{'stimulus h':>11}{'GPU h':>9}{'sessions':>10}{'weeks':>8}{'GB':>8}{'cost':>9}"
    lines = []
    for name in strategies:
        rows = plan(name, rates, host, n_vertices)
        lines += ["", rows[-1].name, head]
        for row in rows:
            last = row is rows[-1]
            cost = "-" if row.cost is None else f"{row.cost:.0f}"
            data = "" if last else f"{row.data_hours:.4g}"
            lines.append(
                f"{'all' if last else row.name:34}{data:>11}{row.gpu_hours:9.1f}{row.sessions:10d}{row.weeks:8.1f}"
                f"{row.storage_gb:8.1f}{cost:>9}"
            )
    price = "no price given" if host.price_per_hour is None else f"{host.price_per_hour:g} an hour, as given"
    lines += [
        "",
        f"Rates: {rates.source}.",
        f"{host.name}: {host.weekly_hours:g} GPU h a week, sessions of {host.session_hours:g} h, {host.gpus} GPU at a "
        f"time; {price}.",
    ]
    return "\n".join(lines[1:])
