"""A folder in Google Drive as a store: ``gdrive://<folder id>``.

The id of a new file is fixed before its upload, so that a repeated upload never creates a second file. A put returns
only when Drive's own MD5 and size agree with the local file's. Nothing here opens a browser or uses Drive's trash.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nbkit.ground.files import own_files, write_atomically
from nbkit.runtime.errors import DamagedError, UsageError
from nbkit.runtime.names import check_name
from nbkit.runtime.store.drive import answers
from nbkit.runtime.store.drive.access import FIRST_WAIT, TIMEOUT, DriveAccess
from nbkit.runtime.store.drive.credential import DriveCredential, find_credential
from nbkit.runtime.store.drive.faults import DriveError
from nbkit.runtime.store.drive.memory import Entry, first_made, last_changed, split
from nbkit.runtime.store.drive.transfer import CHUNK, DAMAGED, SMALL, Content, download, saved_id, upload
from nbkit.runtime.store.drive.tree import FIELDS, DriveTree
from nbkit.runtime.store.protocol import Stat

_ROUNDS = 3  # looks at a name that parallel sessions make, change and remove meanwhile
_STATE = re.compile(r"\.(.+)\.[0-9a-f]{12}\.upload\.json")  # an unfinished upload of the file whose name is in it


class DriveStore:
    """Files in a folder of Google Drive.

    Parameters
    ----------
    folder : str
        Id of the folder, which `nbkit login drive` created.
    credential : DriveCredential or None
        None takes the first that `find_credential` finds.
    state : Path or None
        Folder for the addresses of unfinished uploads; None keeps each beside its file.
    timeout : float
        Seconds of one read or write.
    chunk, small : int
        Bytes of a chunk of a large file, and of the largest file that is sent in one request.
    first_wait : float
        Seconds before a request is tried again.

    Raises
    ------
    UsageError
        If there is no usable credential.
    """

    uploads_at_once = 8  # threads of the outbox: Drive answers slowly, but many at once as fast as one

    def __init__(
        self,
        folder: str,
        credential: DriveCredential | None = None,
        state: Path | None = None,
        *,
        timeout: float = TIMEOUT,
        chunk: int = CHUNK,
        small: int = SMALL,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        self.url = f"gdrive://{folder}"
        self._state, self._chunk, self._small = state, chunk, small
        self._access = DriveAccess(credential or find_credential(), timeout, first_wait)
        self._tree = DriveTree(self._access, folder)
        self._swept: set[Path] = set()

    def __repr__(self) -> str:
        return f"DriveStore({self.url!r})"

    # -- put ----------------------------------------------------------------------------------------------------------

    def put(self, path: Path, name: str) -> Stat:
        check_name(name, "store name")
        path = Path(path)
        with open(path, "rb") as file:
            content = Content.of(file, path)
            entry = self._put(content, name)
        if not entry.holds(content.size, content.md5):
            raise DriveError(
                f"{name} in {self.url} is not what was sent: {entry.size} bytes with MD5 {entry.md5[:12]}, sent were "
                f"{content.size} with {content.md5[:12]}. The file here is intact and is sent again.",
                passing=True,
            )
        return Stat(name, content.size, f"sha256:{content.sha256}")

    def _put(self, content: Content, name: str) -> Entry:
        state = self._state_of(content.path, name)
        for _ in range(_ROUNDS):
            entries = self._tree.known(name)
            if not entries:
                entry = self._insert(content, name, state)
            elif last_changed(entries).holds(content.size, content.md5):
                # asked again: another session may have removed or changed it since it was listed
                entry = self._tree.confirm(name, last_changed(entries).id)
                if entry is not None and not entry.holds(content.size, content.md5):
                    continue
                with contextlib.suppress(DriveError):  # the content is there; a later put removes the others
                    self._tree.merge(name)
                state.unlink(missing_ok=True)
            else:
                entry = self._update(content, name, first_made(entries), state)
                for other in entries:
                    if entry is not None and other.id != entry.id:
                        # what it held has just been replaced; where it may not be deleted, the newest one counts
                        with contextlib.suppress(DriveError):
                            self._tree.remove(name, other.id)
            if entry is not None:
                return entry
        raise DriveError(
            f"Put {name} in {self.url} failed: the name changes faster than it can be written", passing=True
        )

    def _insert(self, content: Content, name: str, state: Path) -> Entry | None:
        """Create a file; return None if the name has to be looked up again."""
        path, title = split(name)
        # a large upload that a kill interrupted continues under its own id, or Drive would hold two files
        id = saved_id(state, content) or self._tree.begin(name)
        parents = [{"id": self._tree.folder(path, make=True)[0]}]
        body = {"id": id, "title": title, "mimeType": "application/octet-stream", "parents": parents}

        def insert(media: Any) -> Any:
            return self._access.files().insert(body=body, media_body=media, fields=FIELDS, supportsAllDrives=True)

        try:
            row = self._upload(content, insert, id, name, state)
        except DriveError as error:
            if error.status == 409:  # made by the request whose answer was lost
                entry = self._tree.confirm(name, id, written=True)
                self._tree.ended(name, id)
                return entry if entry is not None and entry.holds(content.size, content.md5) else None
            if not error.is_gone:
                raise
            self._tree.vanished()
            return None
        self._tree.ended(name, id)
        return self._tree.memory.remember(name, row, written=True)

    def _update(self, content: Content, name: str, entry: Entry, state: Path) -> Entry | None:
        """Replace a file's content; return None if the file is gone."""

        def update(media: Any) -> Any:
            return self._access.files().update(
                fileId=entry.id, body={}, media_body=media, fields=FIELDS, supportsAllDrives=True,
                newRevision=False,  # an old revision would still count against the quota
            )  # fmt: skip

        try:
            row = self._upload(content, update, entry.id, name, state)
        except DriveError as error:
            if not error.is_gone:
                raise
            self._tree.memory.forget(name, entry.id)
            return None
        return self._tree.memory.remember(name, row, written=True)

    def _upload(self, content: Content, request: Any, id: str, name: str, state: Path) -> dict[str, Any]:
        doing = f"put {name} in {self.url}"
        return upload(self._access, content, request, id, doing, state, self._chunk, self._small)

    def _state_of(self, path: Path, name: str) -> Path:
        mark = hashlib.sha256(f"{self.url}/{name}".encode()).hexdigest()[:12]
        if self._state is None and path.parent not in self._swept:
            self._swept.add(path.parent)
            for old in own_files(path.parent, _STATE):
                if not old.with_name(_STATE.sub(r"\1", old.name)).exists():
                    old.unlink(missing_ok=True)  # of a file that was pruned before it was uploaded
        return (self._state or path.parent) / f".{path.name}.{mark}.upload.json"

    # -- get ----------------------------------------------------------------------------------------------------------

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        check_name(name, "store name")
        path = Path(path)
        for attempt in range(_ROUNDS):
            entries = ([] if attempt else self._tree.memory.entries(name)) or self._tree.find(name)
            if not entries:
                raise FileNotFoundError(errno.ENOENT, f"the store {self.url} holds no {name}")
            entry = last_changed(entries)
            try:
                size, found = write_atomically(path, partial(self._fetch, name, entry, sha256=sha256))
            except DriveError as error:
                if not error.is_gone and error.status != 416 and error.reason != DAMAGED:
                    raise
                if error.is_gone:
                    self._tree.memory.forget(name, entry.id)
                fault = error  # removed or replaced since it was listed, or it arrived damaged: in each case try again
            else:
                return Stat(name, size, f"sha256:{found}")
        raise DriveError(str(fault), passing=True, reason=DAMAGED)

    def _fetch(self, name: str, entry: Entry, target: Any, sha256: str | None) -> None:
        md5 = download(self._access, entry.id, entry.size, target, f"get {name} from {self.url}", self._chunk)
        if not entry.holds(target.size, md5):
            now = self._tree.confirm(name, entry.id)  # changed since it was listed?
            if now is None or not now.holds(target.size, md5):
                raise DriveError(
                    f"{name} arrived damaged from {self.url}: {target.size} bytes with MD5 {md5[:12]}, which is not "
                    "what is stored there. The download was discarded, the store left as it is.",
                    passing=True,
                    reason=DAMAGED,
                )
        if sha256 and target.digest.hexdigest() != sha256:
            raise DamagedError(
                f"{name} in {self.url} is damaged: SHA-256 {target.digest.hexdigest()[:12]}..., its receipt says "
                f"{sha256[:12]}.... The download was discarded, the store left as it is. Run 'nbkit verify' to see "
                "what else is damaged."
            )

    # -- the rest -----------------------------------------------------------------------------------------------------

    def stat(self, name: str) -> Stat | None:
        entries = self._tree.find(check_name(name, "store name"))
        return _stat(name, entries) if entries else None

    def list(self, prefix: str = "") -> Iterator[Stat]:
        return self.list_outside(prefix, ())

    def list_outside(self, prefix: str, without: Collection[str]) -> Iterator[Stat]:
        """Return everything whose name starts with the prefix and lies in none of these folders."""
        found = self._tree.walk(prefix, without)
        for name in sorted(found):
            if found[name]:  # of several files, the one changed last counts; only writers remove the others
                yield _stat(name, found[name])

    def tidy(self, prefix: str) -> None:
        """Delete equal files of one name, which parallel sessions or a lost answer made; only for sessions that write.

        A listing that lags may hide one; it stays until the next call, and does no harm.

        Raises
        ------
        DriveError
            If one cannot be deleted; all the others are by then.
        """
        fault: DriveError | None = None
        for name, entries in self._tree.walk(prefix).items():
            if len(entries) > 1:
                try:
                    self._tree.merge(name)
                except DriveError as error:  # one that may not be deleted hinders no other
                    fault = error
        if fault is not None:
            raise fault

    def delete(self, name: str) -> None:
        check_name(name, "store name")
        ids = {entry.id for entry in self._tree.memory.entries(name)}
        for id in ids | {entry.id for entry in self._tree.find(name)}:
            self._tree.remove(name, id)

    def connect(self) -> DriveStore:
        """Return this store: each thread has its own connection, and all share what is known about ids."""
        return self

    def space(self) -> tuple[int, int]:
        """Return the used bytes of the account and its limit, 0 if it has none."""
        request = self._access.service().about().get(fields="quotaBytesTotal,quotaBytesUsedAggregate")
        return self._access.call(request, "asking Drive for its space", answers.space)


def _stat(name: str, entries: list[Entry]) -> Stat:
    entry = last_changed(entries)
    return Stat(name, entry.size, f"md5:{entry.md5}")


def open_drive(url: str) -> DriveStore:
    """Open ``gdrive://<folder id>``, or the folder's address in a browser.

    Raises
    ------
    UsageError
        If the address has no folder id, or there is no usable credential.
    """
    match = re.fullmatch(
        r"(?:gdrive://|https://drive\.google\.com/drive/(?:u/\d+/)?folders/)([\w-]{10,})/?(?:\?.*)?", url
    )
    if match is None:
        raise UsageError(
            f"The store {url!r} names no folder in Drive. Allowed is gdrive://<folder id>, as 'nbkit login drive' "
            "prints it. Nothing was written."
        )
    return DriveStore(match[1])
