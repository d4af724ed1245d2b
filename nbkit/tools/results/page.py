"""The page of results: a table for each system, made from the scores that the phases stored.

Nothing on the page is a time or a date, so that a second run gives the same bytes.
"""

from __future__ import annotations

import json
import platform
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nbkit.ground import __version__
from nbkit.ground.stand_in import is_made_up, is_untrained
from nbkit.runtime.errors import NbkitError
from nbkit.tools.results.listing import Plan, Run
from nbkit.tools.results.running import Folders, is_complete, missing_data, usage

PACKAGES = ("torch", "lightning", "numpy", "scipy", "scikit-learn", "mne", "braindecode", "transformers")
RATIOS = ("1", "", "share")
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Shown:
    """A score of a run, as it was stored.

    Attributes
    ----------
    model : str
    row : dict
        Of results.json: value, unit, low, high, over, rivals.
    """

    model: str
    row: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a run left: its scores and notes, or why there is none."""

    run: Run
    scores: tuple[Shown, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def read_found(plan: Plan, folders: Folders) -> list[Found]:
    """Return what each run that shows something left.

    Raises
    ------
    NbkitError
        If a run is complete but did not store a score that the list names.
    """
    found = []
    order = [system.name for system in plan.systems]
    for run in sorted((run for run in plan.runs if run.task), key=lambda run: order.index(run.system)):
        if missing := missing_data(plan, run, folders):
            found.append(Found(run, missing=tuple(missing)))
        elif not is_complete(run, folders):
            found.append(Found(run, missing=("it is not complete; run `make results` again",)))
        else:
            content = json.loads((folders.store(run) / run.slug / "results.json").read_text("utf-8"))
            notes = {name: text for name, text in content.items() if isinstance(text, str)}
            if lost := [name for name in run.scores if name not in content["metrics"]]:
                raise NbkitError(
                    f"{run.name}: {run.notebook} stored no score {', '.join(lost)}; it stored "
                    f"{', '.join(content['metrics'])}. Correct {plan.path.name}. Nothing was written."
                )
            scores = (Shown(model, content["metrics"][name]) for name, model in run.scores.items())
            found.append(Found(run, tuple(scores), notes))
    return found


def page_of(plan: Plan, found: Sequence[Found], figures: Sequence[str] = ()) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    plan : Plan
    found : sequence of Found
    figures : sequence of str
        Names of the runs whose figure lies in docs/figures/, and "overview".
    """
    parts = [f"# {plan.title}", _head()]
    if "overview" in figures:
        parts.append(
            "![Each score with its interval, beside its rivals](figures/results.png)\n\n"
            "*A dot is a score, a bar its 95 % interval; hollow dots are rivals on the same data. Green is better\n"
            "than every rival by the rule above, red worse than every one; grey is neither.*"
        )
    for system in plan.systems:
        mine = [one for one in found if one.run.system == system.name]
        parts += [f"## {system.name}", system.about.strip()] if mine else []
        for one in mine:
            parts.append(_section(plan, one, one.run.name in figures))
    return "\n\n".join(parts) + "\n"


def usage_table(plan: Plan, folders: Folders) -> str:
    """Return the sessions and CPU time of every run as tab-separated text, which differ from run to run."""
    lines = ["run\tnotebook\tsessions\tof them killed\tCPU s"]
    total = 0.0
    for run in plan.runs:
        began, killed, seconds = usage(run, folders)
        lines.append(f"{run.name}\t{run.notebook}\t{began}\t{killed}\t{seconds:.0f}")
        total += seconds
    return "\n".join([*lines, f"all\t\t\t\t{total:.0f}"]) + "\n"


def _head() -> str:
    made = (
        "Written by `make results`, from the scores that the notebooks stored; the list of what was run, with every "
        f"parameter, is `manifests/results.toml`. nbkit {__version__}, Python {platform.python_version()}, "
        f"{', '.join(_versions())}; one thread on a CPU, so that a second run on the same kind of processor gives "
        "the same bits; another kind rounds otherwise, which small trainings enlarge to other scores within their "
        "intervals. Sessions and CPU time of each run are in [results-run.tsv](results-run.tsv). The sizes are for "
        "minutes on a CPU: they show that the whole path works and how it compares with its rivals, not what a model "
        "can do on a GPU."
    )
    rule = (
        "Scores are on data that no phase was trained on, with 95 % intervals over people (or recordings, or blocks "
        "of time, as each row says). A model is *better* or *worse* than a rival where a paired test over the same "
        "people (exchanged, two-sided, corrected by Holm for the rivals of the row or the models of the table) gives "
        "p of 0.05 or less, and *not distinguishable* otherwise, which is not *equal*. Nothing was tuned for this page "
        "on the scores that it shows; presets were chosen when the phases were written, with some of these data seen."
    )
    return "\n\n".join(textwrap.fill(text, 120, break_on_hyphens=False) for text in (made, rule))


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name).partition('+')[0]}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return found


def _section(plan: Plan, one: Found, drawn: bool) -> str:
    run = one.run
    lines = [f"### {run.task}", ""]
    if one.missing:
        return "\n".join([*lines, f"Not run. Missing: {'; '.join(one.missing)}"])
    lines += ["| model | score | over | rival | its score | difference | said |", "|---|---|---|---|---|---|---|"]
    for shown in one.scores:
        lines += _rows(shown, run.units)
    path = " → ".join(f"`{other.notebook}`" for other in plan.runs if _leads_to(plan, other, run))
    lines += ["", f"{path}, store `{run.store}`. {_labels(plan, one)}"]
    if drawn:
        lines += ["", f"![{run.task}](figures/results-{run.name}.png)", "", f"*{run.caption}*"]
    return "\n".join(lines)


def _leads_to(plan: Plan, other: Run, run: Run) -> bool:
    place = plan.runs.index(run)
    return other is run or (other.store == run.store and plan.runs.index(other) < place) or other.name in run.after


def _labels(plan: Plan, one: Found) -> str:
    data, weights = one.notes.get("data", "not said"), one.run.weights or one.notes.get("weights", "")
    words = f"Data: {'**made up**: ' if is_made_up(data) else ''}{data}."
    names = [name for other in plan.runs if _leads_to(plan, other, one.run) for name in other.data]
    words += "".join(f" {about.about}" for about in plan.data if about.folder in names)
    if weights:
        words += f" Weights: {'**not pretrained**: ' if is_untrained(weights) else ''}{weights}."
    return words


def _rows(shown: Shown, units: str) -> list[str]:
    row = shown.row
    unit = "" if row["unit"] in RATIOS else f" {row['unit']}"
    over = row.get("over", "-").replace("groups", units or "groups")
    mine = [shown.model, f"{_ends(row, 'value', 'low', 'high')}{unit}", over]
    made = []
    for rival in row.get("rivals", ()):
        p = f", p {_p(rival['p'])}" if "p" in rival else ""
        gap = _ends(rival, "difference", "difference_low", "difference_high", signed=True)
        made.append([*mine, rival["name"], _ends(rival, "value", "low", "high"), f"{gap}{p}", rival["said"]])
        mine = ["", "", ""]
    if not made:
        made.append([*mine, row["baseline_is"], number(row["baseline"]), "-", "-"])
    return [f"| {' | '.join(cells)} |" for cells in made]


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _ends(row: dict[str, Any], value: str, low: str, high: str, signed: bool = False) -> str:
    text = number(row[value], signed)
    return f"{text} [{number(row[low])}, {number(row[high])}]" if low in row and high in row else text


def number(value: float, signed: bool = False) -> str:
    """Return a number with three decimals, with a true minus sign.

    Examples
    --------
    >>> number(-0.1239), number(0.05, signed=True), number(-0.0001), number(7.36)
    ('−0.124', '+0.050', '0.000', '7.360')
    """
    text = f"{value:+.3f}" if signed else f"{value:.3f}"
    return "0.000" if not float(text) else text.replace("-", _MINUS)


def in_short(found: Sequence[Found]) -> str:
    """Return a line for each score, for the terminal."""
    lines = []
    for one in found:
        for shown in one.scores:
            said = "; ".join(f"{rival['said']} ({rival['name']})" for rival in shown.row.get("rivals", ()))
            lines.append(f"{one.run.task}: {shown.model} {_ends(shown.row, 'value', 'low', 'high')}  {said}".rstrip())
        if one.missing:
            lines.append(f"{one.run.task}: not run; missing {'; '.join(one.missing)}")
    return "\n".join(lines)
