"""Answers that are not Drive's: what a hotel's login page, a proxy or a cache between here and Drive sends instead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.runtime.store.drive import drive_loopback

REQUESTS = ("token", "ids", "list", "look", "media", "send", "make", "delete", "space")
_JSON = "application/json; charset=UTF-8"

Answer = tuple[int, bytes, str, dict[str, str]]


def _whole(body: bytes, status: int = 200, kind: str = _JSON, **more: str) -> Callable[[int, Any], Answer]:
    return lambda _, __: (status, body, kind, more)


def _changed(change: Callable[[Any], Any]) -> Callable[[int, Any], Answer]:
    """Return what answers with the right JSON, but for a change in it."""

    def answer(status: int, body: Any) -> Answer:
        if isinstance(body, bytes):
            return status, b"{}", _JSON, {}
        return status, json.dumps(change(json.loads(json.dumps(body)))).encode(), _JSON, {}

    return answer


PAGE = b"<!DOCTYPE html><html><body>Please log in to the hotel's network</body></html>"
WHOLE = {
    "a login page": _whole(PAGE, kind="text/html"),
    "a login page, with 404": _whole(PAGE, 404, "text/html"),
    "a login page, with 403": _whole(PAGE, 403, "text/html"),
    "a redirect to nowhere": _whole(b"", 302, "text/html", Location="http://127.0.0.1:9/login"),
    "nothing": _whole(b""),
    "null": _whole(b"null"),
    "a list": _whole(b"[]"),
    "a number": _whole(b"5"),
    "an empty object": _whole(b"{}"),
    "another object": _whole(b'{"status": "ok", "error": null}'),
    "no UTF-8": _whole(b"\xff\xfe{}"),
    "a range of nonsense": _whole(b"", 308, "text/html", Range="bytes"),
    "cut": lambda status, body: (status, (body if isinstance(body, bytes) else json.dumps(body).encode())[:-3], "", {}),
}  # fmt: skip
ODD_FIELDS = {  # None: it is missing
    "id": (None, 5, "", "a/b", "it's", [], {}), "title": (None, 5, [], {}), "mimeType": (None, 5, []),
    "createdDate": (None, 5, "yesterday", "0001-01-01T00:00:00Z", ""), "modifiedDate": (5, "2026-13-41T", ""),
    "md5Checksum": (5, "short", [], {}), "fileSize": (None, "many", -1, "1e9", True, [], 10**30),
    "parents": (5, [5], {}, ["x"], [{"id": 5}], [{}]), "labels": (5, [], {"trashed": "no"}),
}  # fmt: skip
FIELDS = {
    "items": {
        "no items, no kind": _changed(lambda body: {}),
        "items are an object": _changed(lambda body: body | {"items": {"a": 1}}),
        "items are null": _changed(lambda body: body | {"items": None}),
        "items are texts": _changed(lambda body: body | {"items": ["a"]}),
        "the next page is a number": _changed(lambda body: body | {"nextPageToken": 5}),
        "the next page is the same": _changed(lambda body: body | {"nextPageToken": "page-0"}),
    },
    "ids": {f"ids={ids!r}": _changed(lambda _, ids=ids: {"ids": ids}) for ids in (None, 5, [], [5], [""], {}, "abc")},
    "token": {
        f"{name}={value!r}": _changed(lambda body, name=name, value=value: body | {name: value})
        for name, values in {
            "access_token": (None, 5, "", [], "a\nb", "é"), "expires_in": (None, "soon", [], 10**20),
            "refresh_token": (5, []), "id_token": (5, "x.y"), "error": (5,),
        }.items()
        for value in values
    },
}  # fmt: skip
_OF = {"list": "items", "ids": "ids", "token": "token"}
CASES = [(request, name) for request in REQUESTS for name in (*WHOLE, *FIELDS.get(_OF.get(request, ""), ()))]
_ALL = WHOLE | FIELDS["items"] | FIELDS["ids"] | FIELDS["token"]


def kind_of(handler: drive_loopback.Handler) -> str:
    """Return what a request is for."""
    path, method = handler.path.partition("?")[0], handler.command
    if path == "/token":
        return "token"
    if path.startswith("/upload/"):
        return "send"
    if path.endswith("/about"):
        return "space"
    rest = path.removeprefix("/drive/v2/files").lstrip("/")
    if handler.headers.get("X-HTTP-Method-Override") or (method == "GET" and not rest):
        return "list"
    if rest == "generateIds":
        return "ids"
    if method == "GET":
        return "media" if handler.query.get("alt") == "media" else "look"
    return "delete" if method == "DELETE" else "make"


class Between:
    """Something between here and Drive.

    Attributes
    ----------
    of : set of str
        Of `REQUESTS`, those that it answers.
    kind : str
        What it answers.
    most : int or None
        Answers after which it is gone.
    answered : int
    """

    def __init__(self) -> None:
        self.of: set[str] = set()
        self.kind, self.most, self.answered = "a login page", None, 0

    def says(self, request: str) -> bool:
        if request not in self.of or (self.most is not None and self.answered >= self.most):
            return False
        self.answered += 1
        return True


@contextmanager
def between() -> Iterator[Between]:
    """Put something between here and every Drive on the loopback."""
    one, send = Between(), drive_loopback.Handler._send

    def sent(self: Any, status: int, body: Any, kind: str = "", more: dict[str, str] | None = None) -> None:
        if (status < 400 or one.kind in WHOLE) and one.says(kind_of(self)):
            status, body, kind, more = _ALL[one.kind](status, body)
        send(self, status, body, kind or _JSON, more)

    drive_loopback.Handler._send = sent  # type: ignore[method-assign]
    try:
        yield one
    finally:
        drive_loopback.Handler._send = send  # type: ignore[method-assign]
