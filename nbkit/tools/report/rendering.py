"""HTML by Jinja2, in which nothing from a store becomes markup.

Names and errors come from a store that others may write to. Every value is escaped, and the page's own policy lets
only the scripts of embedded pages run, known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


@cache
def environment() -> Environment:
    """Return the environment of the page's and the panel's template."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def clean(value: Any) -> Any:
    """Return text without characters that a page cannot hold; markup and other values as they are."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    whole = value.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c in "\n\t" or c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in whole)


def content_policy(pages: Iterable[str]) -> str:
    """Return the content security policy of a page that asks the network for nothing.

    Parameters
    ----------
    pages : iterable of str
        HTML of the embedded pages, whose scripts may run.
    """
    hashes = sorted({f"'sha256-{digest}'" for page in pages for digest in script_hashes(page)})
    scripts = f"script-src {' '.join(hashes)} 'unsafe-eval'; worker-src blob:; " if hashes else ""
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; {scripts}"
        "base-uri 'none'; form-action 'none'"
    )


def script_hashes(html: str) -> list[str]:
    """Return the SHA-256 of every script in a page, in base64 as a content security policy names them."""
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
