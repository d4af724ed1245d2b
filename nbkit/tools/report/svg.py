"""Charts that live inside a page: drawn by matplotlib, coloured by the page.

Every colour of the drawing is a name that the page's style gives a value, so one drawing is right in light, in dark and
on paper; its text is text, in the page's own letters.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#000001", "#000002", "#000003"
SERIES = tuple(f"#0000a{number}" for number in range(1, 7))
_NAMES = {INK: "ink", FAINT: "faint", GRID: "grid"} | {code: f"s{i}" for i, code in enumerate(SERIES, 1)}
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"

ElementTree.register_namespace("", _SVG)


@contextmanager
def drawing(width: float = 3.9, height: float = 2.3) -> Iterator[tuple[Figure, Axes]]:
    """Return an empty chart of so many inches, in the page's colours; closed afterwards."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    inks = {
        f"{what}.{part}": INK
        for what, part in (("axes", "labelcolor"), ("text", "color"), ("axes", "titlecolor"), ("axes", "edgecolor"))
    }
    inks |= {"xtick.color": INK, "ytick.color": INK, "axes.edgecolor": FAINT, "grid.color": GRID}
    plain = {"svg.fonttype": "none", "font.size": 9.0, "axes.labelsize": 9.0, "xtick.labelsize": 8.5}
    with matplotlib.rc_context(plain | {"ytick.labelsize": 8.5, "text.parse_math": False} | inks):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, linewidth=0.6)
        axes.set_axisbelow(True)
        yield figure, axes


def plain_numbers(axis: object) -> None:
    """Write an axis's ticks as numbers of ordinary letters, also where it is logarithmic."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}")))
    axis.set_minor_formatter(NullFormatter())


def inline(figure: Figure, name: str, title: str, words: str) -> ElementTree.Element:
    """Return a chart as an SVG element for a page.

    Parameters
    ----------
    figure : matplotlib Figure
    name : str
        Unique on the page; its ids begin with it.
    title, words : str
        Its text alternative, short and long.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    for code, name_ in _NAMES.items():
        text = text.replace(code, f"var(--{name_})")
    text = re.sub(r"font-family: [^;\"]*'[^;\"]*", "font-family: inherit", text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    root = ElementTree.fromstring(text)
    used = {node.get(_LINK, "#")[1:] for node in root.iter()}
    used |= {clip for node in root.iter() for clip in re.findall(r"url\(#(\w+)\)", node.get("clip-path", ""))}
    for parent in root.iter():
        for child in [c for c in parent if c.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata")]:
            parent.remove(child)
        own = parent.attrib.pop("id", None)
        if own in used:
            parent.set("id", f"{name}-{own}")
        if (link := parent.attrib.pop(_LINK, None)) is not None:
            parent.set("href", f"#{name}-{link[1:]}")
        if "clip-path" in parent.attrib:
            parent.set("clip-path", re.sub(r"url\(#(\w+)\)", rf"url(#{name}-\1)", parent.get("clip-path", "")))
        if "d" in parent.attrib:
            parent.set("d", _short(parent.get("d", "")))
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("class", "chart")
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-words")
    for place, (tag, said) in enumerate((("title", title), ("desc", words))):
        label = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{'title' if tag == 'title' else 'words'}"})
        label.text = said
        root.insert(place, label)
    return root


def _short(path: str) -> str:
    """Write a path's numbers to a tenth of a point, on one line."""
    return " ".join(re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), path).split())
