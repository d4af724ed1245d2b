"""Pages of HTML that phases stored, and what keeps them from the network and from the report around them.

The report's own policy lets only their scripts run, known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from binascii import a2b_base64
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

# attributes whose address a browser fetches by itself; those of other elements with these names do no harm
_ASKS = (
    "src", "srcset", "imagesrcset", "data", "poster", "background", "manifest", "action", "formaction", "ping",
    "xlink:href", "lowsrc", "dynsrc", "archive", "codebase", "classid", "code", "profile", "attributionsrc",
)  # fmt: skip
_LISTS = ("srcset", "imagesrcset", "ping", "archive")  # several addresses, with other words between them
_SIZE = re.compile(r"[0-9.e+-]++[wxh](?:,++|\Z)")
_FOLLOWED = ("a", "area")  # their href is fetched at a click only
_ANIMATED = ("animate", "set", "animatetransform", "animatemotion")  # may put an address into another element
_CSS = re.compile(r"""(?:url|src)\(\s*["']?([^"')]*)|@import\s*["']([^"']*)""", re.IGNORECASE)
_IMAGE_SET = re.compile(r"image-set\(([^;}]*)", re.IGNORECASE)
_STRING = re.compile(r"""(type\(\s*)?(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_VARIABLE = re.compile(r"(?:image-set|src)\([^;}(]*(?:var|attr|env)\(", re.IGNORECASE)
_CSS_HIDDEN = re.compile(r"\\([0-9a-f]{1,6})\s?|/\*.*?(?:\*/|\Z)", re.IGNORECASE | re.DOTALL)
_REFRESH = re.compile(r"\s*+[\d.]*+(?:\s*+[;,]|\s)\s*+(?:url\s*+=\s*+)?[\"']?\s*+([^\"']++)", re.IGNORECASE)
_COMMENT_END = re.compile(r"\A-?>|--!>")  # where browsers end a comment, too
# elements whose content is text up to their end tag, which may hold attributes
_TEXT_ONLY = ("script", "style", "title", "textarea", "iframe", "noframes", "noembed", "xmp")
_DEEPEST = 5  # pages within pages
_DEEPEST_SVG = 100  # elements of SVG and MathML, open at a time
_UNFINISHED = 4  # tags and comments without an end, after each of which the parser reads the rest of the page again
_MOST_ICONS = 10
_FOREIGN = ("svg", "math")  # inside these, such content is markup as any other
# inside these, ordinary elements begin again, and the end tags of the elements around them count for nothing
_ORDINARY = ("foreignobject", "desc", "annotation-xml", "mi", "mo", "mn", "ms", "mtext")
_DOCUMENTS = ("iframe", "frame", "object", "embed", "portal")  # what they load is a page of its own
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_MEDIA = ("data:image/", "data:audio/", "data:video/", "data:font/", "data:application/font")
_CALLS = re.compile(r"(?:webkit|moz)?RTCPeerConnection")  # most browsers do not know the policy that stops it

_NO_CALLS = "<script>for (const kind of ['', 'webkit', 'moz']) delete window[kind + 'RTCPeerConnection']</script>"
_DOCTYPE = re.compile(r"\ufeff?(?:\s++|<!--(?:(?!-->).)*+-->)*+<!doctype[^>]*+>", re.IGNORECASE | re.DOTALL)


def without_requests(html: str) -> tuple[str, list[str]]:
    """Return a page without its icon, and the addresses that its elements and styles would fetch when it is opened.

    What its scripts would fetch, only the policy of the page around it stops.

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
    asks = found.asks
    # read in other ways, too, as browsers do that run scripts, or that know no elements inside a list to choose from
    for element in ("noscript", "select"):
        if f"<{element}" in html.lower():
            asks = asks + _Reader(html, other=element).asks
    if len(found.icons) > _MOST_ICONS:
        return html, [*asks, f"{len(found.icons)} icons"]
    for icon in found.icons:
        html = html.replace(icon, "", 1)
    return html, list(dict.fromkeys(asks))


def without_calls(html: str) -> str:
    """Return a page whose scripts find no WebRTC, with which they could reach other machines past any policy."""
    if not script_hashes(html):
        return html
    start = _DOCTYPE.match(html)
    at = start.end() if start else 0  # a page with anything before its doctype is drawn in another way
    return html[:at] + _NO_CALLS + html[at:]


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


def _is_elsewhere(address: str) -> bool:
    """Return whether a browser would have to ask for an address."""
    # browsers pass over these characters in addresses
    plain = re.sub(r"[\t\n\r]", "", address).strip("".join(map(chr, range(33)))).lower()
    return bool(plain) and not plain.startswith(("data:", "#", "about:", "blob:", "javascript:", "mailto:"))


def _in_style(css: str) -> list[str]:
    """Return the addresses in a style sheet, also those written with escapes or split by comments."""
    plain = _CSS_HIDDEN.sub(lambda m: chr(min(int(m[1], 16), 0x10FFFF)) if m[1] else "", css)
    found = [address for some in _CSS.findall(plain) for address in some]
    for inside in _IMAGE_SET.findall(plain):
        found += [one or other for kind, one, other in _STRING.findall(inside) if not kind]
    return [address for address in found if _is_elsewhere(address)] + _VARIABLE.findall(plain)


def _of_list(value: str) -> list[str]:
    """Return the addresses in a list of them, without the words on size that may follow each."""
    words = [word.strip(",") for word in value.split()]
    return [address for word in words if (address := word[found.end() :] if (found := _SIZE.match(word)) else word)]


class _UnfinishedError(Exception):
    """Too many parts of a page have no end."""


class _Reader(HTMLParser):
    """Collect the addresses that a page loads, its icons, and the text of its scripts.

    Where this reads as text or as a comment what a browser may read as markup, it is read as markup as well.
    """

    CDATA_CONTENT_ELEMENTS = _TEXT_ONLY

    def __init__(self, html: str, depth: int = 0, other: str = "") -> None:
        super().__init__()
        self._depth, self._other = depth, other
        if other == "noscript":
            self.CDATA_CONTENT_ELEMENTS = (*_TEXT_ONLY, other)
        self.asks: list[str] = []
        self.icons: list[str] = []
        self.scripts: list[str] = []
        self._inside, self._foreign, self._unfinished, self._choosing = "", list[str](), 0, False
        try:
            self.feed(html)
            self.close()
        except _UnfinishedError:
            self.asks.append("what is left open too often to be read")
        else:
            if self.rawdata:  # of a style that does not end, which counts in a browser
                self.handle_data(self.rawdata)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.CDATA_CONTENT_ELEMENTS:
            self._inside = tag
        if tag in _FOREIGN or (self._foreign and tag in _ORDINARY):
            self._foreign.append(tag)
            if len(self._foreign) > _DEEPEST_SVG:
                raise _UnfinishedError
        self._choosing |= tag == self._other == "select"
        if tag == "script":
            self.scripts.append("")
        given = {name: value or "" for name, value in reversed(attrs)}  # of two, browsers take the first
        found = self._addresses(tag, given)
        if tag == "link" and found and "icon" in given.get("rel", "").lower().split():
            self.icons.append(self.get_starttag_text() or "")
        else:
            self.asks += found

    def _addresses(self, tag: str, given: dict[str, str]) -> list[str]:
        found = [given[name] for name in _ASKS if name in given and name not in _LISTS]
        for name in _LISTS:
            found += _of_list(given.get(name, ""))
        if tag not in _FOLLOWED:
            found.append(given.get("href", ""))
        if tag in _ANIMATED and "href" in given.get("attributename", "").lower():
            found += [given.get(name, "") for name in ("to", "from", "by")] + given.get("values", "").split(";")
        if tag == "meta" and given.get("http-equiv", "").strip().lower() in ("refresh", "link"):
            found += [refresh[1]] if (refresh := _REFRESH.match(given.get("content", ""))) else []
        elsewhere = [address for address in found if _is_elsewhere(address)]
        for address in found:
            self._read_inside(tag, address)
        for value in given.values():  # of the style attribute and of SVG's own: fill, filter, mask, cursor
            elsewhere += _in_style(value) if "(" in value else []
            elsewhere += _CALLS.findall(value)[:1]
        if "srcdoc" in given:
            self._read_too(given["srcdoc"])
        return elsewhere

    def _read_inside(self, tag: str, address: str) -> None:
        """Read the page or the style sheet that an address holds itself."""
        plain = re.sub(r"[\t\n\r]", "", address).strip("".join(map(chr, range(33))))
        kind = plain[:30].lower()
        if kind.startswith("data:") and (tag in _DOCUMENTS or not kind.startswith(_MEDIA)):
            head, _, content = plain.partition(",")
            content = unquote(content)
            if ";base64" in head.lower():
                content = a2b_base64(_NOT_BASE64.sub("", content) + "==").decode("utf-8", "replace")
            self.asks += _in_style(content)
            self._read_too(content)
        elif kind.startswith("javascript:"):
            self._read_too(unquote(plain))

    def _counted(self, end: int) -> int:
        """Return where a part ends; raise an error if too many have none."""
        self._unfinished += end < 0
        if self._unfinished > _UNFINISHED:
            raise _UnfinishedError
        return end

    def parse_starttag(self, i: int) -> int:
        return self._counted(super().parse_starttag(i))

    def parse_html_declaration(self, i: int) -> int:
        return self._counted(super().parse_html_declaration(i))

    def parse_comment(self, i: int, report: Any = 1) -> int:
        return self._counted(super().parse_comment(i, report))

    def parse_pi(self, i: int) -> int:
        return self._counted(super().parse_pi(i))

    def set_cdata_mode(self, elem: str, **more: Any) -> None:
        if self._choosing and elem != "script":
            self._inside = ""
            return
        super().set_cdata_mode(elem, **more)
        self.interesting = re.compile(rf"</{elem}(?=[\s/>])", re.IGNORECASE)

    def parse_endtag(self, i: int) -> int:
        if self.cdata_elem is not None:  # the parser knows no end tags with attributes there
            attributes = r"""(?:[\s/](?>=\s*"[^"]*"|=\s*'[^']*'|[^>])*+)?"""
            end = re.compile(f"</{self.cdata_elem}{attributes}>", re.IGNORECASE).match(self.rawdata, i)
            if end is not None:
                self.clear_cdata_mode()
                self.handle_endtag(self._inside)
                return end.end()
        return self._counted(super().parse_endtag(i))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._foreign:
            last = len(self._foreign) - self._foreign[::-1].index(tag) - 1
            if tag in _ORDINARY or not any(one in _ORDINARY for one in self._foreign[last:]):
                del self._foreign[last:]
        self._choosing &= tag != "select"
        if tag == self._inside:
            self._inside = ""

    def handle_comment(self, data: str) -> None:
        if (end := _COMMENT_END.search(data)) is not None:
            self._read_too(data[end.end() :])

    def unknown_decl(self, data: str) -> None:
        self._read_too(data.partition(">")[2])  # "<![CDATA[" of a page, but not of SVG, ends there

    def _read_too(self, html: str) -> None:
        if "<" in html and self._depth < _DEEPEST:
            self.asks += _Reader(html, self._depth + 1, self._other).asks
        elif "<" in html:
            self.asks.append("what is nested too deeply to be read")

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
            self.asks += _CALLS.findall(data)[:1]
        elif self._inside == "style":
            self.asks += _in_style(data)
        if self._inside and self._foreign:
            self._read_too(data)
