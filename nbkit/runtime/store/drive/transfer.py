"""Uploads and downloads: small files in one request, large ones in chunks that survive a kill.

Memory holds one chunk. Drive identifies a large upload by an address that is as good as a password: it is kept in a
file beside the local one, readable by its owner only, until the upload has ended. After a kill, Drive reports how much
it has received, and the upload continues from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from googleapiclient.http import MediaIoBaseUpload, MediaUpload

from nbkit.ground.files import write_private
from nbkit.runtime.store.drive import answers
from nbkit.runtime.store.drive.access import TRIES, DriveAccess
from nbkit.runtime.store.drive.faults import DriveError

CHUNK = 8 << 20  # bytes, a multiple of 256 KiB as Drive wants it
SMALL = 4 << 20  # bytes of the largest file that is sent in one request; Drive allows 5 MB
DAMAGED = "damaged"  # reason of an error: the content that arrived is not the stored one
_BLOCK = 1 << 20
_BINARY = "application/octet-stream"


@dataclass(frozen=True)
class Content:
    """Content of a local file; the open file stays the same whatever happens to its name.

    Attributes
    ----------
    file : file
        Open for reading.
    path : Path
    size : int
        Bytes.
    md5, sha256 : str
        In hexadecimal. Drive uses the former, the ledger the latter.
    """

    file: BinaryIO
    path: Path
    size: int
    md5: str
    sha256: str

    @staticmethod
    def of(file: BinaryIO, path: Path) -> Content:
        """Compute size and checksums of a file, reading it once in blocks."""
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        while block := file.read(_BLOCK):
            md5.update(block)
            sha256.update(block)
            size += len(block)
        return Content(file, path, size, md5.hexdigest(), sha256.hexdigest())


class _Chunks(MediaUpload):
    """A file's bytes by position.

    The library's own class for files hands a stream to the connection. If the access token is stale, the stream is
    sent a second time from where the first try had left it, which is empty.
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
) -> answers.Row:
    """Upload a file's content and return Drive's answer.

    Parameters
    ----------
    access : DriveAccess
    content : Content
    request : callable
        Returns the insert or update request of a media object.
    target : str
        The id of the file in Drive; a saved state of another id is ignored.
    doing : str
        For messages.
    state : Path
        File for the address of an unfinished upload.
    chunk, small : int
        Bytes.
    """
    form = partial(answers.content, id=target)
    if content.size <= small:
        data = os.pread(content.file.fileno(), content.size, 0)
        return access.call(request(MediaIoBaseUpload(io.BytesIO(data), _BINARY)), doing, form)
    kept = _Kept(state, {"id": target, "size": content.size, "md5": content.md5})
    sending = request(_Chunks(content, chunk))
    _go_on(sending, kept.read())
    refused, renewed = 0, False

    def send_chunk(http: Any) -> answers.Row | None:
        arrived = False
        try:
            # the library stores the address of the upload in the request; it is saved even if this chunk fails
            progress, answer = sending.next_chunk(http=http)
            row = form(answer) if progress is None else None
            arrived = True
            return row
        finally:
            if not arrived and sending.resumable_uri:
                sending._in_error_state = True  # makes the library ask how far the upload came
            kept.write(sending.resumable_uri)

    while True:
        try:
            # after a fault, the library first asks how far the upload came
            answer = access.retried(lambda: access.once(doing, send_chunk))
        except DriveError as error:
            if error.status not in (400, 404, 410) or not sending.resumable_uri:
                raise
            # the next turn asks how far the upload came: a chunk may have been sent twice
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
    """Let a request continue a begun upload, asking first how far it came; None begins a new one."""
    sending.resumable_uri, sending.resumable_progress = address, 0
    sending._in_error_state = address is not None  # makes the library ask, which it otherwise does after faults only


class _Kept:
    """Address of an unfinished upload on disk."""

    def __init__(self, path: Path, of: dict[str, Any]) -> None:
        self._path, self._of = path, of
        self._last: str | None = None

    def read(self) -> str | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            saved = json.loads(self._path.read_text("utf-8"))
            address = saved.pop("address")
            if saved == self._of and isinstance(address, str):
                self._last = address
        return self._last

    def write(self, address: str | None) -> None:
        if address and address != self._last:
            self._last = address
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_private(self._path, json.dumps({**self._of, "address": address}).encode())

    def clear(self) -> None:
        self._last = None
        self._path.unlink(missing_ok=True)


def saved_id(state: Path, content: Content) -> str | None:
    """Return the id of an unfinished upload of this very content, or None."""
    try:
        saved = json.loads(state.read_text("utf-8"))
        same = (saved["size"], saved["md5"]) == (content.size, content.md5) and isinstance(saved["id"], str)
        return saved["id"] if same else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def download(access: DriveAccess, id: str, size: int, target: Any, doing: str, chunk: int = CHUNK) -> str:
    """Download an id's content in chunks into a writable object; return the MD5 of what arrived.

    Only a chunk that arrives short is fetched again. The caller compares the MD5.
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
        data = access.call(request, doing, answers.data)
        if len(data) == end - begin:
            return data
    words = f"{doing} failed: {len(data)} of {end - begin} bytes arrived after byte {begin}"
    raise DriveError(words, passing=True, reason=DAMAGED)
