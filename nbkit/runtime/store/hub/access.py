"""Requests to one data set of the Hub, by the Hub's own client.

The client waits without a limit by default; here each read and write has one. Contents are sent by its plain HTTP
uploads, whose every byte the store's tests follow; a variable of the client switches its other protocol on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # the client reads it once, when it is imported

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_session, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    build_hf_headers,
    disable_progress_bars,
    enable_progress_bars,
    hf_raise_for_status,
)

from nbkit.runtime.store.hub.credential import HubCredential
from nbkit.runtime.store.hub.faults import in_words
from nbkit.runtime.store.retried import retry

if int(huggingface_hub.__version__.partition(".")[0]) < 1:
    raise ImportError(f"huggingface_hub is version {huggingface_hub.__version__}")  # another HTTP client

# A notebook may have imported the client first (transformers does), and then the variable above came too late.
constants.HF_HUB_DISABLE_XET = os.environ["HF_HUB_DISABLE_XET"].upper() in {"1", "ON", "YES", "TRUE"}

T = TypeVar("T")

TIMEOUT = 60.0  # seconds of one read or write
_TRIES, _FIRST_WAIT, _LONGEST_WAIT = 4, 0.4, 5.0  # longer waits are left to the store's retries
_NAMES_A_REQUEST = 500
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """What the Hub holds under a name.

    Attributes
    ----------
    name : str
    size : int
        Bytes.
    blob : str
        Git's SHA-1 of what git keeps: the content, or a pointer to it.
    sha256 : str or None
        Of the content, where git keeps a pointer only.
    """

    name: str
    size: int
    blob: str
    sha256: str | None = None

    @staticmethod
    def of(file: RepoFile) -> Entry:
        return Entry(file.path, file.size, file.blob_id, file.lfs.sha256 if file.lfs else None)

    def holds(self, size: int, sha256: str, blob: str) -> bool:
        """Return whether the content has this size and hash."""
        return self.size == size and (self.sha256 == sha256 if self.sha256 else self.blob == blob)


class HubAccess:
    """Requests to one data set.

    Parameters
    ----------
    repo : str
        Such as ``"user/nbkit"``.
    credential : HubCredential
    first_wait : float
        Seconds before the second try of a request.
    """

    def __init__(self, repo: str, credential: HubCredential, first_wait: float = _FIRST_WAIT) -> None:
        self.repo, self.credential, self._first_wait = repo, credential, first_wait
        for name in ("huggingface_hub.utils._http", "huggingface_hub.hf_api"):
            if (logger := logging.getLogger(name)).level == logging.NOTSET:
                logger.setLevel(logging.ERROR)  # it warns of each fault that is retried, with signed addresses
        self.api = HfApi(endpoint=credential.endpoint, token=credential.token)

    def __repr__(self) -> str:
        return f"HubAccess({self.repo!r}, {self.credential!r})"

    def once(self, doing: str, call: Callable[[], T]) -> T:
        """Make a call; any fault of the Hub becomes a `HubError`."""
        client = get_session()
        if client.timeout.read is None:
            client.timeout = TIMEOUT
        with in_words(doing, self.repo, self.credential.where):
            return call()

    def call(self, doing: str, call: Callable[[], T]) -> T:
        """Make a call that may be repeated, again after passing faults, and return its result."""
        return retry(
            lambda: self.once(doing, call), _TRIES, self._first_wait, _LONGEST_WAIT, time_left=lambda: _LONGEST_WAIT
        )

    def head(self) -> str:
        """Return the newest commit."""
        told = self.call(f"look at {self.repo}", lambda: self.api.dataset_info(self.repo, expand=["sha"]))
        return str(told.sha)

    def entries(self, names: Sequence[str]) -> dict[str, Entry]:
        """Return what the Hub holds now under some names, without those that it has not."""
        found: dict[str, Entry] = {}
        for start in range(0, len(names), _NAMES_A_REQUEST):
            some = list(names[start : start + _NAMES_A_REQUEST])

            def ask(some: list[str] = some) -> list[Any]:
                return list(self.api.get_paths_info(self.repo, some, repo_type="dataset"))

            for file in self.call(f"look at {some[0] if len(some) == 1 else f'{len(some)} files'}", ask):
                if isinstance(file, RepoFile):
                    found[file.path] = Entry.of(file)
        return found

    def tree(self, folder: str, commit: str) -> list[Entry]:
        """Return all files below a folder as they were at a commit, at one request per thousand files."""

        def ask() -> list[Entry]:
            try:
                files = self.api.list_repo_tree(
                    self.repo, folder or None, recursive=True, revision=commit, repo_type="dataset"
                )
                return [Entry.of(file) for file in files if isinstance(file, RepoFile)]
            except EntryNotFoundError:
                return []

        return self.call(f"list {folder or self.repo}", ask)

    def send(self, adds: Sequence[CommitOperationAdd]) -> None:
        """Upload contents that a later commit will name; what the Hub has already is not sent again."""
        with _no_bars():
            self.once(
                f"send {len(adds)} files",
                lambda: self.api.preupload_lfs_files(self.repo, adds, repo_type="dataset", free_memory=False),
            )

    def commit(self, operations: Sequence[CommitOperationAdd | CommitOperationDelete], words: str) -> None:
        """Make one commit; the content of its files is sent, where it was not before."""
        with _no_bars():
            self.once(
                f"put {words}",
                lambda: self.api.create_commit(
                    self.repo, list(operations), commit_message=f"nbkit {words}", repo_type="dataset"
                ),
            )

    def download(self, name: str, target: Any) -> None:
        """Write the newest content of a name into a file."""

        def fetch() -> None:
            url = hf_hub_url(self.repo, name, repo_type="dataset", endpoint=self.credential.endpoint)
            headers = build_hf_headers(token=self.credential.token) | {"Accept-Encoding": "identity"}
            with get_session().stream("GET", url, headers=headers, follow_redirects=True) as answer:
                if answer.status_code >= 400:
                    answer.read()
                hf_raise_for_status(answer)
                for block in answer.iter_bytes(_BLOCK):
                    target.write(block)

        self.once(f"get {name}", fetch)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the client's own bars away: it has none for one file, and the session shows its own."""
    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
