"""A private data set of the Hugging Face Hub as a store: ``hf://datasets/<user>/<name>``.

A put returns when the Hub was seen to hold the content, by its own hash; all puts of a minute share one commit. A
listing is remembered with the commit that it shows, so that it is fetched again only after a change.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_atomically
from nbkit.runtime.errors import DamagedError, UsageError
from nbkit.runtime.names import check_name, check_prefix
from nbkit.runtime.store.hub.access import Entry, HubAccess
from nbkit.runtime.store.hub.commits import EVERY, Commits, Content
from nbkit.runtime.store.hub.credential import HubCredential, find_hub_credential
from nbkit.runtime.store.hub.faults import HubError
from nbkit.runtime.store.protocol import Stat

EVERY_VARIABLE = "NBKIT_HUB_COMMIT_SECONDS"
_ADDRESS = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+?)/?")
_ROUNDS = 3  # looks at a name that parallel sessions change meanwhile
_BLOCK = 1 << 20


class HubStore:
    """Files in a data set of the Hub.

    Parameters
    ----------
    repo : str
        Such as ``"user/nbkit"``, which `nbkit login hf` created.
    credential : HubCredential or None
        None takes the first that `find_hub_credential` finds.
    every : float or None
        Seconds between two commits; None takes those of the variable NBKIT_HUB_COMMIT_SECONDS, or 60.
    first_wait : float
        Seconds before a request is tried again.

    Raises
    ------
    UsageError
        If there is no usable token.
    """

    uploads_at_once = 64  # threads of the outbox, each of which waits for the commit with its file

    def __init__(
        self, repo: str, credential: HubCredential | None = None, every: float | None = None, first_wait: float = 0.4
    ) -> None:
        self.url = f"hf://datasets/{repo}"
        self._access = HubAccess(repo, credential or find_hub_credential(), first_wait)
        self._commits = Commits(self._access, _every() if every is None else every)
        self._lock = threading.Lock()
        self._listed: dict[str, tuple[str, dict[str, Entry]]] = {}
        atexit.register(self._leave)

    def __repr__(self) -> str:
        return f"HubStore({self.url!r})"

    def put(self, path: Path, name: str) -> Stat:
        return self.put_together([(Path(path), name)])[0]

    def put_together(self, files: Sequence[tuple[Path, str]]) -> list[Stat]:
        """Store files with one commit: all of them are there afterwards, or none."""
        contents = [_read(path, check_name(name, "store name")) for path, name in files]
        self._commits.put_all(contents)
        for content in contents:
            content.done.result()
        return [Stat(content.name, content.size, f"sha256:{content.sha256}") for content in contents]

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        check_name(name, "store name")
        entry = self._remembered(name)
        for _ in range(_ROUNDS):
            entry = entry or self._entry(name)
            if entry is None:
                raise FileNotFoundError(errno.ENOENT, f"the store {self.url} holds no {name}")
            wanted = entry
            try:
                size, found = write_atomically(Path(path), lambda file: self._fetch(wanted, file, sha256))  # noqa: B023
            except HubError as error:
                if not error.passing and error.status != 404:
                    raise
                entry, fault = None, error  # changed since it was listed, or it arrived damaged: try again
            else:
                return Stat(name, size, f"sha256:{found}")
        raise HubError(str(fault), passing=True)

    def _fetch(self, entry: Entry, target: Any, sha256: str | None) -> None:
        git = _Git(target, entry.size)
        self._access.download(entry.name, git)
        found = target.digest.hexdigest()
        if not entry.holds(target.size, found, git.digest.hexdigest()):
            raise HubError(
                f"{entry.name} arrived damaged from {self.url}: {target.size} bytes with SHA-256 {found[:12]}, which "
                "is not what is stored there. The download was discarded, the store left as it is.",
                passing=True,
            )
        if sha256 and found != sha256:
            raise DamagedError(
                f"{entry.name} in {self.url} is damaged: SHA-256 {found[:12]}..., its receipt says {sha256[:12]}.... "
                "The download was discarded, the store left as it is. Run 'nbkit verify' to see what else is damaged."
            )

    def stat(self, name: str) -> Stat | None:
        entry = self._entry(check_name(name, "store name"))
        return None if entry is None else _stat(entry)

    def _entry(self, name: str) -> Entry | None:
        return None if self._commits.is_deleted(name) else self._access.entries([name]).get(name)

    def _remembered(self, name: str) -> Entry | None:
        """Return what the newest listing showed under a name: it may be older than what the Hub holds."""
        if self._commits.is_deleted(name):
            return None
        with self._lock:
            return next((shown[name] for _, shown in reversed(self._listed.values()) if name in shown), None)

    def list(self, prefix: str = "") -> Iterator[Stat]:
        folder = check_prefix(prefix).rpartition("/")[0]
        deleted = self._commits.deleted()  # before the head is asked for: their commit may come right after it
        commit = self._access.head()
        with self._lock:
            known, shown = self._listed.get(folder, ("", {}))
        if known != commit:
            shown = {entry.name: entry for entry in self._access.tree(folder, commit)}
            with self._lock:
                self._listed.pop(folder, None)
                self._listed[folder] = commit, shown  # the newest last
        for name in sorted(shown):
            # such as .gitattributes, which the Hub makes
            if name.startswith(prefix) and "/." not in f"/{name}":
                if name not in deleted and not self._commits.is_deleted(name):
                    yield _stat(shown[name])

    def delete(self, name: str) -> None:
        """Delete a file with the next commit; this process sees it no more from now on."""
        self._commits.delete(check_name(name, "store name"))

    def settle(self) -> None:
        """Make the commit of what waits now, for a command that ends."""
        self._commits.settle(EVERY, at_once=True)

    def _leave(self) -> None:
        if self._commits.deletes():
            self._commits.settle(EVERY + 10.0)

    def connect(self) -> HubStore:
        """Return this store: all threads share its commits, and each request has a connection of its own."""
        return self


class _Git:
    """Compute git's SHA-1 of a content while it is written."""

    def __init__(self, target: Any, size: int) -> None:
        self._target, self.digest = target, _git(size)

    def write(self, block: bytes) -> None:
        self.digest.update(block)
        self._target.write(block)


def _git(size: int) -> Any:
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def _read(path: Path, name: str) -> Content:
    """Return a file's hashes, from one reading."""
    size = os.path.getsize(path)
    sha256, blob = hashlib.sha256(), _git(size)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            sha256.update(block)
            blob.update(block)
    return Content(name, Path(path), size, sha256.hexdigest(), blob.hexdigest())


def _stat(entry: Entry) -> Stat:
    return Stat(entry.name, entry.size, f"sha256:{entry.sha256}" if entry.sha256 else None, changed=entry.blob)


def _every() -> float:
    text = os.environ.get(EVERY_VARIABLE, "").strip()
    try:
        return max(0.0, float(text or EVERY))
    except ValueError:
        raise UsageError(
            f"{EVERY_VARIABLE} is {text!r}. Allowed are seconds between two commits, such as 60. Nothing was opened."
        ) from None


def open_hub(url: str) -> HubStore:
    """Open ``hf://datasets/<user>/<name>``.

    Raises
    ------
    UsageError
        If the address names no data set, or there is no usable token.
    """
    match = _ADDRESS.fullmatch(url)
    if match is None:
        raise UsageError(
            f"The store {url!r} names no data set of the Hub. Allowed is hf://datasets/<user>/<name>, as 'nbkit login "
            "hf' prints it. Nothing was written."
        )
    return HubStore(match[1])
