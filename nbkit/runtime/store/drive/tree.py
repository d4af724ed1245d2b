"""Names on top of Drive's ids: the folder tree of a Drive store.

The folders in Drive mirror the names of the store. So a person can find ``labram_pretrain/checkpoints``, and a prefix
is listed by asking for the children of one folder, at one request per thousand files. In one flat folder, each listing
would have to fetch everything, because Drive searches titles by whole words only.

Drive allows several files and folders of the same name, so parallel sessions can create a name twice. Several folders
then count as one. Of several files, the one changed last holds the name's content, and the one created first receives
the next content: which was first never changes, so two sessions that clean up at once cannot delete each other's last
copy. Folders are never deleted, because another session may be writing into them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.drive import answers
from nbkit.runtime.store.drive.access import DriveAccess
from nbkit.runtime.store.drive.faults import DriveError
from nbkit.runtime.store.drive.memory import Entry, Memory, Row, first_made, join, split

FIELDS = "id,title,mimeType,md5Checksum,fileSize,createdDate,modifiedDate,parents(id),labels(trashed)"
FOLDER = "application/vnd.google-apps.folder"
_IDS_AT_ONCE = 100
# Folders that a query names. The client sends addresses above 2048 characters as a POST. Of a longest query no page of
# Drive's tells: 128 folders were answered (nytimes/library#228), "The query is too complex" was met (PyDrive2#353), and
# rclone asks for 50.
_PARENTS_A_QUERY, _PARENTS_AT_LEAST = 100, 25
_TOO_LONG = (400, 413)  # statuses of an answer to a query that is too long
_JUST_NOW = 5.0  # seconds
_ENOUGH_SEEN = 3000  # files after which a login that sees much else is known
_MARGIN = timedelta(minutes=5)  # that a search for new files reaches back


class DriveTree:
    """Find, list, create and delete names below one folder of Drive.

    Parameters
    ----------
    access : DriveAccess
    root : str
        Id of the store's folder.
    """

    def __init__(self, access: DriveAccess, root: str) -> None:
        self.access, self.root, self.memory = access, root, Memory()
        self._lock = threading.Lock()
        self._asking = threading.RLock()  # held during requests whose answer the other threads need, too
        self._ids: deque[str] = deque()
        self._begun: dict[str, str] = {}
        self._root_seen = self._shared = False
        self._parents_a_query = _PARENTS_A_QUERY

    def begin(self, name: str) -> str:
        """Return the id of a file to create; the same one until `ended` is called.

        So an upload whose answer was lost can be repeated without creating a second file.
        """
        with self._lock:
            if name in self._begun:
                return self._begun[name]
        with self._asking:
            if not self._ids:
                request = self.access.files().generateIds(maxResults=_IDS_AT_ONCE, space="drive", fields="ids")
                self._ids.extend(self.access.call(request, "asking for file ids", answers.ids))
            with self._lock:
                if name not in self._begun:
                    self._begun[name] = self._ids.popleft()
                return self._begun[name]

    def ended(self, name: str, id: str) -> None:
        """Record that the id was used for the name, or never will be."""
        with self._lock:
            if self._begun.get(name) == id:
                del self._begun[name]

    # -- folders ------------------------------------------------------------------------------------------------------

    def folder(self, path: str, make: bool = False, fresh: bool = False) -> tuple[str, ...]:
        """Return the ids of all folders of this path, the oldest first; () if there is none.

        Parameters
        ----------
        path : str
            Empty for the store's own folder.
        make : bool
            True to create missing folders.
        fresh : bool
            True to ask Drive, whatever is remembered for more than some seconds.
        """
        if not path:
            self._check_root()
            return (self.root,)
        parent, title = split(path)
        if not fresh and self.memory.folder(path) and self.memory.is_scanned(parent):
            return self.memory.folder(path)
        if self.memory.is_seen(path, _JUST_NOW):  # opening a session lists several folders within a second
            return self.memory.folder(path)
        # one thread asks; the others wait and then find the answer in the memory
        with self._asking:
            parents = self.folder(parent, make, fresh)
            if not parents:
                return ()
            # a valid listing may be trusted that a folder is missing only if the folder would be created then:
            # another session may have created it meanwhile, and two folders of a name count as one
            believed = self.memory.is_scanned(parent) and (make or self.memory.folder(path))
            if fresh or not believed:
                rows = self._children(parents, f"mimeType='{FOLDER}'", f"looking for the folder {path}")
                self.memory.take_subfolders(parent, rows)
            if make and not self.memory.folder(path):
                self._make_folder(path, parents[0], title)
            return self.memory.folder(path)

    def _make_folder(self, path: str, parent: str, title: str) -> None:
        id = self.begin(f"{path}/")
        body = {"id": id, "title": title, "mimeType": FOLDER, "parents": [{"id": parent}]}
        request = self.access.files().insert(body=body, fields="id", supportsAllDrives=True)
        try:
            self.access.call(request, f"making the folder {path}", partial(answers.row, id=id))
        except DriveError as error:
            if error.status != 409:  # 409: an earlier request, whose answer was lost, has created it
                raise
        self.ended(f"{path}/", id)
        self.memory.made_folder(path, id)

    def _check_root(self) -> None:
        if self._root_seen:
            return
        request = self.access.files().get(
            fileId=self.root, fields="id,mimeType,driveId,labels(trashed)", supportsAllDrives=True
        )
        try:
            row = self.access.call(request, f"opening the Drive folder {self.root}", answers.row)
        except DriveError as error:
            if not error.is_gone:
                raise
            raise DriveError(
                f"Drive shows no folder {self.root} to this login. nbkit sees only what it created itself (scope "
                "drive.file): run 'nbkit login drive', which creates a folder and prints its gdrive:// address. Files "
                "that wait are kept on this machine.",
                status=404,
                reason="rootNotFound",
            ) from None
        if row.get("mimeType") != FOLDER:
            raise UsageError(f"gdrive://{self.root} is a file in Drive. A store is a folder. Nothing was written.")
        if row.get("labels", {}).get("trashed"):
            raise DriveError(
                f"The Drive folder {self.root} is in the trash. Restore it in Drive, or create another with 'nbkit "
                "login drive'. Files that wait are kept on this machine.",
                reason="rootTrashed",
            )
        self._root_seen, self._shared = True, bool(row.get("driveId"))

    # -- files --------------------------------------------------------------------------------------------------------

    def known(self, name: str) -> list[Entry]:
        """Return the files of a name from the listing of its folder, which is created if missing.

        The listing is fetched once, at one request per thousand files, then once a minute what is new in it. To ask
        for each name would cost a request per file.
        """
        path, _ = split(name)
        self.folder(path, make=True)
        if not self.memory.is_listed(path):
            with self._asking:
                if not self.memory.is_listed(path):
                    self._list_folder(path)
        return self.memory.entries(name)

    def _list_folder(self, path: str) -> None:
        began, newest, doing = time.monotonic(), self.memory.newest(path), f"listing {path or 'the store'}"
        if not newest:
            self.memory.take_files(path, self._children(self.folder(path), f"mimeType!='{FOLDER}'", doing), began)
            return
        # Drive's clock decides, not ours; the margin covers writes that became visible out of order
        since = (datetime.fromisoformat(newest) - _MARGIN).strftime("%Y-%m-%dT%H:%M:%S")
        rows = self._children(self.folder(path), f"mimeType!='{FOLDER}' and modifiedDate > '{since}'", doing)
        self.memory.add_files(path, rows, began)
        for title in {row["title"] for row in rows}:
            # whoever looks for one name must not fail for the twins of another, which he may not be allowed to delete;
            # reads take the file that was changed last, and the session's end tells what is there twice
            with contextlib.suppress(DriveError):
                self.merge(join(path, title))

    def find(self, name: str) -> list[Entry]:
        """Return the files of a name by asking Drive now."""
        path, title = split(name)
        parents = self.folder(path)
        if not parents:
            return []
        quoted = title.replace("\\", "\\\\").replace("'", "\\'")
        rows = self._children(parents, f"mimeType!='{FOLDER}' and title='{quoted}'", f"looking for {name}")
        self.memory.take_name(name, [row for row in rows if row["title"] == title])  # Drive ignores case
        return self.memory.entries(name)

    def walk(self, prefix: str, without: Collection[str] = ()) -> dict[str, list[Entry]]:
        """Return the names that start with a prefix and their files, as Drive has them now; 1,000 files per request.

        Folders in `without` are not looked into.
        """
        start, _ = split(prefix)
        everything = None if prefix else self._everything()  # first: it may show that the root is there
        ids = self.folder(start, fresh=True)
        level = {start: ids} if ids else {}
        found: dict[str, list[Entry]] = {}
        while level:
            began = time.monotonic()
            paths = {id: path for path, ids in level.items() for id in ids}
            rows: dict[str, list[Row]] = {path: [] for path in level}
            children = self._children(paths, "", f"listing {prefix}") if everything is None else everything
            for row in children:
                for parent in {paths[p["id"]] for p in row["parents"] if p["id"] in paths}:
                    rows[parent].append(row)
            level = {}
            for path, own in rows.items():
                self.memory.take_files(path, (row for row in own if row["mimeType"] != FOLDER), began)
                found |= {n: entries for n, entries in self.memory.names(path).items() if n.startswith(prefix)}
                for sub in self.memory.take_subfolders(path, (row for row in own if row["mimeType"] == FOLDER)):
                    if f"{sub}/".startswith(prefix) and sub not in without:
                        level[sub] = self.memory.folder(sub)
        return found

    def _everything(self) -> list[Row] | None:
        """Return all files and folders that this login sees; None where most lie outside of the store.

        A login of nbkit sees what nbkit made. So a whole store costs a request per thousand files, however many folders
        it has. In a shared drive such a search shows only what the user has opened.
        """
        if self._shared:
            return None
        rows: list[Row] = []
        fields = f"{FIELDS},driveId"
        for row in self._pages("trashed=false", "listing the store", fields, orderBy="folder"):  # folders come first
            rows.append(row)
            if len(rows) == _ENOUGH_SEEN and self._share_inside(rows) < 0.5:
                return None
        # what lies in a folder shows that it is a folder, and not in the trash: then it need not be looked at
        children = [row for row in rows if any(p["id"] == self.root for p in row["parents"])]
        self._root_seen |= bool(children) and not any(row.get("driveId") for row in children)
        self._check_root()
        return None if self._shared else rows

    def _share_inside(self, rows: list[Row]) -> float:
        inside, before = {self.root}, 0
        while len(inside) > before:
            before = len(inside)
            inside |= {row["id"] for row in rows if any(p["id"] in inside for p in row["parents"])}
        return (len(inside) - 1) / len(rows)

    def confirm(self, name: str, id: str, written: bool = False) -> Entry | None:
        """Ask Drive for the current content of an id; return None, and forget it, if it is gone or in the trash.

        `written` is True for what this process has just written: listings may still lack it.
        """
        request = self.access.files().get(fileId=id, fields=FIELDS, supportsAllDrives=True)
        try:
            row = self.access.call(request, f"looking at {name}", partial(answers.content, id=id))
        except DriveError as error:
            if not error.is_gone:
                raise
            row = None
        if row is None or row.get("labels", {}).get("trashed"):
            self.memory.forget(name, id)
            self.ended(name, id)
            return None
        return self.memory.remember(name, row, written)

    def remove(self, name: str, id: str) -> None:
        """Delete an id permanently: the trash would count against the quota."""
        request = self.access.files().delete(fileId=id, supportsAllDrives=True)
        try:
            self.access.call(request, f"deleting {name}", answers.nothing)
        except DriveError as error:
            if not error.is_gone:
                raise
        self.memory.forget(name, id, removed=True)

    def merge(self, name: str) -> list[Entry]:
        """Delete copies of a name's oldest file that are equal to it; return the remaining files."""
        entries = self.memory.entries(name)
        if len(entries) < 2:
            return entries
        kept = first_made(entries)
        twins = [e for e in entries if e.id != kept.id and e.holds(kept.size, kept.md5)]
        for twin in twins:
            # asked again: another session may have changed either since it was listed
            keeps, again = self.confirm(name, kept.id), self.confirm(name, twin.id)
            if keeps is not None and again is not None and again.holds(keeps.size, keeps.md5):
                self.remove(name, twin.id)
        return self.memory.entries(name)

    def vanished(self) -> None:
        """Forget everything: a folder was deleted by someone, so nothing remembered can be relied on."""
        with self._asking:
            self.memory.clear()
            self._root_seen = False
            self._check_root()

    def _children(self, parents: Iterable[str], where: str, doing: str) -> list[Row]:
        """Return the children of folders that meet a condition."""
        parents = list(parents)
        rows: dict[str, Row] = {}
        while parents:
            asked, parents = parents[: self._parents_a_query], parents[self._parents_a_query :]
            some = " or ".join(f"'{id}' in parents" for id in asked)
            query = f"({some}) and trashed=false" + (f" and {where}" if where else "")
            try:
                rows |= {row["id"]: row for row in self._pages(query, doing)}
            except DriveError as error:
                if error.status not in _TOO_LONG or len(asked) <= _PARENTS_AT_LEAST:
                    raise
                self._parents_a_query, parents = max(_PARENTS_AT_LEAST, len(asked) // 2), asked + parents
        return list(rows.values())

    def _pages(self, query: str, doing: str, fields: str = FIELDS, **more: str) -> Iterator[Row]:
        token, asked = None, set[str]()
        while True:
            request = self.access.files().list(
                q=query, maxResults=1000, pageToken=token, fields=f"kind,nextPageToken,items({fields})",
                supportsAllDrives=True, includeItemsFromAllDrives=True, **more,
            )  # fmt: skip
            rows, token = self.access.call(request, doing, answers.page)
            yield from rows
            if not token:
                return
            if token in asked:  # a cache on the way: it would never end
                raise DriveError(f"{doing} failed: the same page of the listing came twice", passing=True)
            asked.add(token)
