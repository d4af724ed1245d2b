"""Addresses of stores as people may see them: without the passwords and tokens that they hold.

An address may say who is asking: ``ftp://me:PASSWORD@host/folder``, ``https://host/folder?sig=TOKEN``. Whatever is
printed or kept in a file has the address as `show` returns it. Two stores never look alike because of it, except for
the secrets themselves, so the shown address is also the name of a store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from nbkit.runtime.words import abridged, printable

HIDDEN = "***"
_LOOKED_AT = 200_000  # characters of a text
_HARMLESS = {"endpoint", "endpoint_url", "region", "project", "host", "port", "version", "anon", "timeout", "protocol"}
_TOKEN_USERS = ("http", "https", "dav", "davs", "webdav", "webdavs", "github", "gist", "git", "hf")
_URL = re.compile(r"[A-Za-z][\w.+-]{0,40}://[^\s'\"<>`]+")  # bounded: a long word is not tried from each letter
_CHAINED = re.compile(r"::(?=[A-Za-z][\w.+-]*(?:://|::|$))")  # such as simplecache::ftp://...
_SCHEME = re.compile(r"\s*[A-Za-z][\w.+-]*")
_FOLDER = re.compile(r"[/\\](?![/\\])|\.{1,2}[/\\]|~|[A-Za-z]:[/\\]")  # begins a path that was meant as one
_IN_A_FOLDER = re.compile(r"(?:^|[/\\])[A-Za-z][\w.+-]+:[/\\\s:]*(?=[^/\\@]*:.*@|[^?#@]*[?#].*=)", re.DOTALL)
_LOOKS_LIKE_ONE = re.compile(r"\s*([A-Za-z][\w.+-]+)[:;]")
_SCHEMES = (
    "abfs az box dav davs dropbox file ftp ftps gcs gdrive github gs hdfs hf http https memory oci oss s3 s3a scp sftp "
    "smb ssh webdav webhdfs"
).split()
_PATH_VALUE = re.compile(r";[^=/;]+=([^/;]+)")  # such as ;jsessionid=secret
_SHORTEST = 4  # letters; shorter ones are ordinary parts of words


def show(address: str | os.PathLike[str]) -> str:
    """Return an address without its passwords and tokens.

    Examples
    --------
    >>> show("sftp://me:secret@host/folder"), show("az://data/x?sig=abc&version=2")
    ('sftp://me:***@host/folder', 'az://data/x?sig=***&version=2')
    """
    return "".join(HIDDEN if secret else part for part, secret in _parts(os.fspath(address)))


def has_secrets(address: str | os.PathLike[str]) -> bool:
    """Return whether an address holds a password or token, or did before it was shown."""
    return any(secret for _, secret in _parts(os.fspath(address)))


def looks_mistyped(address: str) -> bool:
    """Return whether a text without ``://`` must not be taken for a folder, because a URL was certainly meant.

    It begins as a URL does, or it holds what would be the password of one.
    """
    if "://" in address or _FOLDER.match(address):
        return False
    begin = _LOOKS_LIKE_ONE.match(address)
    return bool(begin and begin[1].lower() in _SCHEMES) or has_secrets(address)


def hide(text: str, address: str | os.PathLike[str] = "") -> str:
    """Return a text without the secrets of an address in any of their spellings, and of every URL in it.

    Parameters
    ----------
    text : str
        Such as the message of an error.
    address : str
        Of the store that it is about.
    """
    text = _URL.sub(lambda found: show(found[0]), text)
    for secret in sorted(_secrets(os.fspath(address)), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def presentable(text: str, most: int = 4000) -> str:
    """Return a text as it may be printed and kept: without secrets, of bounded length, fit for any stream.

    Secrets go first: of an address that is cut in the middle nobody could tell that it was one. Only of megabytes a
    part is looked at, whose cut is far from what is shown.
    """
    return printable(abridged(hide(abridged(text, _LOOKED_AT)), most))


def hide_in(document: Any, address: str | os.PathLike[str]) -> Any:
    """Return a JSON document in which every text is without the secrets of an address."""
    if isinstance(document, dict):
        return {hide_in(name, address): hide_in(value, address) for name, value in document.items()}
    if isinstance(document, list):
        return [hide_in(value, address) for value in document]
    return hide(document, address) if isinstance(document, str) else document


def _secrets(address: str) -> set[str]:
    """Return the secrets of an address as they may stand in a message: as they are, decoded, encoded."""
    found = set()
    for secret in (part for part, is_secret in _parts(address) if is_secret and part != HIDDEN):
        # a password with a slash in it is taken apart by those who read the address
        plain = {secret, unquote(secret), unquote_plus(secret), *re.split("[/?#@:]", secret)}
        found |= plain | {spell(one) for one in plain for spell in (quote, quote_plus, _quote_all, _escaped)}
    return {one for one in found if len(one) >= _SHORTEST}


def _quote_all(text: str) -> str:
    return quote(text, safe="")


def _escaped(text: str) -> str:
    return repr(text)[1:-1]


def _parts(address: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of an address in their order, each with whether it is a secret."""
    for number, link in enumerate(_CHAINED.split(address)):
        if number:
            yield "::", False
        scheme, colon, rest = link.partition("://")
        if not colon or not _SCHEME.fullmatch(scheme):
            yield from _without_scheme(link)
            continue
        yield scheme + colon, False
        user, secret, rest = _user_of(scheme.lower(), rest)
        if user:
            yield user, False
        if secret:
            yield secret, True
        yield from _query_of(rest)


def _without_scheme(link: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a path, or of an address that was mistyped: ``//me:secret@host``, ``ftp:me:secret@host``.

    Whatever stands between the first colon and the last @ may be the secret. In a path that was meant as one, a name
    may hold both; there, an address is what begins with a scheme, as one that was made absolute by mistake.
    """
    begin = 0
    if _FOLDER.match(link):
        found = _IN_A_FOLDER.search(link)
        if not found:
            yield link, False
            return
        begin = found.end()
    colon, end = link.find(":", begin), link.rfind("@")
    if begin <= colon < end:
        start = colon + 1
        while start < end and link[start] in ":;/\\ ":
            start += 1
        yield link[:start], False
        yield link[start:end], start < end
        begin = end
    elif not begin and not _LOOKS_LIKE_ONE.match(link):
        yield link, False
        return
    else:
        yield link[:begin], False
    yield from _query_of(link[begin:])


def _user_of(scheme: str, rest: str) -> tuple[str, str, str]:
    """Return what stands in front of the secret of the user, that secret, and what follows it."""
    more = len(rest) - len(rest.lstrip("/\\ "))  # a slash too many
    authority = re.split(r"[/?#]", rest[more:], maxsplit=1)[0]
    end = more + authority.rfind("@") if "@" in authority else -1
    name, _, port = authority.partition(":")
    if end < 0 and not authority.startswith("[") and not (port or "0").isdigit():
        end = rest.rfind("@")  # no port: the beginning of a password with a slash in it, which no store can open
        if end < 0 and len(name) > 1 and not more:  # its @ was mistyped
            end = len(authority)
    if end < 0:
        return "", "", rest
    name, colon, password = rest[:end].partition(":")
    if colon:
        return name + colon, password, rest[end:]
    return ("", name, rest[end:]) if scheme.split("+")[-1] in _TOKEN_USERS else (name, "", rest[end:])


def _query_of(rest: str) -> Iterator[tuple[str, bool]]:
    """Yield a path and its query; the values of its names are secrets, but for some that are known not to be."""
    path, mark, query = rest.partition("?")
    head, sharp, fragment = path.partition("#")
    if not mark and "=" in fragment:
        path, mark, query = head, sharp, fragment
    end = 0
    for found in _PATH_VALUE.finditer(path):
        yield path[end : found.start(1)], False
        yield found[1], True
        end = found.end()
    yield path[end:] + mark, False
    for piece in re.split(r"([&;#])", query):
        name, equals, value = piece.partition("=")
        if "://" in value and name.lower() in _HARMLESS:
            yield name + equals, False
            yield from _parts(value)
        elif piece in ("&", ";", "#", "") or name.lower() in _HARMLESS:
            yield piece, False
        elif equals:
            yield name + equals, False
            yield value, bool(value)
        else:
            yield piece, True
