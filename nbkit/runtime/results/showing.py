"""Scores, notes, figures, tables and pages of a phase, as files in the store.

Each is written to this machine's disk first, atomically, and then uploaded by the outbox, so that it survives a kill of
the session.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbkit.ground.figures import caption_stand_in
from nbkit.ground.files import write_atomically
from nbkit.ground.stand_in import label_page, stand_in_words
from nbkit.ground.tables import NoTable, rows_in
from nbkit.runtime.disk import on_disk
from nbkit.runtime.errors import UsageError
from nbkit.runtime.items.naming import folded
from nbkit.runtime.names import check_name, is_device
from nbkit.runtime.opened import closed
from nbkit.runtime.results.results import Results
from nbkit.runtime.results.rivals import in_words
from nbkit.runtime.store.address import hide

if TYPE_CHECKING:
    from nbkit.runtime.device import Device
    from nbkit.runtime.ledger.outbox import Outbox
    from nbkit.runtime.store.protocol import Store

LARGEST_PAGE = 24_000_000  # bytes; a view with its drawing library has 5 MB


class Showing:
    """The part of a session that is about results."""

    slug: str
    device: Device | None
    folder: Path
    store: Store
    outbox: Outbox
    _closed: bool
    _results: Results | None = None

    @property
    def results(self) -> Results:
        """The phase's scores, including those of earlier sessions."""
        if self._closed:
            raise closed(self.slug)
        if self._results is None:
            unsent = f"{self.slug}/results.json" in self.outbox.waiting()
            self._results = Results(self.slug, self.store, self.folder, unsent)
        return self._results

    def result(
        self,
        name: str,
        value: float,
        *,
        unit: str,
        baseline: float,
        baseline_is: str,
        anchor: float | None = None,
        anchor_is: str | None = None,
        low: float | None = None,
        high: float | None = None,
        over: str = "",
        rivals: Sequence[Mapping[str, Any]] = (),
        lower_is_better: bool = False,
    ) -> None:
        """Keep a score beside its trivial baseline in ``<slug>/results.json``, and print both.

        Parameters
        ----------
        name : str
        value : float
        unit : str
            ``"1"`` for a ratio.
        baseline : float
            Score of a trivial model, or chance level.
        baseline_is : str
            Description of the baseline.
        anchor : float or None
            Published value of the same measure.
        anchor_is : str or None
            Its source: authors, year, table.
        low, high : float or None
            The 95 % interval of the score; NaN is not known.
        over : str
            What the interval is over, such as "36 people".
        rivals : sequence of mapping
            Other models on the same data, each with name, value and difference (the score minus the value), and where
            they are known low, high, difference_low, difference_high, and p, corrected for the number of rivals. What
            can be said of each (better, worse, not distinguishable) is stored with it.
        lower_is_better : bool
            Whether the score is an error.
        """
        beside: dict[str, Any] = {
            "low": low,
            "high": high,
            "over": over,
            "rivals": rivals,
            "lower_is_better": lower_is_better,
        }
        self.results.metric(name, value, unit, baseline, baseline_is, anchor, anchor_is, **beside)
        self.outbox.send([(self.results.path, self.results.name)], "results.json")
        stored = self.results.content["metrics"][name]
        published = f"; published {stored['anchor']:.4g}: {anchor_is}" if "anchor" in stored else ""
        with_unit = f"{stored['value']:.4g}" + ("" if unit == "1" else f" {unit}")  # 1 is the unit of a ratio
        _print(f"{name} = {with_unit}   (baseline {stored['baseline']:.4g}: {baseline_is}{published})")
        if "low" in stored:
            _print(f"  {in_words(stored['value'], stored['low'], stored['high'], stored['over'])}")
        for rival in stored.get("rivals", ()):
            ends = in_words(rival["difference"], rival.get("difference_low"), rival.get("difference_high"))
            _print(f"  beside {rival['name']}, {rival['value']:.3f}: {rival['said']} ({ends})")

    def note(self, **facts: str) -> None:
        """Label the results, such as ``data="synthetic stand-in"`` or ``weights="random"``."""
        self.results.note(facts)
        self.outbox.send([(self.results.path, self.results.name)], "results.json")

    def on_device(self, thing: Any) -> Any:
        """Return a module or tensor on the device that this session trains on; the CPU if it was opened without one."""
        return thing.to("cpu" if self.device is None else self.device.torch_device)

    def figure(self, figure: Any, name: str, alt: str | None = None) -> None:
        """Keep a matplotlib figure as ``<slug>/figures/<name>.png`` in the store.

        A figure of stand-in data or untrained weights, as labelled by `note`, gets this label below it unless it has it
        already.

        Parameters
        ----------
        figure : matplotlib Figure or callable
            A function that draws it is called only if the store has no such figure yet: for what costs time and does
            not change from session to session.
        name : str
        alt : str or None
            Description for people who cannot see it, stored in the file. Its titles and axes by default.
        """
        file = self._file("figure", name, ".png")
        if callable(figure):
            if self.store.stat(file) is not None:
                print(f"{file} is in the store since an earlier session.")
                return
            figure = figure()
        if not all(hasattr(figure, name) for name in ("savefig", "findobj", "get_figwidth")):
            raise UsageError(
                f"The figure {name!r} is {type(figure).__name__}, which is no figure of matplotlib. Give one, such as "
                "plt.gcf(), or a function that returns one. Nothing was kept."
            )
        label = caption_stand_in(figure, self.results.content)
        buffer = io.BytesIO()
        alt = hide(alt or figure_in_words(figure), "")
        words = {"Description": f"{alt} ({label})" if label and label not in alt else alt}
        figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", metadata=words)
        self._show(buffer.getvalue(), f"figures/{name}.png", file)

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Keep rows as ``<slug>/tables/<name>.tsv`` in the store: tab-separated text, which `nbkit report` shows.

        Parameters
        ----------
        name : str
        rows : sequence of mapping, or data frame
            The same columns in each; a line break or tab in a text becomes a space.

        Raises
        ------
        UsageError
            If there is no row, or one has other columns than the first.
        """
        file = self._file("table", name, ".tsv")
        try:
            rows = rows_in(rows)
        except NoTable as error:
            raise UsageError(f"The table {name!r}: {error} Nothing was kept.") from None
        columns = list(rows[0]) if rows else []
        if not columns:
            raise UsageError(f"The table {name!r} has no row, or rows without a column. Nothing was kept.")
        if (odd := next((row for row in rows if list(row) != columns), None)) is not None:
            raise UsageError(
                f"A row of the table {name!r} has the columns {', '.join(map(str, odd)) or 'none'}; the first row has "
                f"{', '.join(map(str, columns))}. Give each row the same. Nothing was kept."
            )
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        for line in (columns, *(row.values() for row in rows)):
            writer.writerow([" ".join(hide(str(value), "").split()) for value in line])
        self._show(text.getvalue().encode("utf-8", "replace"), f"tables/{name}.tsv", file)

    def page(self, name: str, html: str) -> None:
        """Keep a page of HTML, such as an interactive brain, as ``<slug>/pages/<name>.html`` in the store.

        A page of stand-in data or untrained weights, as labelled by `note`, gets a line at its top that says so.

        Parameters
        ----------
        name : str
        html : str
            Complete, with its scripts: `nbkit report` embeds it without access to the network.

        Raises
        ------
        UsageError
            If the page is not text, or larger than 24 MB.
        """
        file = self._file("page", name, ".html")
        if not isinstance(html, str) or not html.strip():
            raise UsageError(f"The page {name!r} must be HTML as text, not {type(html).__name__}. Nothing was kept.")
        content = label_page(html, stand_in_words(self.results.content)).encode("utf-8", "replace")
        if len(content) > LARGEST_PAGE:
            raise UsageError(
                f"The page {name!r} has {len(content) / 1e6:.0f} MB; at most {LARGEST_PAGE // 10**6} are allowed. Draw "
                "it with fewer points, or keep it as an item's file. Nothing was kept."
            )
        self._show(content, f"pages/{name}.html", file)

    @cached_property
    def _shown(self) -> dict[str, str]:
        """What this session has kept, by a form in which names are equal that some file system takes for one."""
        return {}

    def _file(self, kind: str, name: str, ending: str) -> str:
        """Return the name in the store of a figure, table or page, if it can have one of its own everywhere."""
        file = check_name(f"{self.slug}/{kind}s/{name}{ending}", f"the {kind}")
        if is_device(name):
            raise UsageError(
                f"The {kind} {name!r} has a name that Windows keeps for a device. Rename it. Nothing was kept."
            )
        other = self._shown.setdefault(folded([file])[0], file)
        if other != file:
            raise UsageError(
                f"{file} and {other}, which this session has kept already, are one file where upper and lower case "
                "count as one. Rename one of them. Nothing was kept."
            )
        return file

    def _show(self, content: bytes, local: str, file: str) -> None:
        path = self.folder / local
        with on_disk(f"{file} was not written", self.folder, len(content)):
            write_atomically(path, lambda out: out.write(content))
        self.outbox.send([(path, file)], file)


def _print(text: str) -> None:
    """Print a line without the secrets of the addresses in it."""
    print(hide(text, ""))


def figure_in_words(figure: Any) -> str:
    """Return a figure's titles and axes as one line of text.

    Parameters
    ----------
    figure : matplotlib Figure
    """
    heading = getattr(figure, "_suptitle", None)
    parts = [heading.get_text()] if heading is not None else []
    for axes in figure.axes:
        label = " against ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))
        title = axes.get_title() or axes.get_title("left")
        named = [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []
        said = ": ".join(filter(None, (title, label))) + (f" ({', '.join(filter(None, named))})" if any(named) else "")
        if said:
            parts.append(said)
    whole = "; ".join(dict.fromkeys(" ".join(part.split()) for part in parts))
    return whole if len(whole) <= 600 else whole[:597] + "..."
