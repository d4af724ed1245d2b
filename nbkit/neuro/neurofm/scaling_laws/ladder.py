"""The ladder: more recordings only where those below have shown that they help.

Each rung says what it needs, what it takes by a measured rate, and what must have been shown before it is begun. A
gate reads nothing but the results that earlier phases left: a check passes where a score is better than the baseline
that stands beside it, fails where it is not, and is open where it was not measured. An open gate is shut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PASSED, FAILED, OPEN = "passed", "failed", "not measured"
SESSION_SHARE = 0.9  # of a session; the rest goes into starting, saving and uploads


@dataclass(frozen=True)
class Check:
    """Name a score that must be above its own baseline.

    Attributes
    ----------
    slug, metric : str
        Where it stands: a phase and a name in its results.
    means : str
        What it shows, in words.
    """

    slug: str
    metric: str
    means: str


@dataclass(frozen=True)
class Rung:
    """Hold one step of the ladder.

    Attributes
    ----------
    recordings : int
    title : str
    phases : tuple of str
        Slugs of the notebooks that do it.
    runs : int
        Trainings.
    epochs : int
        Passes over the data in each.
    gate : tuple of Check
        What must have been shown before.
    planned_hours, planned_dollars : (low, high)
        The seed's own figures for all runs, to compare with.
    """

    recordings: int
    title: str
    phases: tuple[str, ...]
    runs: int
    epochs: int
    gate: tuple[Check, ...]
    planned_hours: tuple[float, float]
    planned_dollars: tuple[float, float]


_BEATS_MEAN = Check("neurofm_validate", "test_bits_per_spike", "4 recordings: foretells more than mean rates do")
_BEATS_WIENER = Check("neurofm_validate", "test_r2_neurofm", "4 recordings: decodes better than a Wiener filter")
_SEARCHED = Check("neurofm_search", "best_bits_per_spike", "the best of the search beats the mean rate")
_NOT_FULL = Check("neurofm_scaling", "gain_at_next_high", "the scaling verdict is not 'at capacity'")
_HELPS = Check("neurofm_scaling", "gain_at_next_low", "the scaling verdict is 'more data helps'")
_ZERO_SHOT = Check("neurofm_transfer", "zero_shot_bits_per_spike", "held-out recordings: above chance without training")
_FEW_SHOT = Check("neurofm_transfer", "few_shot_advantage_low", "few shots: pretrained above scratch, interval and all")
_CROSS = Check("neurofm_transfer", "cross_modal_bits_per_spike", "the other modality: above chance without training")

_LAWS = ("neurofm_scaling", "neurofm_transfer")
RUNGS = (
    Rung(4, "validate the model", ("neurofm_validate",), 1, 10, (), (2, 3), (0, 0)),
    Rung(10, "search sizes", ("neurofm_search",), 5, 20, (_BEATS_MEAN, _BEATS_WIENER), (20, 30), (0, 50)),
    Rung(20, "scaling laws, transfer", _LAWS, 1, 20, (_SEARCHED,), (8, 12), (30, 50)),
    Rung(50, "one modality", ("neurofm_validate",), 1, 20, (_NOT_FULL, _ZERO_SHOT, _FEW_SHOT), (20, 25), (80, 100)),
    Rung(100, "many modalities", ("neurofm_validate",), 1, 20, (_HELPS, _FEW_SHOT, _CROSS), (40, 50), (200, 250)),
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """Say how one check stands."""

    check: Check
    state: str
    words: str


@dataclass(frozen=True)
class Gate:
    """Say whether a rung may be begun.

    Attributes
    ----------
    recordings : int
        The rung.
    answers : tuple of Answer
    stand_in : str
        What the data behind it stand in for; empty for real ones.
    """

    recordings: int
    answers: tuple[Answer, ...]
    stand_in: str = ""

    @property
    def passed(self) -> bool:
        """True where every check has passed."""
        return all(answer.state == PASSED for answer in self.answers)

    @property
    def state(self) -> str:
        """The worst of its checks: failed before not measured before passed."""
        states = {answer.state for answer in self.answers}
        return next((state for state in (FAILED, OPEN) if state in states), PASSED)

    @property
    def words(self) -> str:
        """A line for each check."""
        lines = [f"gate of {self.recordings} recordings: {'go' if self.passed else 'no go'} ({self.state})"]
        lines += [f"  {answer.state:<12}  {answer.words}" for answer in self.answers]
        return "\n".join(lines + ([f"  shown on: {self.stand_in}"] if self.stand_in else []))


@dataclass(frozen=True)
class StepRate:
    """How long a training step takes, and where that was measured.

    Attributes
    ----------
    seconds : float
        An optimizer step of `batch_size` windows.
    batch_size : int
    windows : float
        Windows a recording.
    where : str
        The machine and the model, in words.
    """

    seconds: float
    batch_size: int
    windows: float
    where: str

    def __post_init__(self) -> None:
        for name in ("seconds", "batch_size", "windows"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}; a rate needs a number above 0. Measure it first.")

    @property
    def words(self) -> str:
        """The rate in a line."""
        step = f"{self.seconds:.3g} s a step of {self.batch_size} windows"
        return f"{step}, {self.windows:.3g} windows a recording; {self.where}"


@dataclass(frozen=True)
class Grant:
    """What a host grants, and what it takes for it.

    Attributes
    ----------
    weekly_hours, session_hours : float
        Of quota a week, and of the longest session.
    price_per_hour : float or None
        Of an accelerator hour; None where none is paid.
    """

    weekly_hours: float = 30.0
    session_hours: float = 9.0
    price_per_hour: float | None = None


@dataclass(frozen=True)
class RungCost:
    """What a rung takes, by a rate.

    Attributes
    ----------
    steps : int
        Of one run.
    hours, weeks : float
        Of all runs; weeks of quota.
    sessions : int
    dollars : float or None
    """

    steps: int
    hours: float
    sessions: int
    weeks: float
    dollars: float | None


def find_rung(recordings: int) -> Rung:
    """Return the rung of so many recordings.

    Raises
    ------
    ValueError
        Where the ladder has no such rung.
    """
    for rung in RUNGS:
        if rung.recordings == recordings:
            return rung
    raise ValueError(f"the ladder has no rung of {recordings} recordings; it has {[r.recordings for r in RUNGS]}.")


def rung_cost(rung: Rung, rate: StepRate, grant: Grant) -> RungCost:
    """Calculate what a rung takes at a rate."""
    steps = rung.epochs * math.ceil(rung.recordings * rate.windows / rate.batch_size)
    hours = rung.runs * steps * rate.seconds / 3600
    sessions = max(1, math.ceil(hours / (SESSION_SHARE * grant.session_hours)))
    price = None if grant.price_per_hour is None else hours * grant.price_per_hour
    return RungCost(steps, hours, sessions, hours / grant.weekly_hours, price)


def measured_rate(trials: Sequence[Mapping[str, Any]], where: str) -> StepRate:
    """Return the rate of the data experiment's trainings, which all have the same network.

    Parameters
    ----------
    trials : sequence of mapping
        As `nbkit.neuro.neurofm.trial.read_trials` gives them.
    where : str
        The machine.

    Raises
    ------
    ValueError
        Where no training of that experiment is done.
    """
    data = [trial for trial in trials if trial["experiment"] == "data"]
    if not data:
        raise ValueError(f"{len(trials)} trainings are done, none on growing data: no rate is measured yet.")
    steps, first = sum(trial["steps"] for trial in data), data[0]
    batch = round(sum(trial["windows"] * trial["epochs"] for trial in data) / steps)
    windows = sum(trial["windows"] for trial in data) / sum(trial["recordings"] for trial in data)
    network = f"width {first['dim']}, {first['blocks']} blocks, {first['latents']} latents"
    return StepRate(sum(trial["seconds"] for trial in data) / steps, batch, windows, f"{where}; {network}")


def gate_of(recordings: int, results: Mapping[str, Mapping[str, Any]]) -> Gate:
    """Say how the gate of a rung stands, with those of all rungs below it.

    Parameters
    ----------
    recordings : int
        The rung.
    results : mapping of str to mapping
        By phase, what its results.json holds: ``metrics`` with ``value``, ``baseline``, ``baseline_is``; ``data``.

    Returns
    -------
    gate : Gate
    """
    answers, behind = [], []
    for check in checks_of(find_rung(recordings)):
        found = results.get(check.slug, {})
        metric = found.get("metrics", {}).get(check.metric)
        if metric is None:
            answers.append(Answer(check, OPEN, f"{check.means}: {check.slug} has left no {check.metric}"))
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
    """Return a rung's checks after those of the rungs below it: who passed over a rung has not passed it."""
    return list(dict.fromkeys(check for r in RUNGS if r.recordings <= rung.recordings for check in r.gate))


def require_gate(recordings: int, results: Mapping[str, Mapping[str, Any]], ignore: bool = False) -> Gate:
    """Return the gate of a rung, and stop where it is shut.

    Parameters
    ----------
    recordings, results
        As in `gate_of`.
    ignore : bool
        True to go on in spite of a shut gate.

    Raises
    ------
    ValueError
        Where the gate is shut and not ignored.
    """
    gate = gate_of(recordings, results)
    if not gate.passed and not ignore:
        raise ValueError(
            f"{gate.words}\nNothing was begun. Do what is not measured, mend what failed, or go on all the same with "
            "IGNORE_GATE = True."
        )
    return gate


def ladder_rows(
    results: Mapping[str, Mapping[str, Any]], rate: StepRate, grant: Grant | None = None
) -> list[dict[str, Any]]:
    """Return the whole ladder as rows: what each rung takes and how its gate stands.

    Parameters
    ----------
    results
        As in `gate_of`.
    rate : StepRate
    grant : Grant, optional
        Kaggle's free quota by default.

    Returns
    -------
    rows : list of dict
        recordings, title, needs, runs, steps, hours, sessions, weeks, dollars, planned_hours, planned_dollars, gate.
    """
    grant, rows = grant or Grant(), []
    for rung in RUNGS:
        cost, gate = rung_cost(rung, rate, grant), gate_of(rung.recordings, results)
        rows.append(
            {
                "recordings": rung.recordings, "title": rung.title, "phases": ", ".join(rung.phases),
                "needs": ", ".join(dict.fromkeys(check.slug for check in rung.gate)) or "nothing",
                "runs": rung.runs, "steps": cost.steps, "hours": cost.hours, "sessions": cost.sessions,
                "weeks": cost.weeks, "dollars": cost.dollars, "planned_hours": rung.planned_hours,
                "planned_dollars": rung.planned_dollars, "gate": gate.state,
            }
        )  # fmt: skip
    return rows


def ladder_table(rows: Sequence[Mapping[str, Any]], rate: StepRate) -> str:
    """Lay the ladder out for reading."""
    head = ("recordings", "what", "runs x steps", "hours", "sessions", "weeks of quota", "price", "gate")
    cells = [head]
    for row in rows:
        price = "none paid" if row["dollars"] is None else f"{row['dollars']:.0f}"
        hours, weeks = f"{row['hours']:.3g}", f"{row['weeks']:.2g}"
        runs = f"{row['runs']} x {row['steps']}"
        cells.append(
            (str(row["recordings"]), row["title"], runs, hours, str(row["sessions"]), weeks, price, row["gate"])
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*lines, f"rate: {rate.words}"])
