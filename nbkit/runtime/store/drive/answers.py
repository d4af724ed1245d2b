"""The forms of Drive's answers, which every answer must have before it is used.

Between here and Drive, something else may answer: the login page of a hotel's network, a proxy, a cache. What has not
the form of what was asked for is not from Drive, whatever its status says. It is a passing fault, never an empty
listing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

Row = dict[str, Any]

_ID = re.compile(r"[\w.-]{1,300}", re.ASCII)
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_SIZE = re.compile(r"[0-9]{1,18}", re.ASCII)
_LISTING = "drive#fileList"
_SHOWN = 40  # characters of an odd value in a message


class OddAnswer(ValueError):
    """An answer has not the form of Drive's."""


def row(answer: Any, id: str | None = None) -> Row:
    """Return the metadata of a file or folder, of which only what was asked for is there.

    Parameters
    ----------
    answer : object
    id : str or None
        Of the file that was asked for.

    Raises
    ------
    OddAnswer
    """
    found = _object(answer)
    if "id" not in found:
        raise OddAnswer("a file without an id")
    for name, is_right in _FIELDS.items():
        if name in found and not is_right(found[name]):
            raise OddAnswer(f"a file whose {name} is {_short(found[name])}")
    if id is not None and found["id"] != id:
        raise OddAnswer("another file than the one asked for")
    return {**found, "parents": found.get("parents", [])}


def described(answer: Any, id: str | None = None) -> Row:
    """Return the metadata of a file or folder as `tree.FIELDS` asks for it."""
    found = row(answer, id)
    missing = [name for name in ("title", "mimeType", "createdDate") if name not in found]
    if missing or ("md5Checksum" in found) > ("fileSize" in found):
        raise OddAnswer(f"a file without its {(missing or ['fileSize'])[0]}")
    return found


def content(answer: Any, id: str) -> Row:
    """Return the metadata of a file that has content, such as one that was just uploaded."""
    found = described(answer, id)
    if "md5Checksum" not in found:
        raise OddAnswer("a file without its md5Checksum")
    return found


def page(answer: Any, of: Callable[[Any], Row] = described) -> tuple[list[Row], str | None]:
    """Return the rows of one page of a listing, and the token of the next page."""
    found = _object(answer)
    items, token = found.get("items"), found.get("nextPageToken")
    if items is None and found.get("kind") == _LISTING and "items" not in found:
        items = []
    if not isinstance(items, list):
        raise OddAnswer("a listing without files")
    if token is not None and not (isinstance(token, str) and token):
        raise OddAnswer(f"a listing whose next page is {_short(token)}")
    return [of(item) for item in items], token


def ids(answer: Any) -> list[str]:
    """Return ids for new files."""
    found = _object(answer).get("ids")
    if not isinstance(found, list) or not found or not all(_is_id(id) for id in found):
        raise OddAnswer("no ids of new files")
    return found


def space(answer: Any) -> tuple[int, int]:
    """Return the used bytes of an account and its limit, 0 where it has none."""
    found = _object(answer)
    used, total = found.get("quotaBytesUsedAggregate"), found.get("quotaBytesTotal", 0)
    if not _is_size(used) or not _is_size(total):
        raise OddAnswer("no space of an account")
    return int(str(used)), int(str(total))


def nothing(answer: Any) -> None:
    """Check the answer to a deletion, which is empty."""
    if answer not in (None, "", b"", {}):
        raise OddAnswer(_kind(answer))


def data(answer: Any) -> bytes:
    """Return a part of a file's content; whether it is the right one, its length and checksum say."""
    if not isinstance(answer, bytes):
        raise OddAnswer(_kind(answer))
    return answer


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_size(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, str | int) and _SIZE.fullmatch(str(value)) is not None


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and 1990 < datetime.fromisoformat(value).year < 9999
    except ValueError:
        return False


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "id": _is_id,
    "title": _is_text,
    "mimeType": _is_text,
    "createdDate": _is_time,
    "modifiedDate": _is_time,
    "md5Checksum": lambda value: isinstance(value, str) and _MD5.fullmatch(value) is not None,
    "fileSize": _is_size,
    "parents": lambda value: (
        isinstance(value, list) and all(isinstance(p, dict) and _is_id(p.get("id")) for p in value)
    ),
    "labels": lambda value: isinstance(value, dict) and isinstance(value.get("trashed", False), bool),
}


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise OddAnswer(_kind(answer))
    return answer


def _kind(answer: Any) -> str:
    """Return what an answer is that is no JSON object."""
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    if not isinstance(text, str):
        return _short(answer)
    if not text.strip():
        return "nothing"
    return "a web page" if text.lstrip()[:1] == "<" else "no JSON"


def _short(value: Any) -> str:
    return ascii(value)[:_SHOWN]
