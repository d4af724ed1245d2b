"""The report: one page of HTML that holds all a store has to show.

Nothing is asked of the network when it is opened, nothing outside of the file is needed, and no script runs in it but
those of views that phases stored, each in a frame of its own.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from nbkit.ground import __version__
from nbkit.ground.files import write_atomically
from nbkit.ground.stand_in import is_stand_in
from nbkit.runtime.errors import UsageError
from nbkit.runtime.names import check_slug
from nbkit.runtime.store.protocol import Stat, Store
from nbkit.runtime.words import unknown
from nbkit.tools.phases import load_phases
from nbkit.tools.report.html import add, document, table, tag
from nbkit.tools.report.reading import PhaseRecord, read_record
from nbkit.tools.report.sections import done_words, main_scores, section, state_of
from nbkit.tools.status.status import store_of
from nbkit.tools.status.store_use import StoreUse, read_use, show_bytes
from nbkit.tools.status.table import still_takes, total

_SLUG = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True)
class Report:
    """Say what was written.

    Attributes
    ----------
    path : str
    size : int
        Bytes.
    phases : tuple of str
        Slugs that have a part of the page.
    figures, views, scores : int
    seconds : float
    notes : tuple of str
        What is missing or damaged in the store.
    """

    path: str
    size: int
    phases: tuple[str, ...]
    figures: int
    views: int
    scores: int
    seconds: float
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    def words(self) -> str:
        """Say it in a few lines."""
        counts = f"{len(self.phases)} phases, {self.scores} scores, {self.figures} figures, {self.views} views"
        line = f"{self.path}: {show_bytes(self.size)}, {counts}, made in {self.seconds:.1f} s. Open it in any browser."
        return "\n".join([line, *(f"note: {note}" for note in self.notes)])


def write_report(store: str | Store | None, path: str | Path, slugs: Sequence[str] | None = None) -> Report:
    """Read a store and write the page.

    Parameters
    ----------
    store : str, Store or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``.
    path : str or path
    slugs : sequence of str or None
        Phases; all that the store holds, and the map's others by name, by default.

    Raises
    ------
    UsageError
        For a path that cannot be written, or a slug that neither the map nor the store has.
    StoreError
        For a store that cannot be reached.
    """
    began = time.monotonic()
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder; give the name of a file in it, such as {path / 'report.html'}.")
    opened = store_of(store)
    by_slug: dict[str, list[Stat]] = {}
    for stat in opened.list():
        by_slug.setdefault(stat.name.partition("/")[0], []).append(stat)
    use = read_use(opened, [stat for stats in by_slug.values() for stat in stats])
    known = {phase.slug: phase for phase in load_phases()}
    wanted = [check_slug(slug) for slug in slugs] if slugs else [*known, *_others(by_slug, known)]
    for slug in wanted:
        if slug not in known and slug not in by_slug:
            raise UsageError(f"{unknown('phase', slug, [*known, *_others(by_slug, known)])} Nothing was written.")
    with tempfile.TemporaryDirectory(prefix="nbkit-report-") as folder:
        records = [read_record(opened, slug, known.get(slug), by_slug.get(slug, []), Path(folder)) for slug in wanted]
    page = page_of(records, use)
    try:
        write_atomically(path, lambda file: file.write(page))
    except OSError as error:
        raise UsageError(f"the page cannot be written to {path}: {error.strerror}. Give another --out.") from None
    shown = [record for record in records if has_begun(record)]
    return Report(
        str(path), len(page), tuple(record.status.slug for record in shown), sum(len(r.figures) for r in shown),
        sum(len(r.pages) for r in shown), sum(len(r.scores) for r in shown), round(time.monotonic() - began, 2),
        tuple(f"{record.status.slug}: {note}" for record in records for note in record.notes),
    )  # fmt: skip


def _others(by_slug: dict[str, list[Stat]], known: dict[str, Any]) -> list[str]:
    """Return slugs beside the map that have a ledger or results; other folders of a shared place are no phases."""
    return sorted(
        slug
        for slug, stats in by_slug.items()
        if slug not in known
        and _SLUG.fullmatch(slug)
        and any(stat.name.startswith(f"{slug}/ledger/") or stat.name == f"{slug}/results.json" for stat in stats)
    )


def has_begun(record: PhaseRecord) -> bool:
    """Return whether there is anything to show of a phase."""
    return record.status.state != "not begun" or bool(record.scores or record.figures or record.pages or record.notes)


def page_of(records: Sequence[PhaseRecord], use: StoreUse) -> bytes:
    """Return the page of what was read."""
    shown = [record for record in records if has_begun(record)]
    idle = [record for record in records if not has_begun(record)]
    main = tag("main", _head(use), _tiles(shown, len(records), use), _warning(shown), _overview(shown))
    for record in shown:
        main.append(section(record, use.phases.get(record.status.slug, 0)))
    if idle:
        lines = (tag("li", tag("code", r.status.slug), f" {r.status.title}") for r in idle)
        add(main, tag("section", tag("h2", "Not begun"), tag("ul", *lines, class_="idle"), id="not-begun"))
    add(main, _foot())
    body = tag("body", tag("a", "To the phases", href="#phases", class_="skip"), _side(shown), main)
    style = Path(__file__).with_name("page.css").read_text("utf-8")
    return document("nbkit report", style, body, [page.html for record in shown for page in record.pages])


def _head(use: StoreUse) -> Element:
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    under = tag("p", "Made ", tag("time", made), f" by nbkit {__version__} from ", tag("code", shown_url(use.url)), ".")
    add(under, " Numbers are those that the phases stored.")
    return tag("header", tag("h1", "nbkit report"), under)


def shown_url(url: str) -> str:
    """Return a store's address without a name or password in it; of a folder its last part."""
    if "://" not in url:
        return Path(url).name or "the store"
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _tiles(shown: Sequence[PhaseRecord], count: int, use: StoreUse) -> Element:
    rows = [record.status for record in shown]
    killed = sum(row.killed for row in rows)
    takes = total(rows).partition(";")[0].removeprefix("together: ")
    tiles = [
        (f"{sum(row.state.startswith('complete') for row in rows)} of {count}", "phases complete"),
        (f"{sum(row.sessions for row in rows)}", f"sessions, {killed} killed or not closed"),
        (f"{sum(len(record.scores) for record in shown)}", "scores, each beside its baseline"),
        (show_bytes(use.size), _room(use)),
    ]
    if takes:
        tiles.insert(1, (takes.partition(",")[0], "of work left" + takes[len(takes.partition(",")[0]) :]))
    return tag("ul", *(tag("li", tag("strong", what), " ", tag("span", of)) for what, of in tiles), class_="tiles")


def _room(use: StoreUse) -> str:
    if use.limit and use.used is not None:
        return f"in the store; {use.share:.0%} of {show_bytes(use.limit)} used ({use.limit_is})"
    return f"in the store, {use.files:,} files"


def _warning(shown: Sequence[PhaseRecord]) -> Element | None:
    odd = [record.status.slug for record in shown if is_stand_in(record.labels)]
    if not odd:
        return None
    links = [part for slug in odd for part in (tag("a", slug, href=f"#phase-{slug}"), ", ")][:-1]
    words = "Scores of these phases rest on stand-in data or random weights and say nothing about brains: "
    return tag("p", tag("strong", "Not results. "), words, *links, ".", class_="label odd")


def _overview(shown: Sequence[PhaseRecord]) -> Element:
    rows = []
    for record in shown:
        row = record.status
        number = f"{record.phase.number:02d} " if record.phase else ""
        sessions = f"{row.sessions}" + (f", {row.killed} not closed" if row.killed else "")
        first = tag("a", number + (row.title or row.slug), href=f"#phase-{row.slug}")
        beside = main_scores(record)
        rows.append([first, state_of(row.state), done_words(record), sessions, still_takes(row), beside])
    header = ("Phase", "State", "Done", "Sessions", "Still takes", "Main scores")
    if not rows:
        return tag("section", tag("h2", "Phases"), tag("p", "No phase has begun in this store."), id="phases")
    laid = table(header, rows, "All phases that have begun", stacks=True)
    return tag("section", tag("h2", "Phases"), laid, id="phases")


def _side(shown: Sequence[PhaseRecord]) -> Element:
    lines = []
    for record in shown:
        number, slug = f"{record.phase.number:02d}" if record.phase else "", record.status.slug
        lines.append(tag("li", tag("a", tag("span", number, class_="number"), f" {slug}", href=f"#phase-{slug}")))
    return tag("nav", tag("ul", *lines), aria_label="Phases")


def _foot() -> Element:
    words = (
        ("Killed or not closed", "a session without a closing record: its host ended it, or it runs now."),
        ("Goodput", "the part of the time in sessions, killed ones too, that was work which counts, each piece once."),
        ("At work", "the part of a session, from opening to close, in which its items were in work."),
        ("Baseline or chance", "what a trivial model or chance scores on the same data; stored with the score."),
        ("Published", "what the named source reports for the same measure; its data and sizes may differ."),
        ("Quota-week", "30 GPU hours, what Kaggle gives a person in a week."),
    )
    terms = tag("dl", *(tag("div", tag("dt", term), tag("dd", what)) for term, what in words), class_="facts")
    return tag("footer", tag("h2", "Words"), terms)
