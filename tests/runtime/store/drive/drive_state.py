"""What a Drive on the loopback knows and how it behaves: rows under ids, contents, logins, and a plan of faults."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.runtime.store.drive.drive_query import condition
from tests.runtime.store.served import Faulty

FOLDER = "application/vnd.google-apps.folder"
CLIENT, CLIENT_SECRET = "client-1.apps.googleusercontent.com", "GOCSPX-planted-client-secret"
REFRESH = "1//planted-refresh-token"
ROOT = "0ArootOfThisDrive0000"
BEFORE = ("json500", "html502", "busy503", "storm429", "rate403", "drop", "expired")
AFTER = ("commit500", "commitdrop")
DOWNLOADS = ("truncated", "short", "flipped")


@dataclass
class Plan:
    """Say how this Drive behaves.

    Attributes
    ----------
    rate : float
        Share of requests that fail.
    kinds : tuple of str
        Of `BEFORE`, `AFTER` and `DOWNLOADS`.
    latency : float
        Seconds before each answer.
    slow : int
        That many of the next requests are answered after 5 seconds only.
    lag : float
        Seconds until listings show what was made.
    page : int
        Rows of a listing at most.
    quota : int or None
        Bytes.
    revoked : bool
        True where the login no longer works.
    fail_next : list of str
        Kinds for the next requests, whatever the rate.
    """

    rate: float = 0.0
    kinds: tuple[str, ...] = BEFORE + AFTER + DOWNLOADS
    seed: int = 0
    latency: float = 0.0
    slow: int = 0
    lag: float = 0.0
    page: int = 1000
    quota: int | None = None
    revoked: bool = False
    retry_after: str = "1"
    fail_next: list[str] = field(default_factory=list)


@dataclass
class Upload:
    """Keep an unfinished resumable upload."""

    meta: dict[str, Any]
    id: str | None
    size: int
    path: Path
    received: int = 0
    row: dict[str, Any] | None = None


class Refusal(Exception):
    """Answer with a status and Drive's own word."""

    def __init__(self, status: int, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.message = status, reason, message or reason


class Drive(Faulty):
    """Hold what this Drive knows; all access is under one lock."""

    def __init__(self, plan: Plan | None = None, folder: Path | None = None) -> None:
        super().__init__(plan or Plan())
        self.folder = folder or Path(tempfile.mkdtemp(prefix="drive-loopback-"))
        self.rows: dict[str, dict[str, Any]] = {}
        self.content: dict[str, bytes | Path] = {}
        self.generated: set[str] = set()
        self.uploads: dict[str, Upload] = {}
        self.tokens: set[str] = set()
        self.issued: list[str] = []
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.made_folder = self._add({"title": "nbkit", "mimeType": FOLDER}, self.new_id())["id"]

    # -- ids, rows, content -------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        id = "1" + secrets.token_urlsafe(24)
        self.generated.add(id)
        return id

    def _add(self, meta: dict[str, Any], id: str) -> dict[str, Any]:
        if id in self.rows:
            raise Refusal(409, "fileIdInUse", "A file already exists with the provided ID.")
        if id not in self.generated:
            raise Refusal(400, "invalid", "The provided file ID is not usable.")
        parents = [{"id": ROOT if p["id"] == "root" else p["id"]} for p in meta.get("parents", [{"id": ROOT}])]
        for parent in parents:
            if parent["id"] != ROOT and parent["id"] not in self.rows:
                raise Refusal(404, "notFound", f"File not found: {parent['id']}")
        now = stamp()
        row = {"id": id, "title": meta["title"], "mimeType": meta.get("mimeType", "text/plain"), "parents": parents}
        row |= {
            "createdDate": now,
            "modifiedDate": now,
            "labels": {"trashed": False},
            "shown": time.time() + self.plan.lag,
        }
        self.rows[id] = row
        return row

    def store(self, meta: dict[str, Any], id: str | None, content: bytes | Path, size: int) -> dict[str, Any]:
        """Commit a content: to an existing id, or to a new one."""
        with self.lock:
            used = sum(int(row.get("fileSize", 0)) for row in self.rows.values())
            if self.plan.quota is not None and used + size > self.plan.quota:
                raise Refusal(403, "storageQuotaExceeded", "The user's Drive storage quota has been exceeded.")
            row = self.row(id) if id is not None else self._add(meta, meta.get("id") or self.new_id())
            self.content[row["id"]] = content
            row |= {"fileSize": str(size), "md5Checksum": md5_of(content), "modifiedDate": stamp()}
            return row

    def row(self, id: str) -> dict[str, Any]:
        id = ROOT if id == "root" else id
        if id == ROOT:
            return {"id": ROOT, "title": "My Drive", "mimeType": FOLDER, "labels": {"trashed": False}, "parents": []}
        if id not in self.rows:
            raise Refusal(404, "notFound", f"File not found: {id}")
        return self.rows[id]

    def delete(self, id: str) -> None:
        with self.lock:
            self.row(id)
            del self.rows[id]
            self.content.pop(id, None)
            for child in [r["id"] for r in self.rows.values() if any(p["id"] == id for p in r["parents"])]:
                self.delete(child)

    def search(self, text: str, start: int, wanted: int) -> dict[str, Any]:
        try:
            fits = condition(text.replace("'root'", f"'{ROOT}'"))
        except (ValueError, KeyError, IndexError) as error:
            raise Refusal(400, "invalid", str(error)) from error
        with self.lock:
            now = time.time()
            rows = [row for row in self.rows.values() if row["shown"] <= now and fits(row)]
        end = start + min(wanted, self.plan.page)
        more = {"nextPageToken": f"page-{end}"} if end < len(rows) else {}
        return {"kind": "drive#fileList", "items": rows[start:end], **more}

    # -- what tests look at -------------------------------------------------------------------------------------------

    def tree(self, root: str | None = None, prefix: str = "") -> list[tuple[str, str, int]]:
        """Return (name, MD5, size) of every file below a folder, repeated names repeated."""
        found = []
        with self.lock:
            for row in list(self.rows.values()):
                if any(p["id"] == (root or self.made_folder) for p in row["parents"]):
                    if row["mimeType"] == FOLDER:
                        found += self.tree(row["id"], f"{prefix}{row['title']}/")
                    else:
                        found.append((prefix + row["title"], row["md5Checksum"], int(row["fileSize"])))
        return sorted(found)

    def bytes_of(self, id: str) -> bytes:
        content = self.content[id]
        return content if isinstance(content, bytes) else content.read_bytes()

    def summary(self) -> dict[str, Any]:
        """Return what another process may want to know."""
        files = self.tree()
        return {"files": files, "counts": dict(self.counts), "faults": dict(self.faults), "issued": self.issued}


def stamp() -> str:
    """Return the time as Drive writes it."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def md5_of(content: bytes | Path) -> str:
    """Return the MD5 of bytes or of a file."""
    if isinstance(content, bytes):
        return hashlib.md5(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
