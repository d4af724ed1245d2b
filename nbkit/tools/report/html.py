"""HTML as a tree of elements: what is put in is text, and becomes nothing else.

Names and errors come from a store that others may write to. They are set as text and attributes of elements, never
pasted into markup, and the page's own policy runs no script but those of embedded pages, known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser
from xml.etree.ElementTree import Element, tostring

Child = Element | str | None


def tag(name: str, /, *children: Child, **attributes: str | None) -> Element:
    """Return an element; ``class_`` stands for class, ``_`` for ``-``, and an attribute that is None is left out."""
    element = Element(name)
    for key, value in attributes.items():
        if value is not None:
            element.set(key.rstrip("_").replace("_", "-"), clean(value))
    return add(element, *children)


def add(element: Element, *children: Child) -> Element:
    """Put elements and text into an element, in order, and give it back."""
    for child in children:
        if child is None:
            continue
        if not isinstance(child, str):
            element.append(child)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + clean(child)
        else:
            element.text = (element.text or "") + clean(child)
    return element


def clean(text: str) -> str:
    """Return text without characters that a page cannot hold."""
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c in "\n\t" or c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in whole)


def coded_name(name: str) -> Element:
    """Return a name in code that may break after its underscores and nowhere else."""
    first, *rest = name.split("_")
    code = tag("code", first)
    for part in rest:
        add(code, Element("wbr"), f"_{part}")
    return code


def coded(text: str) -> list[Child]:
    """Return text in which `backticks` set names apart, as children of an element."""
    return [tag("code", part) if place % 2 else part for place, part in enumerate(text.split("`"))]


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[Child]],
    caption: str,
    numbers: Iterable[int] = (),
    stacks: bool = False,
) -> Element:
    """Return a table in a frame that scrolls by itself where a screen is narrow.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequence of Element, str or None
        The first cell of each is its heading.
    caption : str
    numbers : iterable of int
        Columns of numbers, set to the right.
    stacks : bool
        True for one whose cells stand below each other on a narrow screen, each under its column's name.
    """
    numbers = set(numbers)

    def kind(column: int) -> str | None:
        return "number" if column in numbers else None

    # roles stand here because a browser forgets them where cells are laid out otherwise than as a table
    head = tag("tr", role="row")
    for place, text in enumerate(header):
        head.append(tag("th", text, scope="col", role="columnheader", class_=kind(place)))
    body = tag("tbody", role="rowgroup")
    for first, *rest in rows:
        line = tag("tr", tag("th", first, scope="row", role="rowheader"), role="row")
        for place, cell in enumerate(rest, 1):
            own = " ".join(filter(None, (kind(place), "none" if cell == "-" else None)))
            line.append(tag("td", cell, role="cell", class_=own or None, data_label=header[place]))
        body.append(line)
    inside = (tag("caption", caption), tag("thead", head, role="rowgroup"), body)
    whole = tag("table", *inside, role="table", class_="stacks" if stacks else None)
    return tag("div", whole, class_="scrolls", tabindex="0", role="region", aria_label=caption)


def picture(png: bytes, alt: str, width: int, height: int) -> Element:
    """Return an image with all of it inside the page."""
    data = "data:image/png;base64," + base64.b64encode(png).decode()
    return Element("img", {"src": data, "alt": clean(alt), "width": str(width), "height": str(height)})


def embedded(html: str, title: str) -> Element:
    """Return another page in a frame that may draw and do nothing else: no network, no look at this page."""
    frame = Element("iframe", {"sandbox": "allow-scripts", "title": clean(title), "loading": "lazy"})
    frame.set("srcdoc", html)
    return frame


def document(title: str, style: str, body: Element, pages: Iterable[str]) -> bytes:
    """Return the whole page.

    Parameters
    ----------
    title, style : str
    body : Element
    pages : iterable of str
        HTML of the embedded pages, whose scripts may run.
    """
    hashes = sorted({f"'sha256-{digest}'" for page in pages for digest in script_hashes(page)})
    scripts = f"script-src {' '.join(hashes)} 'unsafe-eval'; worker-src blob:; " if hashes else ""
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; {scripts}"
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    page = tag("html", head, body, lang="en")
    return b"<!doctype html>\n" + tostring(page, encoding="unicode", method="html").encode("utf-8") + b"\n"


def script_hashes(html: str) -> list[str]:
    """Return the SHA-256 of every script that stands in a page, as a content security policy names them."""
    found = _Scripts()
    found.feed(html)
    found.close()
    return [base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode() for text in found.scripts]


class _Scripts(HTMLParser):
    """Collect the text of a page's scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self._inside = True
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data
