"""Pages of HTML that phases stored, and what keeps them from the network and from the report around them.

The report's own policy lets only their scripts run, known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html.parser import HTMLParser

_ASKS = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src", "object": "data"}


def without_requests(html: str) -> tuple[str, list[str]]:
    """Return a page without its icon, and the addresses that it would fetch when it is opened.

    Parameters
    ----------
    html : str

    Returns
    -------
    html : str
        With line ends as a browser reads them, because the hashes of its scripts depend on them.
    asks : list of str
        Empty where the page needs no other file.
    """
    html = html.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "�")
    found = _Reader(html)
    for icon in found.icons:
        html = html.replace(icon, "", 1)
    return html, found.asks


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
    digests = (hashlib.sha256(text.encode("utf-8")).digest() for text in _Reader(html).scripts)
    return [base64.b64encode(digest).decode() for digest in digests]


class _Reader(HTMLParser):
    """Collect the addresses that a page loads, its icons, and the text of its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.asks: list[str] = []
        self.icons: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self._in_script = True
            self.scripts.append("")
        given = dict(attrs)
        address = given.get(_ASKS.get(tag, ""), None)
        if address is None or address.startswith(("data:", "#", "about:")):
            return
        if tag == "link" and "icon" in (given.get("rel") or ""):
            self.icons.append(self.get_starttag_text() or "")
        else:
            self.asks.append(address)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
