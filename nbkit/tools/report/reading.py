"""Everything that the report shows of a phase, read from the store.

What is missing or damaged becomes a note beside what is whole. No content of a store keeps the page from being written.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import NbkitError
from nbkit.runtime.items.fetching import read_rows
from nbkit.runtime.ledger.records import number_of
from nbkit.runtime.ledger.segments import LedgerState, read_state
from nbkit.runtime.store.protocol import Stat
from nbkit.runtime.words import printable
from nbkit.tools.phases import Phase
from nbkit.tools.report.embedded import without_calls, without_requests
from nbkit.tools.status.listing import Listing
from nbkit.tools.status.past_sessions import CountedState
from nbkit.tools.status.status import PhaseStatus, read_document, read_phase
from nbkit.tools.status.store_use import show_bytes

LARGEST_FIGURE = 8_000_000  # bytes
MOST_PIXELS = 40_000_000  # of a figure: more than a poster at 300 dpi needs, and 160 MB where it is decoded
LARGEST_VIEW = 24_000_000  # bytes of a page that is embedded
LARGEST_TABLE = 8_000_000  # bytes
FIGURES, VIEWS, TABLES, ROWS = 40, 6, 6, 400  # of one phase, and of a table; more make a page that no phone opens


@dataclass(frozen=True)
class Score:
    """One score of a results.json; `baseline` and `anchor` are None where the file has no number for them."""

    name: str
    value: float
    unit: str
    baseline: float | None
    baseline_is: str
    anchor: float | None = None
    anchor_is: str = ""
    interval: tuple[float, float] | None = None
    over: str = ""
    rivals: tuple[StoredRival, ...] = ()


@dataclass(frozen=True)
class StoredRival:
    """Another model on the same data: its score, the difference from it with interval and p, and what can be said."""

    name: str
    value: float
    said: str
    difference: float
    interval: tuple[float, float] | None = None
    p: float | None = None


@dataclass(frozen=True)
class StoredFigure:
    """A figure: its PNG, its size in pixels, and its text alternative."""

    name: str
    png: bytes
    width: int
    height: int
    words: str = ""


@dataclass(frozen=True)
class StoredTable:
    """A table of text: its columns, its first rows, and how many more it has."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0


@dataclass(frozen=True)
class StoredPage:
    """A page of HTML that asks the network for nothing."""

    name: str
    html: str


@dataclass
class PhaseRecord:
    """Everything that the report shows of one phase.

    Attributes
    ----------
    status : PhaseStatus
    phase : Phase or None
        Its row of the map; None for a slug beside the map.
    scores : list of Score
    labels : dict
        What the scores rest on: ``data``, ``weights`` and other notes.
    history : list of dict
        Logged rows, each with ``step``.
    figures : list of StoredFigure
    tables : list of StoredTable
    pages : list of StoredPage
    rehearsal : dict or None
    notes : list of str
        What is missing or damaged.
    """

    status: PhaseStatus
    phase: Phase | None
    scores: list[Score] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    figures: list[StoredFigure] = field(default_factory=list)
    tables: list[StoredTable] = field(default_factory=list)
    pages: list[StoredPage] = field(default_factory=list)
    rehearsal: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def read_record(store: Listing, slug: str, phase: Phase | None, stats: list[Stat], cache: Path) -> PhaseRecord:
    """Read everything that the store has of a phase.

    Parameters
    ----------
    store : Listing
    slug : str
    phase : Phase or None
    stats : list of Stat
        The files of this phase.
    cache : Path
        Folder for what is fetched.
    """
    try:
        state = read_state(store, slug, cache, CountedState())
        record = PhaseRecord(read_phase(store, slug, phase, cache, state), phase)
    except NbkitError as error:
        status = PhaseStatus(slug, phase.title if phase else "", "unreadable")
        return PhaseRecord(status, phase, notes=[f"Its records cannot be read: {error}"])
    record.notes += record.status.notes
    results = _document(store, f"{slug}/results.json", cache, record)
    if results is not None:
        record.scores, record.labels = _scores(results, record.notes)
    record.rehearsal = _document(store, f"{slug}/rehearsal.json", cache, None)
    sizes = {stat.name: stat.size for stat in stats}
    if f"{slug}/metrics.jsonl" in sizes:
        record.history = _history(_bytes(store, f"{slug}/metrics.jsonl", cache, record.notes), record.notes)
    for name in _first(_named(sizes, f"{slug}/figures/", ".png"), FIGURES, "figures", record):
        _take_figure(store, name, sizes[name], cache, record)
    for name in _first(_named(sizes, f"{slug}/tables/", ".tsv"), TABLES, "tables", record):
        _take_table(store, name, sizes[name], cache, record)
    pages = [*_named(sizes, f"{slug}/pages/", ".html"), *_item_pages(state)]
    for name in _first(pages, VIEWS, "pages", record):
        _take_page(store, name, sizes.get(name, 0), cache, record)
    record.figures.sort(key=lambda figure: _rank(figure.name, phase))
    if phase and record.status.state != "not begun":
        missing = [name for name in phase.figures if name not in {figure.name for figure in record.figures}]
        if missing:
            record.notes.append(f"figures that are not in the store yet: {', '.join(missing)}")
    return record


def _named(sizes: Mapping[str, int], prefix: str, suffix: str) -> list[str]:
    return sorted(name for name in sizes if name.startswith(prefix) and name.endswith(suffix))


def _first(names: list[str], count: int, what: str, record: PhaseRecord) -> list[str]:
    if len(names) > count:
        record.notes.append(f"{len(names) - count} more {what} are in the store, such as {names[count]}")
    return names[:count]


def _rank(name: str, phase: Phase | None) -> tuple[int, str]:
    """Return a figure's rank: the map's order, then the alphabet."""
    known = phase.figures if phase else ()
    return (known.index(name) if name in known else len(known)), name


def _document(store: Listing, name: str, cache: Path, record: PhaseRecord | None) -> dict[str, Any] | None:
    try:
        found, notes = read_document(store, name, cache)
    except NbkitError as error:
        found, notes = None, [f"{name} cannot be read: {error}"]
    if record is not None:
        record.notes += notes
    return found


def _bytes(store: Listing, name: str, cache: Path, notes: list[str]) -> bytes | None:
    path = cache / "shown" / name
    try:
        store.get(name, path)
        return path.read_bytes()
    except FileNotFoundError:
        return None  # removed since the listing
    except (NbkitError, OSError) as error:
        notes.append(f"{name} cannot be read: {error}")
        return None
    finally:
        path.unlink(missing_ok=True)


# -- scores ------------------------------------------------------------------------------------------------------------


def _scores(results: Mapping[str, Any], notes: list[str]) -> tuple[list[Score], dict[str, str]]:
    metrics = results.get("metrics", {})
    labels = {printable(name): printable(value) for name, value in results.items() if isinstance(value, str)}
    if not isinstance(metrics, dict):
        notes.append("results.json does not hold a table of scores")
        return [], labels
    found = []
    for name, row in metrics.items():
        value = number_of(row.get("value")) if isinstance(row, dict) else None
        if value is None:
            notes.append(f"the score {name!r} in results.json is not a number and is left out")
            continue
        words = {key: _text(row, key) for key in ("unit", "baseline_is", "anchor_is", "over")}
        baseline, anchor = number_of(row.get("baseline")), number_of(row.get("anchor"))
        found.append(Score(
            printable(name), value, words["unit"], baseline, words["baseline_is"], anchor, words["anchor_is"],
            _interval(row, "low", "high"), words["over"], _rivals(row),
        ))  # fmt: skip
    return found, labels


def _text(row: Mapping[str, Any], key: str) -> str:
    return printable(row[key]) if isinstance(row.get(key), str) else ""


def _interval(row: Mapping[str, Any], low: str, high: str) -> tuple[float, float] | None:
    ends = number_of(row.get(low)), number_of(row.get(high))
    return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])


def _rivals(row: Mapping[str, Any]) -> tuple[StoredRival, ...]:
    """Return the rivals of a score that are whole; others are left out."""
    rivals, found = row.get("rivals"), []
    for rival in rivals if isinstance(rivals, list) else ():
        if isinstance(rival, dict) and isinstance(rival.get("name"), str) and isinstance(rival.get("said"), str):
            value, difference = number_of(rival.get("value")), number_of(rival.get("difference"))
            if value is not None and difference is not None:
                ends = _interval(rival, "difference_low", "difference_high")
                words = _text(rival, "name"), _text(rival, "said")
                found.append(StoredRival(words[0], value, words[1], difference, ends, number_of(rival.get("p"))))
    return tuple(found)


def _history(data: bytes | None, notes: list[str]) -> list[dict[str, Any]]:
    rows, faults = read_rows(data or b"")
    if faults:
        notes.append(f"{len(faults)} lines of metrics.jsonl are damaged and left out of the curves")
    return rows


# -- figures, tables and pages -----------------------------------------------------------------------------------------


def _take_figure(store: Listing, name: str, size: int, cache: Path, record: PhaseRecord) -> None:
    if size > LARGEST_FIGURE:
        record.notes.append(f"{name} has {show_bytes(size)} and is left out of the page")
        return
    png = _bytes(store, name, cache, record.notes)
    if png is None:
        return
    from PIL import Image

    try:
        width, height = pixels_of(png)
        if width * height > MOST_PIXELS:
            record.notes.append(f"{name} has {width:,} x {height:,} pixels and is left out of the page")
            return
        with Image.open(BytesIO(png), formats=["PNG"]) as image:
            image.load()  # a torn file shows itself only here
            words = str(getattr(image, "text", {}).get("Description", ""))
    except Exception as error:  # a damaged image can raise nearly anything, and none of it is worth the page
        record.notes.append(f"{name} is not a whole PNG image and is left out: {type(error).__name__}: {error}")
        return
    short = name.partition("/figures/")[2].removesuffix(".png")
    record.figures.append(StoredFigure(short, png, width, height, words))


def pixels_of(png: bytes) -> tuple[int, int]:
    """Return the width and height in the header of a PNG, without decoding anything."""
    if png[:8] != b"\x89PNG\r\n\x1a\n" or png[12:16] != b"IHDR" or len(png) < 24:
        raise ValueError("it does not begin as a PNG does")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def _take_table(store: Listing, name: str, size: int, cache: Path, record: PhaseRecord) -> None:
    if size > LARGEST_TABLE:
        record.notes.append(f"{name} has {show_bytes(size)} and is left out of the page")
        return
    data = _bytes(store, name, cache, record.notes)
    if data is None:
        return
    try:
        columns, *rows = csv.reader(StringIO(data.decode("utf-8"), newline=""), delimiter="\t")
        if not columns or any(len(row) != len(columns) for row in rows):
            raise ValueError("its rows have different lengths")
    except (ValueError, csv.Error) as error:
        record.notes.append(f"{name} is not a whole table and is left out: {error}")
        return
    short, more = name.rpartition("/")[2].removesuffix(".tsv"), max(0, len(rows) - ROWS)
    record.tables.append(StoredTable(short, tuple(columns), tuple(map(tuple, rows[:ROWS])), more))


def _item_pages(state: LedgerState) -> list[str]:
    """Return the names of pages that are outputs of items."""
    outputs = state.done.values()
    return sorted({str(output[0]) for one in outputs for output in one if str(output[0]).endswith(".html")})


def _take_page(store: Listing, name: str, size: int, cache: Path, record: PhaseRecord) -> None:
    if size > LARGEST_VIEW:
        record.notes.append(f"{name} has {show_bytes(size)} and is left out of the page")
        return
    data = _bytes(store, name, cache, record.notes)
    if data is None:
        return
    html, asks = without_requests(data.decode("utf-8", "replace"))
    if asks:
        record.notes.append(f"{name} asks the network for {', '.join(asks[:3])} and is left out of the page")
        return
    record.pages.append(StoredPage(name.rpartition("/")[2].removesuffix(".html"), without_calls(html)))
