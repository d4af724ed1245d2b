"""What a Hub on the loopback knows and how it behaves: files, contents, commits, a token, and a plan of faults."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.runtime.store.served import Faulty

TOKEN = "hf_plantedTokenOfTheLoopback0001"
USER = "someone"
BEFORE = ("json500", "html502", "busy503", "storm429", "drop")
AFTER = ("commit500", "commitdrop")
DOWNLOADS = ("truncated", "short", "flipped")
LFS = (".npz", ".npy", ".ckpt", ".bin", ".zip", ".whl")


@dataclass
class Plan:
    """Say how this Hub behaves.

    Attributes
    ----------
    rate : float
        Share of requests that fail.
    kinds : tuple of str
        Of `BEFORE`, `AFTER` and `DOWNLOADS`.
    page : int
        Files of a listing's page.
    revoked, read_only, full : bool
        True where the token no longer works, may only read, or the storage is used up.
    limit : int or None
        Commits after which all others are answered by 429, as the Hub's own limit does.
    fail_next : list of str
        Kinds for the next requests, whatever the rate.
    """

    rate: float = 0.0
    kinds: tuple[str, ...] = BEFORE + AFTER + DOWNLOADS
    seed: int = 0
    page: int = 1000
    revoked: bool = False
    read_only: bool = False
    full: bool = False
    limit: int | None = None
    retry_after: str = "0"
    fail_next: list[str] = field(default_factory=list)


class Refusal(Exception):
    """Answer with a status, the Hub's own code for it, and words."""

    def __init__(self, status: int, code: str = "", message: str = "", more: dict[str, str] | None = None) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.more = status, code, message or code, more or {}


@dataclass(frozen=True)
class File:
    """A file of a commit: its content's SHA-256, and git's SHA-1 of the content or of the pointer to it."""

    size: int
    sha256: str
    blob: str
    lfs: bool

    def row(self, name: str) -> dict[str, Any]:
        row: dict[str, Any] = {"type": "file", "path": name, "size": self.size, "oid": self.blob}
        return row | ({"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 130}} if self.lfs else {})


def file_of(content: bytes, lfs: bool) -> File:
    sha256 = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
    kept = pointer if lfs else content
    return File(len(content), sha256, hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest(), lfs)


class Hub(Faulty):
    """Hold what this Hub knows; all access is under one lock."""

    longest_storm = 3

    def __init__(self, plan: Plan | None = None) -> None:
        super().__init__(plan or Plan())
        self.repos: dict[str, dict[str, Any]] = {}
        self.content: dict[str, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.make(f"{USER}/nbkit")

    def make(self, repo: str, private: bool = True) -> None:
        first = {".gitattributes": self.keep(b"*.npz filter=lfs\n", lfs=False)}
        self.repos[repo] = {"private": private, "trees": {}, "commits": []}
        self._record(repo, first, "initial commit")

    def keep(self, content: bytes, lfs: bool) -> File:
        kept = file_of(content, lfs)
        self.content[kept.sha256] = content
        return kept

    def _record(self, repo: str, files: dict[str, File], message: str) -> str:
        known = self.repos[repo]
        oid = hashlib.sha1(f"{repo}{len(known['commits'])}".encode()).hexdigest()
        known["trees"][oid] = files
        known["commits"].append({"oid": oid, "at": time.monotonic(), "message": message, "files": len(files)})
        return oid

    def files(self, repo: str, commit: str = "main") -> dict[str, File]:
        if repo not in self.repos:
            raise Refusal(404, "RepoNotFound", "Repository not found")
        known = self.repos[repo]
        oid = known["commits"][-1]["oid"] if commit == "main" else commit
        if oid not in known["trees"]:
            raise Refusal(404, "RevisionNotFound", "Invalid rev id")
        return known["trees"][oid]

    def mode(self, name: str, size: int) -> str:
        return "lfs" if name.endswith(LFS) or size > 10 << 20 else "regular"

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> str:
        """Make one commit of the lines that the client sends, or none."""
        import base64

        if self.plan.limit is not None and len(self.repos[repo]["commits"]) > self.plan.limit:
            raise Refusal(429, "", "You have exceeded the rate limit for repository commits", {"Retry-After": "3000"})
        with self.lock:
            files, message = dict(self.files(repo)), ""
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    message = value["summary"]
                elif line["key"] == "file":
                    files[value["path"]] = self.keep(base64.b64decode(value["content"]), lfs=False)
                elif line["key"] == "lfsFile":
                    if value["oid"] not in self.content:
                        raise Refusal(400, "", f"the object {value['oid']} was not uploaded")
                    files[value["path"]] = file_of(self.content[value["oid"]], lfs=True)
                elif files.pop(value["path"], None) is None:
                    raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
            return self._record(repo, files, message)

    def tree(self, repo: str = f"{USER}/nbkit") -> dict[str, str]:
        """Return name and SHA-256 of every file that a session stored."""
        with self.lock:
            return {n: f.sha256 for n, f in sorted(self.files(repo).items()) if not n.startswith(".")}

    def summary(self, repo: str = f"{USER}/nbkit") -> dict[str, Any]:
        """Return what another process may want to know."""
        with self.lock:
            commits = [{k: c[k] for k in ("at", "message")} for c in self.repos[repo]["commits"][1:]]
            seen = {"files": self.tree(repo), "commits": commits, "private": self.repos[repo]["private"]}
            return seen | {"counts": dict(self.counts), "faults": dict(self.faults)}
