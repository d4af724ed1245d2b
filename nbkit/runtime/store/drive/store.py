"""A folder in Google Drive as a store: ``gdrive://<folder id>``.

A name is written under an id that was fixed before, so a repeated upload never makes a second file; a put returns only
when Drive's own MD5 and size agree with the local file's. Nothing here opens a browser or goes to the trash.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_atomically
from nbkit.runtime.errors import DamagedError, UsageError
from nbkit.runtime.names import check_name
from nbkit.runtime.store.drive.access import FIRST_WAIT, TIMEOUT, DriveAccess
from nbkit.runtime.store.drive.credential import DriveCredential, find_credential
from nbkit.runtime.store.drive.faults import DriveError
from nbkit.runtime.store.drive.memory import Entry, first_made, last_changed, split
from nbkit.runtime.store.drive.transfer import CHUNK, HURT, SMALL, Content, download, saved_id, upload
from nbkit.runtime.store.drive.tree import FIELDS, DriveTree
from nbkit.runtime.store.protocol import Stat

_ROUNDS = 3  # looks at a name that parallel sessions make, change and remove meanwhile
_STATE_SUFFIX, _MARK = ".upload.json", 12


class DriveStore:
    """Keep files in a folder of Google Drive.

    Parameters
    ----------
    folder : str
        Id of the folder, which nbkit has made (`nbkit login drive`).
    credential : DriveCredential or None
        None takes the variable's, the host's, the user's own.
    state : Path or None
        Folder for the addresses of unfinished uploads; None keeps each beside the file that is sent.
    timeout : float
        Seconds that a read or write may take.
    chunk, small : int
        Bytes of a chunk of a large file, and up to which a file is small.
    first_wait : float
        Seconds before a request is tried again.

    Raises
    ------
    UsageError
        Where there is no credential, or one that cannot be used.
    """

    uploads_at_once = 8  # threads of the outbox: Drive answers slowly, and to many at once as fast as to one

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
                f"{name} lies in {self.url} otherwise than it was sent: {entry.size} bytes with MD5 {entry.md5[:12]}, "
                f"sent were {content.size} with {content.md5[:12]}. The file here is whole and is sent again.",
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
                # asked again, for someone may have removed or changed it since it was listed
                entry = self._tree.confirm(name, last_changed(entries).id)
                if entry is not None and not entry.holds(content.size, content.md5):
                    continue
                state.unlink(missing_ok=True)
            else:
                entry = self._update(content, name, first_made(entries), state)
                for other in entries:
                    if entry is not None and other.id != entry.id:
                        self._tree.remove(name, other.id)  # what it held has just been replaced
            if entry is not None:
                return entry
        raise DriveError(
            f"put {name} in {self.url} failed: the name changes faster than it can be written", passing=True
        )

    def _insert(self, content: Content, name: str, state: Path) -> Entry | None:
        """Make a new file; None where the name has to be looked at again."""
        path, title = split(name)
        id = saved_id(state, content) or self._tree.begin(name)
        parents = [{"id": self._tree.folder(path, make=True)[0]}]
        body = {"id": id, "title": title, "mimeType": "application/octet-stream", "parents": parents}

        def insert(media: Any) -> Any:
            return self._access.files().insert(body=body, media_body=media, fields=FIELDS, supportsAllDrives=True)

        try:
            row = self._upload(content, insert, id, name, state)
        except DriveError as error:
            if error.status == 409:  # made by the request whose answer was lost
                entry = self._tree.confirm(name, id)
                self._tree.ended(name, id)
                return entry if entry is not None and entry.holds(content.size, content.md5) else None
            if error.status == 404:
                self._tree.vanished()
                return None
            raise
        self._tree.ended(name, id)
        return self._tree.memory.remember(name, row, written=True)

    def _update(self, content: Content, name: str, entry: Entry, state: Path) -> Entry | None:
        """Replace a file's content; None where it is gone."""

        def update(media: Any) -> Any:
            return self._access.files().update(
                fileId=entry.id, body={}, media_body=media, fields=FIELDS, supportsAllDrives=True,
                newRevision=False,  # the old content would go on counting against the quota
            )  # fmt: skip

        try:
            row = self._upload(content, update, entry.id, name, state)
        except DriveError as error:
            if error.status != 404:
                raise
            self._tree.memory.forget(name, entry.id)
            return None
        return self._tree.memory.remember(name, row, written=True)

    def _upload(self, content: Content, request: Any, id: str, name: str, state: Path) -> dict[str, Any]:
        doing = f"put {name} in {self.url}"
        return upload(self._access, content, request, id, doing, state, self._chunk, self._small)

    def _state_of(self, path: Path, name: str) -> Path:
        mark = hashlib.sha256(f"{self.url}/{name}".encode()).hexdigest()[:_MARK]
        if self._state is None and path.parent not in self._swept:
            self._swept.add(path.parent)
            for old in path.parent.glob(f".*{_STATE_SUFFIX}"):
                if not old.with_name(old.name[1 : -len(_STATE_SUFFIX) - _MARK - 1]).exists():
                    old.unlink(missing_ok=True)  # of a file that was pruned before it had arrived
        return (self._state or path.parent) / f".{path.name}.{mark}{_STATE_SUFFIX}"

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
                if error.status not in (404, 416) and error.reason != HURT:
                    raise
                if error.status == 404:
                    self._tree.memory.forget(name, entry.id)
                fault = error  # removed, or replaced since it was listed; else it came hurt: in each case once more
            else:
                return Stat(name, size, f"sha256:{found}")
        raise DriveError(str(fault), passing=True, reason=HURT)

    def _fetch(self, name: str, entry: Entry, target: Any, sha256: str | None) -> None:
        tee = _Hashed(target)
        md5 = download(self._access, entry.id, entry.size, tee, f"get {name} from {self.url}", self._chunk)
        if not entry.holds(tee.size, md5):
            now = self._tree.confirm(name, entry.id)  # changed since it was listed?
            if now is None or not now.holds(tee.size, md5):
                raise DriveError(
                    f"{name} came from {self.url} hurt: {tee.size} bytes with MD5 {md5[:12]}, which is not what lies "
                    "there. What came was thrown away, the store is as it was.",
                    passing=True,
                    reason=HURT,
                )
        if sha256 and tee.digest.hexdigest() != sha256:
            raise DamagedError(
                f"{name} in {self.url} is damaged: SHA-256 {tee.digest.hexdigest()[:12]}..., its receipt says "
                f"{sha256[:12]}.... The fetched copy was removed, the store left as it is. Run 'nbkit verify' to see "
                "what else is hurt."
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
            entries = found[name] if len(found[name]) < 2 else self._tree.merge(name)
            if entries:
                yield _stat(name, entries)

    def delete(self, name: str) -> None:
        check_name(name, "store name")
        ids = {entry.id for entry in self._tree.memory.entries(name)}
        for id in ids | {entry.id for entry in self._tree.find(name)}:
            self._tree.remove(name, id)

    def connect(self) -> DriveStore:
        """Return this store: each thread has a connection of its own, and what is known of ids is known to all."""
        return self

    def space(self) -> tuple[int, int]:
        """Return how many bytes of the account are used, and how many there are; 0 for the latter where none is set."""
        request = self._access.service().about().get(fields="quotaBytesTotal,quotaBytesUsedAggregate")
        row = self._access.call(request, "asking Drive for its space")
        return int(row.get("quotaBytesUsedAggregate", 0)), int(row.get("quotaBytesTotal", 0))


class _Hashed:
    """Pass writes on and keep their count and SHA-256."""

    def __init__(self, target: Any) -> None:
        self._target, self.size, self.digest = target, 0, hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.digest.update(data)
        self._target.write(data)


def _stat(name: str, entries: list[Entry]) -> Stat:
    entry = last_changed(entries)
    return Stat(name, entry.size, f"md5:{entry.md5}")


def open_drive(url: str) -> DriveStore:
    """Open ``gdrive://<folder id>``, or the address that a browser shows for the folder.

    Raises
    ------
    UsageError
        For an address that names no folder's id, or where there is no usable credential.
    """
    match = re.fullmatch(
        r"(?:gdrive://|https://drive\.google\.com/drive/(?:u/\d+/)?folders/)([\w-]{10,})/?(?:\?.*)?", url
    )
    if match is None:
        raise UsageError(
            f"the store {url!r} names no folder in Drive. Allowed is gdrive://<folder id>, as 'nbkit login drive' "
            "prints it. Nothing was written."
        )
    return DriveStore(match[1])
