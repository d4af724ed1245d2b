"""What the report's page says of one phase.

No score stands without its baseline, and stand-in data or random weights are named before the first number.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from nbkit.ground.stand_in import is_made_up, is_untrained
from nbkit.runtime.words import counted, show_duration
from nbkit.tools.report.chart import Chart, draw
from nbkit.tools.report.metrics import Metric, metrics_of
from nbkit.tools.report.reading import PhaseRecord, Score, StoredFigure
from nbkit.tools.report.sessions_plot import at_work
from nbkit.tools.status.past_sessions import PastSession
from nbkit.tools.status.store_use import show_bytes
from nbkit.tools.status.table import steps_of, still_takes

_STATES = {"complete": "good", "complete, some failed": "fair", "work left": "fair", "unreadable": "bad"}
MAIN = 4  # scores of a phase in the first table, where the map names none
_TRAINING = {"curves", "training", "trainings", "monitors", "accuracy"}  # figures that show what was logged


def has_begun(record: PhaseRecord) -> bool:
    """Return whether there is anything to show of a phase."""
    shown = (record.scores, record.figures, record.tables, record.pages, record.notes)
    return record.status.state != "not begun" or any(shown)


def state_class(state: str) -> str:
    """Return the CSS class of a phase's state."""
    return _STATES.get(state, "idle")


def labels_of(record: PhaseRecord) -> list[tuple[str, str, bool]]:
    """Return what the scores rest on.

    Returns
    -------
    labels : list of (str, str, bool)
        Title, text, and whether the scores are therefore no results.
    """
    found = []
    for name, text in record.labels.items():
        odd, title = False, name
        if name == "data":
            odd = is_made_up(text) or not text.strip()
            title = "Stand-in data" if odd else "Data"
        elif name == "weights":
            odd = is_untrained(text)
            kind = "Random" if text.strip().lower().startswith("random") else "Stand-in"
            title = f"{kind} weights" if odd else "Weights"
        found.append((title, text, odd))
    if record.scores and "data" not in record.labels:
        found.append(("Data", "the phase does not say what they are.", True))
    return found


def facts_of(record: PhaseRecord, size: int) -> list[tuple[str, str]]:
    """Return the progress of a phase as terms and values.

    Parameters
    ----------
    record : PhaseRecord
    size : int
        Bytes that the phase has in the store.
    """
    row = record.status
    pairs = [("Done", progress_of(record))]
    if row.rate is not None:
        pairs.append(("Rate", f"{row.rate:,.0f} {'steps' if row.max_steps else 'items'} per hour"))
    if row.goodput is not None:
        pairs.append(("Goodput", f"{row.goodput:.2f}"))
    pairs.append(("Still takes", still_takes(row)))
    if row.checkpoint is not None:
        pairs.append(("Newest checkpoint", f"step {row.step:,}, {show_duration(row.checkpoint_age)} old"))
    if row.error:
        pairs.append(("Last error", f"{row.error} ({show_duration(row.error_age)} ago)"))
    if row.set_aside:
        pairs.append(("Set aside", row.set_aside))
    for shard in row.shards:
        left = "?" if shard.left is None else f"{shard.left:,}"
        pairs.append((f"Shard {shard.shard}", f"{shard.done:,} done, {left} left, {shard.failed:,} failed"))
    if size:
        pairs.append(("In the store", show_bytes(size)))
    return [(term, text) for term, text in pairs if text != "-"]


def progress_of(record: PhaseRecord) -> str:
    """Return how far a phase has come; a dash for one without items and steps."""
    row = record.status
    if not row.max_steps and not row.done and not row.failed and not row.left:
        return "-"
    done = f"step {row.step:,} of {row.max_steps:,}" if row.max_steps else counted(row.done, "item")
    if not row.max_steps and row.left:
        done += f", {row.left:,} left"
    return done + (f", {row.failed:,} failed" if row.failed else "")


def main_scores(record: PhaseRecord) -> list[Score]:
    """Return the scores that the map names for the phase; where it names none, the first that have rivals."""
    by_name = {score.name: score for score in record.scores}
    named = [by_name[name] for name in (record.phase.scores if record.phase else ()) if name in by_name]
    return named or [score for score in record.scores if score.rivals][:MAIN]


def ends_of(interval: tuple[float, float] | None) -> str:
    """Return an interval as text in brackets, empty for none."""
    return "" if interval is None else f"[{_rounded(interval[0])}, {_rounded(interval[1])}]"


def _rounded(value: float) -> str:
    """Return a number in three decimals, or in three digits where it is large."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.3g}"
    return "0" if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def shown_rivals(score: Score) -> list[str]:
    """Return a line for each rival of a score: what can be said of it, its own score, and the difference."""
    lines = []
    for rival in score.rivals:
        gap = f"{_rounded(rival.difference)} {ends_of(rival.interval)}".strip()
        p = "" if rival.p is None else f", p {'< 0.001' if rival.p < 0.001 else f'{rival.p:.2g}'}"
        lines.append(f"{rival.said}: {rival.name} {_rounded(rival.value)} (difference {gap}{p})")
    return lines


def main_figure(record: PhaseRecord) -> StoredFigure | None:
    """Return the figure that the map names for the phase, or its last one; None where it is not stored."""
    if record.phase is None or not record.phase.figures:
        return None
    wanted = record.phase.main_figure or record.phase.figures[-1]
    return next((figure for figure in record.figures if figure.name == wanted), None)


def unit_of(score: Score) -> str:
    """Return a score's unit as it is printed; empty for a ratio."""
    return "" if score.unit in ("1", "") else score.unit.replace("^2", "²").replace("uV", "µV")


def show_number(value: float) -> str:
    """Return a number in four digits, with a minus sign.

    Examples
    --------
    >>> show_number(-17.1990), show_number(1030.26), show_number(0.0)
    ('−17.2', '1030', '0')
    """
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def rehearsed(record: PhaseRecord) -> str:
    """Return what a rehearsal of the phase measured; empty where there was none."""
    sums = (record.rehearsal or {}).get("sums")
    if not isinstance(sums, dict):
        return ""
    text = f"Rehearsed in {sums.get('sessions', '?')} sessions, {sums.get('kills', '?')} of them killed"
    return f"{text}. Lost at kills and done again: {_amount(sums, 'lost')}; done twice: {_amount(sums, 'twice')}."


def _amount(sums: Mapping[str, object], how: str) -> str:
    counts = [(sums.get(f"{how}_{what}s"), what) for what in ("item", "step")]
    return ", ".join(counted(n, what) for n, what in counts if isinstance(n, int) and n) or "nothing"


def session_cells(past: PastSession) -> list[str]:
    """Return the plain cells of one session's row: opened, host, lasted, at work, items, steps."""
    share = at_work(past)
    return [
        "?" if past.opened is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(past.opened)),
        past.host,
        "?" if past.length is None else show_duration(past.length),
        "-" if share is None else f"{share:.0%}",
        f"{past.items:,}" + (f" ({past.failed} failed)" if past.failed else ""),
        steps_of(past),
    ]


def training_of(record: PhaseRecord) -> list[tuple[Metric, Chart | None]]:
    """Return the logged metrics, each with a chart where the phase has not stored a figure of its training yet."""
    stored = any(figure.name in _TRAINING for figure in record.figures)
    scores = {score.name: score for score in record.scores}
    found = []
    for number, metric in enumerate(metrics_of(record.history)):
        score = scores.get(metric.name)
        labels = "Step", "" if score is None else unit_of(score)
        goal, beside = (None, "") if score is None or score.baseline is None else (
            score.baseline, f"; baseline {score.baseline:.4g}, {score.baseline_is}")  # fmt: skip
        name, text = f"metric-{record.status.slug}-{number}", f"{metric.name} {metric.text}{beside}."
        found.append((metric, None if stored else draw(name, metric.name, text, metric.points, labels, goal=goal)))
    return found
