"""The report: one HTML page with everything that a store has to show.

The page asks the network for nothing and needs no other file. The only scripts that run in it are those of views that
phases stored, each in a frame of its own.
"""

from __future__ import annotations

import base64
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbkit.ground import __version__
from nbkit.ground.fields import unknown
from nbkit.ground.files import write_atomically
from nbkit.ground.stand_in import is_stand_in
from nbkit.runtime.errors import UsageError
from nbkit.runtime.names import check_slug
from nbkit.runtime.store.protocol import Stat, Store
from nbkit.runtime.words import counted, printable
from nbkit.tools.notebooks import captions_of
from nbkit.tools.output import check_output, output_file
from nbkit.tools.phases import load_phases
from nbkit.tools.report import chart, sections, sessions_plot
from nbkit.tools.report.embedded import content_policy
from nbkit.tools.report.reading import PhaseRecord, read_record
from nbkit.tools.report.rendering import environment
from nbkit.tools.status.listing import Listing, list_once
from nbkit.tools.status.store_use import StoreUse, read_use, show_bytes
from nbkit.tools.status.table import still_takes, total

_SLUG = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FILTERS = (
    sections.ends_of, sections.facts_of, sections.labels_of, sections.main_figure, sections.main_scores,
    sections.shown_rivals, sections.progress_of, sections.rehearsed, sections.session_cells, sections.show_number,
    sections.state_class, sections.training_of, sections.unit_of,
    sessions_plot.sessions_chart, sessions_plot.sessions_text, captions_of, counted, still_takes,
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes
    ----------
    path : str
    size : int
        Bytes.
    phases : tuple of str
        Slugs that have a section on the page.
    figures, views, scores : int
        Numbers of them.
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
        """Return a few lines of text."""
        counts = f"{len(self.phases)} phases, {self.scores} scores, {self.figures} figures, {self.views} views"
        line = f"{self.path}: {show_bytes(self.size)}, {counts}, written in {self.seconds:.1f} s. Open it in a browser."
        return printable("\n".join([line, *(f"note: {note}" for note in self.notes)]))


def write_report(store: str | Store | Listing | None, path: str | Path, slugs: Sequence[str] | None = None) -> Report:
    """Read a store and write the page.

    Parameters
    ----------
    store : str, Store, Listing or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``. A listing is used as it is.
    path : str or path
    slugs : sequence of str or None
        Phases; by default all phases that the store holds, and the names of the others on the map.

    Raises
    ------
    UsageError
        For a path that cannot be written, or a slug that is neither on the map nor in the store.
    StoreError
        For a store that cannot be reached.
    """
    began = time.monotonic()
    check_output(path, "--out")
    listing = list_once(store)
    by_slug: dict[str, list[Stat]] = {}
    for stat in listing.list():
        by_slug.setdefault(stat.name.partition("/")[0], []).append(stat)
    known = {phase.slug: phase for phase in load_phases()}
    everything = [*known, *_others(by_slug, known)]
    wanted = [check_slug(slug) for slug in slugs] if slugs else everything
    for slug in wanted:
        if slug not in known and slug not in by_slug:
            raise UsageError(f"{unknown('phase', slug, everything)} Nothing was written.")
    with tempfile.TemporaryDirectory(prefix="nbkit-report-") as folder:
        records = [read_record(listing, slug, known.get(slug), by_slug.get(slug, []), Path(folder)) for slug in wanted]
    page = page_of(records, read_use(listing))
    with output_file(path, "--out") as target:
        write_atomically(target, lambda file: file.write(page))
    shown = list(filter(sections.has_begun, records))
    return Report(
        str(path), len(page), tuple(record.status.slug for record in shown), sum(len(r.figures) for r in shown),
        sum(len(r.pages) for r in shown), sum(len(r.scores) for r in shown), round(time.monotonic() - began, 2),
        tuple(f"{record.status.slug}: {note}" for record in records for note in record.notes),
    )  # fmt: skip


def _others(by_slug: dict[str, list[Stat]], known: dict[str, Any]) -> list[str]:
    """Return slugs beside the map that have a ledger or results; other folders of a shared store are no phases."""
    return sorted(
        slug
        for slug, stats in by_slug.items()
        if slug not in known
        and _SLUG.fullmatch(slug)
        and any(stat.name.startswith(f"{slug}/ledger/") or stat.name == f"{slug}/results.json" for stat in stats)
    )


def page_of(records: Sequence[PhaseRecord], use: StoreUse) -> bytes:
    """Return the page of what was read."""
    shown = list(filter(sections.has_begun, records))
    made = environment()
    made.filters |= {function.__name__: function for function in _FILTERS}
    made.filters["base64"] = lambda data: base64.b64encode(data).decode()
    page = made.get_template("page.html.jinja").render(
        records=shown,
        idle=[record for record in records if not sections.has_begun(record)],
        tiles=_tiles(shown, len(records), use),
        stand_ins=[record.status.slug for record in shown if is_stand_in(record.labels)],
        use=use,
        policy=content_policy(page.html for record in shown for page in record.pages),
        style=Path(__file__).with_name("page.css").read_text("utf-8"),
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        version=__version__,
        address=shown_url(use.url),
        width=chart.WIDTH,
        height=chart.HEIGHT,
    )
    return page.encode("utf-8")


def shown_url(url: str) -> str:
    """Return a store's address without a user name or password; of a folder its last part."""
    if "://" not in url:
        return Path(url).name or "the store"
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _tiles(shown: Sequence[PhaseRecord], count: int, use: StoreUse) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page, each with what it counts."""
    rows = [record.status for record in shown]
    takes, comma, rest = total(rows).partition(";")[0].removeprefix("together: ").partition(",")
    space = f"in the store, {use.files:,} files"
    if use.limit and use.used is not None:
        space = f"in the store; {use.share:.0%} of {show_bytes(use.limit)} used ({use.limit_is})"
    kinds = [f"{sum(row.killed for row in rows)} killed or not closed"]
    kinds += [f"{still} open now"] if (still := sum(len(row.open_now) for row in rows)) else []
    return [
        (f"{sum(row.state.startswith('complete') for row in rows)} of {count}", "phases complete"),
        *([(takes, f"of work left{comma}{rest}")] if takes else []),
        (f"{sum(row.sessions for row in rows)}", ", ".join(["sessions", *kinds])),
        (f"{sum(len(record.scores) for record in shown)}", "scores, each beside its baseline"),
        (show_bytes(use.size), space),
    ]
