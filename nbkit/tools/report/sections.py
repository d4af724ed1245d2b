"""What the report's page says of one phase, as elements.

No score stands without what it has to beat, and what rests on stand-in data or random weights says so before the first
number.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from xml.etree.ElementTree import Element

from nbkit.ground.stand_in import is_made_up, is_untrained
from nbkit.runtime.words import counted, show_duration
from nbkit.tools.notebooks import captions_of
from nbkit.tools.report.curves import Panel, dash_of, draw, panels_of
from nbkit.tools.report.html import add, coded, coded_name, embedded, picture, table, tag
from nbkit.tools.report.reading import PhaseRecord, Score
from nbkit.tools.report.sessions_plot import at_work, sessions_svg, sessions_words
from nbkit.tools.status.past_sessions import PastSession
from nbkit.tools.status.store_use import show_bytes
from nbkit.tools.status.table import steps_of, still_takes

FOLDED = 6  # panels or sessions that are shown; more wait under a line to open
_STATES = {"complete": "good", "complete, some failed": "fair", "work left": "fair", "unreadable": "bad"}


def section(record: PhaseRecord, size: int = 0) -> Element:
    """Return a phase's part of the page.

    Parameters
    ----------
    record : PhaseRecord
    size : int
        Bytes that the phase has in the store.
    """
    row = record.status
    whole = tag("section", id=f"phase-{row.slug}")
    number = f"{record.phase.number:02d}" if record.phase else ""
    add(whole, tag("h2", tag("span", number, class_="number") if number else None, " ", row.title or row.slug))
    add(whole, tag("p", state_of(row.state), " ", tag("code", row.slug), class_="under"), *labels(record))
    add(whole, facts(record, size))
    for title, parts in (
        ("Scores", scores(record)),
        ("Sessions", sessions(record)),
        ("Training curves", curves(record)),
        ("Figures", figures(record)),
        ("To turn and look at", views(record)),
    ):
        if parts:
            add(whole, tag("h3", title), *parts)
    if record.notes:
        notes = tag("ul", *(tag("li", note) for note in record.notes), class_="notes")
        add(whole, tag("h3", "Missing or damaged"), notes)
    return whole


def state_of(state: str) -> Element:
    """Return a phase's state with a mark beside its words."""
    return tag("span", state, class_=f"state {_STATES.get(state, 'idle')}")


def labels(record: PhaseRecord) -> list[Element]:
    """Return what the scores rest on."""
    parts = []
    for name, words in record.labels.items():
        if name == "data":
            odd = is_made_up(words) or not words.strip()
            title = "Stand-in data" if odd else "Data"
        elif name == "weights":
            odd = is_untrained(words)
            kind = "Random" if words.strip().lower().startswith("random") else "Stand-in"
            title = f"{kind} weights" if odd else "Weights"
        else:
            odd, title = False, name
        parts.append(tag("p", tag("strong", f"{title}:"), f" {words}", class_="label odd" if odd else "label"))
    if record.scores and "data" not in record.labels:
        parts.append(tag("p", tag("strong", "Data:"), " the phase does not say what they are.", class_="label odd"))
    return parts


def facts(record: PhaseRecord, size: int) -> Element:
    """Return where the phase stands, as terms and words."""
    row = record.status
    pairs = [("Done", words)] if (words := done_words(record)) != "-" else []
    if row.rate is not None:
        pairs.append(("Rate", f"{row.rate:,.0f} {'steps' if row.max_steps else 'items'} an hour"))
    if row.goodput is not None:
        pairs.append(("Goodput", f"{row.goodput:.2f}"))
    if still_takes(row) != "-":
        pairs.append(("Still takes", still_takes(row)))
    if row.checkpoint is not None:
        pairs.append(("Newest checkpoint", f"step {row.step:,}, {show_duration(row.checkpoint_age)} old"))
    if row.error:
        pairs.append(("Last error", f"{row.error} ({show_duration(row.error_age)} ago)"))
    for shard in row.shards:
        left = "?" if shard.left is None else f"{shard.left:,}"
        pairs.append((f"Shard {shard.shard}", f"{shard.done:,} done, {left} left, {shard.failed:,} failed"))
    if size:
        pairs.append(("In the store", show_bytes(size)))
    return tag("dl", *(tag("div", tag("dt", term), tag("dd", words)) for term, words in pairs), class_="facts")


def done_words(record: PhaseRecord) -> str:
    """Say how far a phase has come; a dash for one without items and steps."""
    row = record.status
    if not row.max_steps and not row.done and not row.failed and not row.left:
        return "-"
    done = f"step {row.step:,} of {row.max_steps:,}" if row.max_steps else counted(row.done, "item")
    if not row.max_steps and row.left:
        done += f", {row.left:,} left"
    return done + (f", {row.failed:,} failed" if row.failed else "")


# -- scores ------------------------------------------------------------------------------------------------------------


def scores(record: PhaseRecord) -> list[Element]:
    """Return the table of scores, each beside what it has to beat and what was published."""
    if not record.scores:
        return []
    anchored = any(score.anchor is not None for score in record.scores)
    header = ["Score", "Value", "Baseline or chance"] + (["Published"] if anchored else [])
    rows = []
    for score in record.scores:
        beside = _beside(score.baseline, score.baseline_is, "no baseline is stored")
        published = [_beside(score.anchor, score.anchor_is, "none named")] if anchored else []
        value = tag("span", tag("strong", number(score.value)), _unit(score))
        rows.append([coded_name(score.name), value, beside, *published])
    return [table(header, rows, f"Scores of {record.status.slug}", numbers=(1,), stacks=True)]


def main_scores(record: PhaseRecord) -> Element | str:
    """Return the scores that the map names for the phase, each beside what it has to beat; else how many there are."""
    by_name = {score.name: score for score in record.scores}
    shown = [by_name[name] for name in (record.phase.scores if record.phase else ()) if name in by_name]
    if not shown:
        return counted(len(record.scores), "score") if record.scores else "-"
    lines = tag("ul", class_="scores")
    for score in shown:
        beside = "" if score.baseline is None else f" (baseline\N{NO-BREAK SPACE}{number(score.baseline)})"
        lines.append(tag("li", coded_name(score.name), " ", tag("strong", number(score.value)), _unit(score), beside))
    return lines


def _beside(value: float | None, words: str, without: str) -> Element:
    if value is None:
        return tag("span", without, class_="faint")
    return tag("span", tag("strong", number(value)), " ", tag("span", words, class_="faint"))


def _unit(score: Score) -> str:
    return "" if score.unit in ("1", "") else f" {score.unit.replace('^2', '²').replace('uV', 'µV')}"


def number(value: float) -> str:
    """Write a number in four digits, with a minus sign.

    Examples
    --------
    >>> number(-17.1990), number(1030.26), number(0.0)
    ('−17.2', '1030', '0')
    """
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


# -- sessions ----------------------------------------------------------------------------------------------------------


def sessions(record: PhaseRecord) -> list[Element]:
    """Return the phase's sessions: in a sentence, drawn, and a line each."""
    row = record.status
    if not row.past:
        return []
    parts = [tag("p", sessions_words(row))]
    parts += [tag("p", words) for words in [rehearsed(record)] if words]
    if len(row.past) > 1:
        parts.append(tag("figure", sessions_svg(row, f"sessions-{row.slug}"), _marks(), class_="panel"))
    header = ["Session", "Opened (UTC)", "Host", "Lasted", "At work", "Items", "Steps", "Ended"]
    lines = table(header, map(_line, row.past), f"Sessions of {row.slug}", numbers=(3, 4, 5))
    parts.append(lines if len(row.past) <= FOLDED else _folded(f"All {len(row.past)} sessions", lines))
    return parts


def rehearsed(record: PhaseRecord) -> str:
    """Say what a rehearsal of the phase measured; empty where there was none."""
    sums = (record.rehearsal or {}).get("sums")
    if not isinstance(sums, dict):
        return ""
    text = f"Rehearsed in {sums.get('sessions', '?')} sessions, {sums.get('kills', '?')} of them killed"
    lost, twice = _amount(sums, "lost"), _amount(sums, "twice")
    return f"{text}. Lost at kills and done again: {lost}; done twice: {twice}."


def _amount(sums: Mapping[str, object], how: str) -> str:
    counts = [(sums.get(f"{how}_{what}s"), what) for what in ("item", "step")]
    return ", ".join(counted(n, what) for n, what in counts if isinstance(n, int) and n) or "nothing"


def _line(past: PastSession) -> list[Element | str]:
    opened = "?" if past.opened is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(past.opened))
    share = at_work(past)
    name = tag("code", past.session.rpartition("-")[2])
    ended = tag("span", past.ended, class_="" if past.closed else "killed")
    items = f"{past.items:,}" + (f" ({past.failed} failed)" if past.failed else "")
    return [
        add(tag("span", name), f" {past.shard}" if past.shard else None),
        opened,
        past.host,
        "?" if past.length is None else show_duration(past.length),
        "-" if share is None else f"{share:.0%}",
        items,
        steps_of(past),
        ended,
    ]


def _marks() -> Element:
    return tag(
        "figcaption",
        tag("span", "●", class_="s1", aria_hidden="true"), " closed  ",
        tag("span", "✖", class_="s2", aria_hidden="true"), " killed, or not closed  ",
        tag("span", "╌", class_="faint", aria_hidden="true"), " all of the work",
    )  # fmt: skip


# -- curves, figures, pages --------------------------------------------------------------------------------------------


def curves(record: PhaseRecord) -> list[Element]:
    """Return the training's curves, the first panels open."""
    row = record.status
    marks = [
        (past.from_step, not before.closed)
        for before, past in zip(row.past, row.past[1:], strict=False)
        if past.from_step
    ]
    baselines = {s.name: (s.baseline, s.baseline_is) for s in record.scores if s.baseline is not None}
    units = {score.name: _unit(score).strip() for score in record.scores}
    panels = panels_of(record.history, baselines, marks, units)
    drawn = [_panel(panel, f"curve-{row.slug}-{place}") for place, panel in enumerate(panels)]
    if not drawn:
        return []
    kinds = (("faint", "a new session"), ("s2", "a new session after a kill"))
    begun = tag("ul", *(tag("li", _swatch(colour, "2 3"), words) for colour, words in kinds), class_="legend")
    shown, rest = tag("div", *drawn[:FOLDED], class_="panels"), drawn[FOLDED:]
    folded = [_folded(f"{len(rest)} more metrics", tag("div", *rest, class_="panels"))] if rest else []
    return [*([begun] if marks else []), shown, *folded]


def _panel(panel: Panel, name: str) -> Element:
    legend = tag("ul", class_="legend")
    for place, line in enumerate(panel.lines):
        legend.append(tag("li", _swatch(f"s{place + 1}", dash_of(place)), line.name))
    if panel.baseline:
        legend.append(tag("li", _swatch("ink", "4 3"), f"{number(panel.baseline[0])}: {panel.baseline[1]}"))
    if panel.left_out:
        legend.append(tag("li", f"and {panel.left_out} more in metrics.jsonl"))
    return tag("figure", tag("figcaption", tag("code", panel.title)), draw(panel, name), legend, class_="panel")


def _swatch(colour: str, dashes: str) -> Element:
    place = {"x1": "0", "y1": "5", "x2": "22", "y2": "5"}
    line = tag("line", style=f"stroke: var(--{colour})", stroke_dasharray=dashes or None, **place)
    return tag("svg", line, viewBox="0 0 22 10", class_="swatch", aria_hidden="true")


def figures(record: PhaseRecord) -> list[Element]:
    """Return the stored figures, each on paper of its own."""
    captions = captions_of(record.phase)
    drawn = []
    for figure in record.figures:
        alt = figure.words or f"Figure {figure.name} of {record.status.title or record.status.slug}"
        words = captions.get(figure.name, "")
        caption = tag("figcaption", tag("strong", figure.name), ". " if words else None, *coded(words))
        shape = "wide" if figure.width > 1.6 * figure.height else None
        paper = tag("div", picture(figure.png, alt, figure.width, figure.height), class_="paper")
        drawn.append(tag("figure", paper, caption, class_=shape))
    return [tag("div", *drawn, class_="figures")] if drawn else []


def views(record: PhaseRecord) -> list[Element]:
    """Return the stored pages, each in a frame."""
    parts = []
    for page in record.pages:
        frame = embedded(page.html, f"{page.name} of {record.status.title or record.status.slug}")
        words = "Turn it with the mouse or a finger. It draws itself from what is inside this page."
        caption = tag("figcaption", tag("strong", page.name), f". {words}")
        paper = tag("p", f"The view {page.name} can be turned on a screen only.", class_="on-paper")
        parts.append(tag("figure", frame, paper, caption, class_="view"))
    return parts


def _folded(words: str, inside: Element) -> Element:
    return tag("details", tag("summary", words), inside)
