"""The seed's plans for a budget, calculated: prices are inputs, and what the seed wrote stands beside.

The seed's text has five phases and its budgets six and four lines; ranges stand here by their middle. Its figures do
not have one price: one A100 costs about 4 dollars an hour in them and four together about 5, so the lines on four cost
more here than there, unless the price of such a node is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbkit.neuro.neurofm.scaling_laws.ladder import RUNGS, Gate, gate_of

DISAGREEMENTS = (
    "the text has 5 phases, the budget 6: the budget adds a baseline of 20 recordings and an evaluation, and leaves "
    "out the phase across species (250 to 350), with which the five come to about 725 of 500",
    "the search is 20 to 30 recordings, 5 to 10 runs of 4 to 6 h and 80 to 120 in the text, and 10 recordings, 5 runs "
    "and 50 in the budget",
    "one A100 costs about 4 an hour in text and budget, four A100 together about 5: at one price the multi-modal line "
    "costs 640, not 200",
    "many modalities are 200 recordings in the text, 150 in the conservative plan and '100+' on the ladder",
    "100 to 150 Allen Neuropixels recordings: Visual Coding has 58 and Visual Behavior about 153 (both counts "
    "unverified), so one data set alone may not do",
)


@dataclass(frozen=True)
class Line:
    """One line of a plan.

    Attributes
    ----------
    name : str
    recordings : int
        The rung it belongs to; 0 where it belongs to none.
    hours : float
        On its machine.
    gpus : int
        That machine's accelerators; 0 where it is one's own and nothing is paid.
    wrote : float
        Dollars that the seed wrote down for it.
    """

    name: str
    recordings: int
    hours: float
    gpus: int
    wrote: float


@dataclass(frozen=True)
class Plan:
    """A named plan and the budget it has to keep within."""

    name: str
    lines: tuple[Line, ...]
    budget: float = 500.0


CONSERVATIVE = Plan("conservative", (
    Line("validation, 4 recordings", 4, 3, 0, 0),
    Line("search, 10 recordings, 5 runs", 10, 12.5, 1, 50),
    Line("baseline, 20 recordings", 20, 8, 1, 30),
    Line("foundation, 50 recordings", 50, 25, 1, 100),
    Line("many modalities, 150 recordings", 100, 40, 4, 200),
    Line("evaluation", 0, 12, 1, 50),
))  # fmt: skip
AGGRESSIVE = Plan("aggressive", (
    Line("validation, 4 recordings", 4, 3, 0, 0),
    Line("small search", 10, 7.5, 1, 30),
    Line("many modalities, 200+ recordings", 100, 80, 4, 400),
    Line("evaluation", 0, 12, 1, 50),
))  # fmt: skip
FIVE_PHASES = Plan("five phases", (
    Line("1 validation, 4-10 recordings", 4, 3, 0, 0),
    Line("2 hyperparameters, 20-30 recordings", 10, 37.5, 1, 100),
    Line("3 one modality, 100-150 recordings", 50, 25, 1, 100),
    Line("4 many modalities, 200 recordings", 100, 45, 4, 225),
    Line("5 across species, optional", 0, 70, 1, 300),
))  # fmt: skip
PLANS = {plan.name: plan for plan in (CONSERVATIVE, AGGRESSIVE, FIVE_PHASES)}


@dataclass(frozen=True)
class Prices:
    """What an hour costs.

    Attributes
    ----------
    gpu_hour : float
        Of one accelerator.
    node_hour : float or None
        Of a machine of four; four times `gpu_hour` where not given.
    """

    gpu_hour: float
    node_hour: float | None = None

    def __post_init__(self) -> None:
        for name in ("gpu_hour", "node_hour"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; a price is a number of at least 0.")

    @classmethod
    def seed(cls) -> Prices:
        """Those that the seed's budget implies."""
        return cls(4.0, 5.0)

    def of(self, line: Line, hours: float | None = None) -> float:
        """Return the price of a line; of other hours than planned where given."""
        hours = line.hours if hours is None else hours
        if line.gpus == 4 and self.node_hour is not None:
            return hours * self.node_hour
        return hours * line.gpus * self.gpu_hour


@dataclass(frozen=True)
class Spending:
    """What a plan costs.

    Attributes
    ----------
    costs : tuple of float
        A line each.
    total, buffer : float
        All of it, and what is left of the budget; below 0 where it does not fit.
    wrote_total, wrote_buffer : float
        As the seed wrote.
    """

    plan: Plan
    costs: tuple[float, ...]
    total: float
    buffer: float
    wrote_total: float
    wrote_buffer: float

    @property
    def fits(self) -> bool:
        """Whether the budget suffices."""
        return self.buffer >= 0

    @property
    def words(self) -> str:
        """A table: each line's calculated price beside the one that the seed wrote."""
        width = max(len(line.name) for line in self.plan.lines)
        rows = [f"{self.plan.name:<{width}}  {'calculated':>10}  {'written':>8}"]
        for line, cost in zip(self.plan.lines, self.costs, strict=True):
            rows.append(f"{line.name:<{width}}  {cost:>10.0f}  {line.wrote:>8.0f}")
        rows.append(f"{'total':<{width}}  {self.total:>10.0f}  {self.wrote_total:>8.0f}")
        rows.append(f"{'buffer':<{width}}  {self.buffer:>10.0f}  {self.wrote_buffer:>8.0f}")
        return "\n".join(rows)


def spend(plan: Plan, prices: Prices, hours: Mapping[int, float] | None = None) -> Spending:
    """Calculate what a plan costs.

    Parameters
    ----------
    plan : Plan
    prices : Prices
    hours : mapping of int to float, optional
        By rung, hours that were measured or calculated by a measured rate, in place of the plan's.

    Raises
    ------
    ValueError
        For hours that are below 0.
    """
    hours = dict(hours or {})
    for rung, value in hours.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"the rung of {rung} recordings has {value} h; hours are numbers of at least 0.")
    costs = tuple(prices.of(line, hours.get(line.recordings)) for line in plan.lines)
    wrote = sum(line.wrote for line in plan.lines)
    return Spending(plan, costs, sum(costs), plan.budget - sum(costs), wrote, plan.budget - wrote)


def decide(spending: Spending, done: Sequence[str], gates: Mapping[int, Gate], spent: float | None = None) -> str:
    """Say of the next line whether to go, and why.

    Go where its gate has passed and the budget holds it; the lines after it need not fit yet, since their own gates may
    shut before any of their price is due.

    Parameters
    ----------
    spending : Spending
    done : sequence of str
        Names of the lines that are done.
    gates : mapping of int to Gate
        By rung; a rung that is not there has an unmeasured gate. A line of no rung has none.
    spent : float, optional
        So far; the calculated price of what is done by default.

    Returns
    -------
    words : str
        Begins with "go", "no go" or "done".
    """
    lines = spending.plan.lines
    unknown = sorted(set(done) - {line.name for line in lines})
    if unknown:
        raise ValueError(f"the {spending.plan.name} plan has no lines {unknown}; it has {[x.name for x in lines]}.")
    priced = list(zip(lines, spending.costs, strict=True))
    spent = sum(cost for line, cost in priced if line.name in done) if spent is None else spent
    left = spending.plan.budget - spent
    for line, cost in priced:
        if line.name in done:
            continue
        gate = gates.get(line.recordings)
        if line.recordings and (gate is None or not gate.passed):
            return f"no go: {line.name}: its gate is {'not measured' if gate is None else gate.state}"
        if cost > left:
            return f"no go: {line.name} costs {cost:.0f}, and {left:.0f} of {spending.plan.budget:.0f} are left"
        return f"go: {line.name} for {cost:.0f}; {left - cost:.0f} are left after it"
    return f"done: every line of the {spending.plan.name} plan; {left:.0f} are left"


def decisions(
    results: Mapping[str, Mapping[str, Any]],
    price_per_hour: float,
    node_per_hour: float | None = None,
    done: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Lay out both budget plans at given prices, and say of each whether to go on.

    Parameters
    ----------
    results
        As in `nbkit.neuro.neurofm.scaling_laws.ladder.gate_of`.
    price_per_hour, node_per_hour
        See `Prices`.
    done : mapping of str to sequence of str, optional
        By plan, the lines that are done.

    Raises
    ------
    ValueError
        For a plan or a line that there is none of.
    """
    done = dict(done or {})
    strangers = sorted(set(done) - set(PLANS))
    if strangers:
        raise ValueError(f"there are no plans {strangers}; there are {sorted(PLANS)}.")
    gates = {rung.recordings: gate_of(rung.recordings, results) for rung in RUNGS}
    parts = []
    for plan in (CONSERVATIVE, AGGRESSIVE):
        spending = spend(plan, Prices(price_per_hour, node_per_hour))
        fits = "fits" if spending.fits else "does not fit"
        parts.append(
            f"{spending.words}\n{fits} into {plan.budget:.0f}; {decide(spending, done.get(plan.name, ()), gates)}"
        )
    return "\n\n".join(parts)
