"""Bytes to and from Drive: small files in one request, large ones in chunks that outlive a kill.

Memory holds one chunk. A large upload is known to Drive by a session address that is as good as a password: it lies
in a file beside the local one, readable by its owner alone, until the upload has ended. After a kill Drive itself says
how much it has acknowledged, and the upload goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from googleapiclient.http import MediaIoBaseUpload, MediaUpload

from nbkit.runtime.store.drive.access import TRIES, DriveAccess
from nbkit.runtime.store.drive.credential import write_private
from nbkit.runtime.store.drive.faults import DriveError

CHUNK = 8 << 20  # bytes, a multiple of 256 KiB as Drive wants it
SMALL = 4 << 20  # bytes up to which metadata and content go in one request; Drive allows 5 MB
HURT = "hurt"  # reason of an error that says: what came is not what was promised
_BLOCK = 1 << 20
_BINARY = "application/octet-stream"


@dataclass(frozen=True)
class Content:
    """Say what a local file holds; the open file stays the same one whatever happens to its name.

    Attributes
    ----------
    file : file
        Open for reading.
    path : Path
    size : int
        Bytes.
    md5, sha256 : str
        Hexadecimal digits: the one is Drive's, the other the ledger's.
    """

    file: BinaryIO
    path: Path
    size: int
    md5: str
    sha256: str

    @staticmethod
    def of(file: BinaryIO, path: Path) -> Content:
        """Read a file through once, in blocks."""
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        while block := file.read(_BLOCK):
            md5.update(block)
            sha256.update(block)
            size += len(block)
        return Content(file, path, size, md5.hexdigest(), sha256.hexdigest())


class _Chunks(MediaUpload):
    """Give a file's bytes by position.

    Not the library's own class for files: that one hands the connection a stream, which after a stale access token is
    sent a second time from where the first try had left it, empty.
    """

    def __init__(self, content: Content, chunk: int) -> None:
        self._content, self._chunk = content, chunk

    def chunksize(self) -> int:
        return self._chunk

    def mimetype(self) -> str:
        return _BINARY

    def size(self) -> int:
        return self._content.size

    def resumable(self) -> bool:
        return True

    def has_stream(self) -> bool:
        return False

    def getbytes(self, begin: int, end: int) -> bytes:
        return os.pread(self._content.file.fileno(), end, begin)  # the library names a length "end"


def upload(
    access: DriveAccess,
    content: Content,
    request: Callable[[MediaUpload], Any],
    target: str,
    doing: str,
    state: Path,
    chunk: int = CHUNK,
    small: int = SMALL,
) -> dict[str, Any]:
    """Send a file's content; give Drive's answer.

    Parameters
    ----------
    access : DriveAccess
    content : Content
    request : callable
        Makes the insert or update of a media.
    target : str
        The id that is written, by which a saved state is recognised.
    doing : str
        For messages.
    state : Path
        Where the address of an unfinished upload is kept.
    chunk, small : int
        Bytes.
    """
    if content.size <= small:
        data = os.pread(content.file.fileno(), content.size, 0)
        return access.call(request(MediaIoBaseUpload(io.BytesIO(data), _BINARY)), doing)
    kept = _Kept(state, {"id": target, "size": content.size, "md5": content.md5})
    sending = request(_Chunks(content, chunk))
    _go_on(sending, kept.read())
    refused, renewed = 0, False

    def send_chunk(http: Any) -> tuple[Any, dict[str, Any] | None]:
        try:
            return sending.next_chunk(http=http)
        finally:
            kept.write(sending.resumable_uri)

    while True:
        try:
            # after a fault, the library first asks how far the upload came
            _, answer = access.retried(lambda: access.once(doing, send_chunk))
        except DriveError as error:
            if error.status not in (400, 404, 410) or not sending.resumable_uri:
                raise
            # the next turn asks how far the upload came: the connection may have sent a chunk twice
            refused += 1
            if refused > 1:
                kept.clear()  # it is gone: Drive keeps unfinished uploads for a week
                if renewed:
                    raise DriveError(f"{doing} lost its upload twice; it begins anew", passing=True) from None
                renewed, refused = True, 0
                _go_on(sending, None)
            continue
        if answer is not None:
            kept.clear()
            return answer
        refused = 0


def _go_on(sending: Any, address: str | None) -> None:
    """Point a request at an upload that was begun, so that it first asks how far that one came; None begins anew."""
    sending.resumable_uri, sending.resumable_progress = address, 0
    sending._in_error_state = address is not None  # the library's own way of asking, which it offers after faults only


class _Kept:
    """Keep the address of an unfinished upload on disk."""

    def __init__(self, path: Path, of: dict[str, Any]) -> None:
        self._path, self._of = path, of
        self._last: str | None = None

    def read(self) -> str | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            saved = json.loads(self._path.read_text("utf-8"))
            address = saved.pop("address")
            if saved == self._of:
                self._last = address
        return self._last

    def write(self, address: str | None) -> None:
        if address and address != self._last:
            self._last = address
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_private(self._path, json.dumps({**self._of, "address": address}))

    def clear(self) -> None:
        self._last = None
        self._path.unlink(missing_ok=True)


def saved_id(state: Path, content: Content) -> str | None:
    """Return the id that an unfinished upload of this very content was writing."""
    try:
        saved = json.loads(state.read_text("utf-8"))
        return saved["id"] if (saved["size"], saved["md5"]) == (content.size, content.md5) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def download(access: DriveAccess, id: str, size: int, target: Any, doing: str, chunk: int = CHUNK) -> str:
    """Fetch an id's content in chunks into something with ``write``; give the MD5 of what came.

    A chunk that comes short is fetched again, the whole is not. The caller compares the MD5.
    """
    digest = hashlib.md5(usedforsecurity=False)
    for begin in range(0, size, chunk):
        data = _fetch_chunk(access, id, begin, min(begin + chunk, size), doing)
        digest.update(data)
        target.write(data)
    return digest.hexdigest()


def _fetch_chunk(access: DriveAccess, id: str, begin: int, end: int, doing: str) -> bytes:
    request = access.files().get_media(fileId=id, supportsAllDrives=True)
    request.headers["range"] = f"bytes={begin}-{end - 1}"
    for _ in range(TRIES):
        data = access.call(request, doing)
        if len(data) == end - begin:
            return data
    words = f"{doing} failed: {len(data)} bytes came of the {end - begin} after byte {begin}"
    raise DriveError(words, passing=True, reason=HURT)
