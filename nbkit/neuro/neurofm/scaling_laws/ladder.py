"""Scaling ladder: use more recordings only after smaller experiments have shown a benefit.

Each rung has its costs, calculated from a measured rate, and a gate: results that must exist before it is started. A
gate uses only the results of earlier phases. A check passes if a score is better than its baseline, fails if it is not,
and is not measured if the score is missing. A gate passes only if all of its checks pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbkit.ground.fields import checked

PASSED, FAILED, OPEN = "passed", "failed", "not measured"
_COSTS = ("steps", "hours", "sessions", "weeks", "dollars")
SESSION_SHARE = 0.9  # fraction of a session used for training; the rest is start-up, saving and uploads


@dataclass(frozen=True)
class Check:
    """A score that must be above its baseline.

    Attributes
    ----------
    slug, metric : str
        Phase, and name of the score in its results.
    means : str
        Meaning of the check, as text.
    """

    slug: str
    metric: str
    means: str


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes
    ----------
    recordings : int
        Number of recordings.
    title : str
    phases : tuple of str
        Slugs of the notebooks of this step.
    runs : int
        Number of trainings.
    epochs : int
        Passes over the data in each training.
    gate : tuple of Check
        Checks that must pass before this step.
    planned_hours, planned_dollars : (low, high)
        Hours and dollars of all runs in the original plan, for comparison.
    """

    recordings: int
    title: str
    phases: tuple[str, ...]
    runs: int
    epochs: int
    gate: tuple[Check, ...]
    planned_hours: tuple[float, float]
    planned_dollars: tuple[float, float]


_BEATS_MEAN = Check("neurofm_validate", "test_bits_per_spike", "4 recordings: better prediction than mean rates")
_BEATS_WIENER = Check("neurofm_validate", "test_r2_neurofm", "4 recordings: better decoding than a Wiener filter")
_SEARCHED = Check("neurofm_search", "best_bits_per_spike", "the best network of the search is better than mean rates")
_NOT_FULL = Check("neurofm_scaling", "gain_at_next_high", "the scaling verdict is not 'at capacity'")
_HELPS = Check("neurofm_scaling", "gain_at_next_low", "the scaling verdict is 'more data helps'")
_ZERO_SHOT = Check("neurofm_transfer", "untouched_bits_per_spike", "held-out recordings, untouched: above mean rates")
_ADAPTED = Check(
    "neurofm_transfer", "adapted_bits_per_spike", "held-out recordings, unsupervised adaptation: above mean rates"
)
_FEW_SHOT = Check(
    "neurofm_transfer", "few_shot_advantage_low", "few shots: pretrained better than scratch, whole interval"
)
_CROSS = Check(
    "neurofm_transfer", "cross_modal_untouched_bits_per_spike", "the other modality, untouched: above mean rates"
)

_TRANSFERS = (_NOT_FULL, _ADAPTED, _ZERO_SHOT, _FEW_SHOT)
_LAWS = ("neurofm_scaling", "neurofm_transfer")
RUNGS = (
    Rung(4, "validate the model", ("neurofm_validate",), 1, 10, (), (2, 3), (0, 0)),
    Rung(10, "search sizes", ("neurofm_search",), 5, 20, (_BEATS_MEAN, _BEATS_WIENER), (20, 30), (0, 50)),
    Rung(20, "scaling laws, transfer", _LAWS, 1, 20, (_SEARCHED,), (8, 12), (30, 50)),
    Rung(50, "one modality", ("neurofm_validate",), 1, 20, _TRANSFERS, (20, 25), (80, 100)),
    Rung(100, "many modalities", ("neurofm_validate",), 1, 20, (_HELPS, _FEW_SHOT, _CROSS), (40, 50), (200, 250)),
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """State of one check: "passed", "failed" or "not measured", with its numbers as text."""

    check: Check
    state: str
    words: str


@dataclass(frozen=True)
class Gate:
    """All checks before a rung.

    Attributes
    ----------
    recordings : int
        Number of recordings of the rung.
    answers : tuple of Answer
        State of each check.
    stand_in : str
        Label of synthetic stand-in data on which the scores were measured; empty for real data.
    """

    recordings: int
    answers: tuple[Answer, ...]
    stand_in: str = ""

    @property
    def passed(self) -> bool:
        """True if all checks have passed."""
        return all(answer.state == PASSED for answer in self.answers)

    @property
    def state(self) -> str:
        """Worst state of the checks: "failed", then "not measured", then "passed"."""
        states = {answer.state for answer in self.answers}
        return next((state for state in (FAILED, OPEN) if state in states), PASSED)

    @property
    def words(self) -> str:
        """State of the gate and one line for each check, as text."""
        lines = [f"gate of {self.recordings} recordings: {'go' if self.passed else 'no go'} ({self.state})"]
        lines += [f"  {answer.state:<12}  {answer.words}" for answer in self.answers]
        return "\n".join(lines + ([f"  measured on: {self.stand_in}"] if self.stand_in else []))


@dataclass(frozen=True)
class StepRate:
    """Measured duration of a training step.

    Attributes
    ----------
    seconds : float
        Duration of an optimizer step of ``batch_size`` windows, in s.
    batch_size : int
        Windows per step.
    windows : float
        Mean number of windows per recording.
    where : str
        Description of the machine and the network.

    Raises
    ------
    ValueError
        If a number is not finite and above 0.
    """

    seconds: float
    batch_size: int
    windows: float
    where: str

    def __post_init__(self) -> None:
        for name in ("seconds", "batch_size", "windows"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(
                    f"The rate has {name} = {getattr(self, name)}; it must be finite and above 0. Measure it first."
                )

    @property
    def words(self) -> str:
        """The rate in one line."""
        step = f"{self.seconds:.3g} s per step of {self.batch_size} windows"
        return f"{step}, {self.windows:.3g} windows per recording; {self.where}"


@checked
@dataclass(frozen=True)
class Grant:
    """Quota and price of a host.

    Attributes
    ----------
    weekly_hours, session_hours : float
        Quota in hours per week, and the longest session in hours.
    price_per_hour : float or None
        Price of an accelerator in dollars per hour; None if it is free.
    """

    weekly_hours: float = 30.0
    session_hours: float = 9.0
    price_per_hour: float | None = None


@dataclass(frozen=True)
class RungCost:
    """Costs of a rung at a measured rate.

    Attributes
    ----------
    steps : int
        Optimizer steps of one run.
    hours : float
        Hours of all runs.
    sessions : int
        Sessions of all runs.
    weeks : float
        Weeks of quota of all runs.
    dollars : float or None
        Price of all runs; None if the host is free.
    """

    steps: int
    hours: float
    sessions: int
    weeks: float
    dollars: float | None


def find_rung(recordings: int) -> Rung:
    """Return the rung with this number of recordings.

    Raises
    ------
    ValueError
        If the ladder has no such rung.
    """
    for rung in RUNGS:
        if rung.recordings == recordings:
            return rung
    raise ValueError(f"The ladder has no rung of {recordings} recordings; it has {[r.recordings for r in RUNGS]}.")


def rung_cost(rung: Rung, rate: StepRate, grant: Grant) -> RungCost:
    """Return the costs of a rung at a measured rate."""
    steps = rung.epochs * math.ceil(rung.recordings * rate.windows / rate.batch_size)
    hours = rung.runs * steps * rate.seconds / 3600
    sessions = max(1, math.ceil(hours / (SESSION_SHARE * grant.session_hours)))
    price = None if grant.price_per_hour is None else hours * grant.price_per_hour
    return RungCost(steps, hours, sessions, hours / grant.weekly_hours, price)


def measured_rate(trials: Sequence[Mapping[str, Any]], where: str) -> StepRate | None:
    """Return the measured rate of the trainings of the data experiment, or None if no such training is done.

    All trainings of that experiment have the same network.

    Parameters
    ----------
    trials : sequence of mapping
        Results from `nbkit.neuro.neurofm.trial.read_trials`.
    where : str
        Description of the machine.
    """
    data = [trial for trial in trials if trial["experiment"] == "data"]
    if not data:
        return None
    steps, first = sum(trial["steps"] for trial in data), data[0]
    batch = round(sum(trial["windows"] * trial["epochs"] for trial in data) / steps)
    windows = sum(trial["windows"] for trial in data) / sum(trial["recordings"] for trial in data)
    network = f"width {first['dim']}, {first['blocks']} blocks, {first['latents']} latents"
    return StepRate(sum(trial["seconds"] for trial in data) / steps, batch, windows, f"{where}; {network}")


def gate_of(recordings: int, results: Mapping[str, Mapping[str, Any]]) -> Gate:
    """Return the gate of a rung, including the gates of all rungs below it.

    Parameters
    ----------
    recordings : int
        Number of recordings of the rung.
    results : mapping of str to mapping
        Content of results.json of each phase: ``metrics`` with ``value``, ``baseline``, ``baseline_is``; ``data``.

    Returns
    -------
    gate : Gate
    """
    answers, behind = [], []
    for check in checks_of(find_rung(recordings)):
        found = results.get(check.slug, {})
        metric = found.get("metrics", {}).get(check.metric)
        if metric is None:
            answers.append(Answer(check, OPEN, f"{check.means}: {check.slug} has no result {check.metric}"))
            continue
        value, baseline = metric["value"], metric["baseline"]
        better = value > baseline
        words = f"{check.means}: {value:.3g} against {baseline:.3g} ({metric['baseline_is']})"
        answers.append(Answer(check, PASSED if better else FAILED, words))
        data = str(found.get("data", "real"))
        if data != "real" and data not in behind:
            behind.append(data)
    return Gate(recordings, tuple(answers), "; ".join(behind))


def checks_of(rung: Rung) -> list[Check]:
    """Return the checks of all rungs up to a rung: skipping a rung does not skip its checks."""
    return list(dict.fromkeys(check for r in RUNGS if r.recordings <= rung.recordings for check in r.gate))


def require_gate(recordings: int, results: Mapping[str, Mapping[str, Any]], ignore: bool = False) -> Gate:
    """Return the gate of a rung, or raise if it has not passed.

    Parameters
    ----------
    recordings, results
        As in `gate_of`.
    ignore : bool
        If True, do not raise.

    Raises
    ------
    ValueError
        If the gate has not passed and ``ignore`` is False.
    """
    gate = gate_of(recordings, results)
    if not gate.passed and not ignore:
        raise ValueError(
            f"{gate.words}\nNothing was started. Run the phases whose results are not measured, improve those that "
            "failed, or continue anyway with IGNORE_GATE = True."
        )
    return gate


def ladder_rows(
    results: Mapping[str, Mapping[str, Any]], rate: StepRate | None, grant: Grant | None = None
) -> list[dict[str, Any]]:
    """Return all rungs as rows, each with its costs (None without a rate) and the state of its gate.

    Parameters
    ----------
    results : mapping of str to mapping
        As in `gate_of`.
    rate : StepRate or None
    grant : Grant, optional
        By default the free quota of Kaggle.

    Returns
    -------
    rows : list of dict
        recordings, title, needs, runs, steps, hours, sessions, weeks, dollars, planned_hours, planned_dollars, gate.
    """
    grant, rows = grant or Grant(), []
    for rung in RUNGS:
        cost, gate = rate and rung_cost(rung, rate, grant), gate_of(rung.recordings, results)
        rows.append(
            {
                "recordings": rung.recordings, "title": rung.title, "phases": ", ".join(rung.phases),
                "needs": ", ".join(dict.fromkeys(check.slug for check in rung.gate)) or "nothing",
                "runs": rung.runs, **{name: getattr(cost, name, None) for name in _COSTS},
                "planned_hours": rung.planned_hours, "planned_dollars": rung.planned_dollars, "gate": gate.state,
            }
        )  # fmt: skip
    return rows


def rate_words(rate: StepRate | None) -> str:
    """Return the rate in one line, or that none was measured and which phase measures it."""
    return "not measured: 52_neurofm_scaling has no results in this store" if rate is None else rate.words


def ladder_table(rows: Sequence[Mapping[str, Any]], rate: StepRate | None) -> str:
    """Return the rows of the ladder as a text table; without a rate, with the hours of the original plan."""
    head = ("recordings", "step", "runs x steps", "hours", "sessions", "weeks of quota", "price", "gate")
    cells = [head]
    for row in rows:
        if row["hours"] is None:
            low, high = row["planned_hours"]
            plan = (f"{row['runs']} x ?", f"{low}-{high} (plan)", "?", "?", "?")
            cells.append((str(row["recordings"]), row["title"], *plan, row["gate"]))
            continue
        price = "free" if row["dollars"] is None else f"{row['dollars']:.0f}"
        hours, weeks = f"{row['hours']:.3g}", f"{row['weeks']:.2g}"
        runs = f"{row['runs']} x {row['steps']}"
        cells.append(
            (str(row["recordings"]), row["title"], runs, hours, str(row["sessions"]), weeks, price, row["gate"])
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*lines, f"rate: {rate_words(rate)}"])
