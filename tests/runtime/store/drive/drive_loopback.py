"""A Google Drive on the loopback: v2 with resumable uploads, logins, and every fault of the real one.

It holds files under ids, lets names repeat, checks what the real one checks, and fails a share of all requests in the
ways that were seen: before or after the work was done, with JSON, with HTML, with nothing. It listens on 127.0.0.1
only, in a thread or, by ``python -m tests.runtime.store.drive.drive_loopback``, in a process that ends with its parent.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.runtime.store.drive.drive_query import pick
from tests.runtime.store.drive.drive_state import (
    AFTER,
    BEFORE,
    CLIENT,
    CLIENT_SECRET,
    DOWNLOADS,
    REFRESH,
    Drive,
    Plan,
    Refusal,
    Upload,
)
from tests.runtime.store.served import Answering, ServerProcess

_STEP = 256 << 10  # Drive takes chunks in multiples of this


class Handler(Answering):
    """Answer one connection's requests."""

    drive: Drive

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        drive, parts = self.drive, urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.length = int(self.headers.get("Content-Length") or 0)
        method, path = self.command, parts.path
        if path == "/control":
            return self._control()
        if self.headers.get("X-HTTP-Method-Override"):
            method = self.headers["X-HTTP-Method-Override"]
            self.query |= {name: values[0] for name, values in parse_qs(self._body().decode()).items()}
        with drive.lock:
            drive.counts["all"] += 1
            drive.counts[f"{method} {path.split('/files/')[0]}"] += 1
            slow, drive.plan.slow = drive.plan.slow > 0, max(0, drive.plan.slow - 1)
        time.sleep(5.0 if slow else drive.plan.latency)
        writes = method in ("POST", "PUT", "DELETE")
        login = path in ("/token", "/o/oauth2/auth")
        before = tuple(k for k in BEFORE if not (login and k == "expired"))
        kind = drive.fault(
            before + (AFTER if writes and not login else ()) + (DOWNLOADS if self.query.get("alt") else ())
        )
        if kind:
            with drive.lock:
                drive.faults[kind] += 1
        try:
            if kind in BEFORE:
                self._fail(kind)
            else:
                self._answer(method, path, kind)
        except Refusal as refusal:
            self._body()
            error = {"code": refusal.status, "message": refusal.message}
            error["errors"] = [{"reason": refusal.reason, "message": refusal.message, "domain": "global"}]
            self._send(refusal.status, {"error": error})
        except ConnectionError:
            self.close_connection = True

    def _fail(self, kind: str) -> None:
        drive = self.drive
        if kind == "drop":
            if "upload_id" in self.query and self.length > 1:  # dies in the middle of a chunk
                with drive.lock:
                    upload = drive.uploads.get(self.query["upload_id"])
                if upload is not None and upload.row is None and "-" in self.headers.get("Content-Range", ""):
                    self._receive(upload, self.length // 2)
            return self._hang_up()
        self._body()
        if kind == "html502":
            return self._send(
                502, b"<!DOCTYPE html><html><title>Error 502 (Server Error)!!1</title></html>", "text/html"
            )
        if kind == "expired":
            with drive.lock:
                drive.tokens.clear()
        if urlsplit(self.path).path == "/token":
            return self._send(500, {"error": "internal_failure", "error_description": "Backend Error"})
        status, reason = {
            "json500": (500, "backendError"),
            "busy503": (503, "backendError"),
            "rate403": (403, "userRateLimitExceeded"),
            "storm429": (429, "rateLimitExceeded"),
            "expired": (401, "authError"),
        }[kind]
        extra = {"Retry-After": drive.plan.retry_after} if kind == "busy503" else {}
        error = {"code": status, "message": "no", "errors": [{"reason": reason}]}
        self._send(status, {"error": error}, more=extra)

    def _answer(self, method: str, path: str, kind: str | None) -> None:
        if path == "/o/oauth2/auth":
            self._body()
            said = "error=access_denied" if self.drive.plan.revoked else "code=planted-code"
            return self._send(302, b"", more={"Location": f"{self.query['redirect_uri']}?{said}"})
        if path == "/token":
            return self._token()
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        with self.drive.lock:
            known = token in self.drive.tokens
        if not known:
            raise Refusal(401, "authError", "Invalid Credentials")
        if path.startswith("/upload/drive/v2/files"):
            return self._upload(path, kind)
        if path.startswith("/drive/v2/about"):
            used = sum(int(row.get("fileSize", 0)) for row in self.drive.rows.values())
            total = str(self.drive.plan.quota or 15 << 30)
            return self._send(200, {"quotaBytesTotal": total, "quotaBytesUsedAggregate": str(used)})
        id = path.removeprefix("/drive/v2/files").lstrip("/")
        if id == "generateIds":
            with self.drive.lock:
                ids = [self.drive.new_id() for _ in range(int(self.query.get("maxResults", 10)))]
            return self._send(200, {"ids": ids})
        if method == "GET" and not id:
            start = int(self.query.get("pageToken", "page-0").removeprefix("page-"))
            found = self.drive.search(
                self.query.get("q", "trashed=false"), start, int(self.query.get("maxResults", 100))
            )
            return self._send(200, self._picked(found))
        if method == "GET":
            if self.query.get("alt") == "media":
                return self._download(id, kind)
            with self.drive.lock:
                return self._send(200, self._picked(self.drive.row(id)))
        meta = json.loads(self._body() or b"{}")
        if method == "DELETE":
            self.drive.delete(id)
            return self._done(kind, 204, b"")
        with self.drive.lock:
            row = self.drive.row(id) if id else self.drive._add(meta, meta.get("id") or self.drive.new_id())
        self._done(kind, 200, self._picked(row))

    def _token(self) -> None:
        fields = {name: values[0] for name, values in parse_qs(self._body().decode()).items()}
        drive = self.drive
        if fields.get("client_id") != CLIENT or fields.get("client_secret") != CLIENT_SECRET:
            return self._send(401, {"error": "invalid_client", "error_description": "The OAuth client was not found."})
        first = fields.get("grant_type") == "authorization_code"
        good = fields.get("code") == "planted-code" if first else fields.get("refresh_token") == REFRESH
        if drive.plan.revoked or not good:
            words = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
            return self._send(400, words)
        with drive.lock:
            token = f"ya29.planted-{secrets.token_hex(12)}"
            drive.tokens.add(token)
            drive.issued.append(token)
        answer = {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}
        answer["scope"] = "https://www.googleapis.com/auth/drive.file"
        self._send(200, answer | ({"refresh_token": REFRESH} if first else {}))

    # -- uploads and downloads ----------------------------------------------------------------------------------------

    def _upload(self, path: str, kind: str | None) -> None:
        drive, id = self.drive, path.removeprefix("/upload/drive/v2/files").lstrip("/") or None
        if "upload_id" in self.query:
            return self._chunk(kind)
        if self.query["uploadType"] == "resumable":
            meta = json.loads(self._body() or b"{}")
            with drive.lock:
                if id is not None:
                    drive.row(id)
                elif meta.get("id") in drive.rows:
                    raise Refusal(409, "fileIdInUse", "A file already exists with the provided ID.")
                name = f"planted-upload-{secrets.token_hex(12)}"
                size = int(self.headers["X-Upload-Content-Length"])
                drive.uploads[name] = Upload(meta, id, size, drive.folder / name)
                drive.uploads[name].path.touch()
            separator = "&" if "?" in self.path else "?"
            place = f"http://{self.headers['Host']}{self.path}{separator}upload_id={name}"
            return self._done(kind, 200, b"", {"Location": place})
        boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"').split('"')[0].encode()
        parts = self._body().split(b"--" + boundary)
        meta, content = (part.split(b"\n\n", 1)[1][:-1] for part in parts[1:3])
        row = drive.store(json.loads(meta or b"{}"), id, content, len(content))
        self._done(kind, 200, self._picked(row))

    def _chunk(self, kind: str | None) -> None:
        drive = self.drive
        upload = drive.uploads.get(self.query["upload_id"])
        if upload is None:
            raise Refusal(404, "notFound", "upload not found")
        span, _, total = self.headers["Content-Range"].removeprefix("bytes ").partition("/")
        if span != "*" and upload.row is None:
            first, last = map(int, span.split("-"))
            if (
                first != upload.received
                or ((last + 1) % _STEP and last + 1 != upload.size)
                or int(total) != upload.size
            ):
                raise Refusal(400, "invalid", f"chunk {span}/{total} does not fit after {upload.received} bytes")
            drive.counts["bytes of chunks"] += self.length
            self._receive(upload, self.length)
        if upload.row is None and upload.received == upload.size:
            upload.row = drive.store(upload.meta, upload.id, upload.path, upload.size)
        if upload.row is not None:
            return self._done(kind, 200, self._picked(upload.row))
        more = {"Range": f"bytes=0-{upload.received - 1}"} if upload.received else {}
        self._done(kind, 308, b"", more)

    def _receive(self, upload: Upload, length: int) -> None:
        with open(upload.path, "r+b") as file:
            file.seek(upload.received)
            left = length
            while left and (block := self.rfile.read(min(left, 1 << 16))):
                file.write(block)
                left -= len(block)
        self.length -= length
        got = upload.received + length - left
        upload.received = got if got == upload.size else got // _STEP * _STEP

    def _download(self, id: str, kind: str | None) -> None:
        with self.drive.lock:
            row = self.drive.row(id)
            content, size = self.drive.content[row["id"]], int(row["fileSize"])
        first, last = 0, size - 1
        if "Range" in self.headers:
            low, _, high = self.headers["Range"].removeprefix("bytes=").partition("-")
            first, last = int(low), min(int(high), size - 1)
        if size == 0:
            return self._send(416, b"", more={"Content-Range": "bytes */0"})
        if isinstance(content, bytes):
            data = content[first : last + 1]
        else:
            with open(content, "rb") as file:
                file.seek(first)
                data = file.read(last + 1 - first)
        if kind == "flipped":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if kind == "short":
            return self._send(200, data[: len(data) // 2], "application/octet-stream")
        more = {"Content-Range": f"bytes {first}-{last}/{size}"}
        if kind == "truncated":
            more["Content-Length"] = str(len(data))
            self._send(206, data[: len(data) // 2], "application/octet-stream", more)
            return self._hang_up()
        self._send(206, data, "application/octet-stream", more)

    # -- sending ------------------------------------------------------------------------------------------------------

    def _body(self) -> bytes:
        wanted, self.length = self.length, 0
        data = self.rfile.read(wanted) if wanted else b""
        if len(data) < wanted:
            raise ConnectionResetError("the client died in the middle")
        return data

    def _picked(self, value: Any) -> Any:
        return pick(value, self.query.get("fields"))

    def _done(self, kind: str | None, status: int, body: Any, more: dict[str, str] | None = None) -> None:
        """Answer a request whose work is done, or fail all the same."""
        if kind == "commitdrop":
            return self._hang_up()
        if kind == "commit500":
            return self._send(500, {"error": {"code": 500, "message": "no", "errors": [{"reason": "internalError"}]}})
        self._send(status, body, more=more)

    def _control(self) -> None:
        if self.command == "POST":
            for name, value in json.loads(self._body()).items():
                setattr(self.drive.plan, name, tuple(value) if name == "kinds" else value)
        self._send(200, {"all": self.drive.counts["all"]} if "brief" in self.query else self.drive.summary())


class Loopback:
    """Serve a Drive from a thread of this process.

    Attributes
    ----------
    drive : Drive
    url : str
        The store's address, ``gdrive://<folder id>``.
    """

    def __init__(self, plan: Plan | None = None, folder: Path | None = None) -> None:
        self.drive = Drive(plan, folder)
        handler = type("BoundHandler", (Handler,), {"drive": self.drive})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = _say_unless_hung_up
        self.root = f"http://127.0.0.1:{self._server.server_port}/"
        self.url = f"gdrive://{self.drive.made_folder}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def credential_text(self) -> str:
        """Return what a login to this Drive would have written."""
        fields = {"client_id": CLIENT, "client_secret": CLIENT_SECRET, "refresh_token": REFRESH}
        return json.dumps(fields | {"token_uri": f"{self.root}token", "api_root": self.root})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LoopbackProcess(ServerProcess):
    """Serve a Drive from a process of its own.

    Attributes
    ----------
    url, credential : str
    """

    def __init__(self, folder: Path, **plan: Any) -> None:
        super().__init__("tests.runtime.store.drive.drive_loopback", str(folder), json.dumps(plan))
        self.url, self.root, self.credential = (self.told[name] for name in ("url", "root", "credential"))


def _say_unless_hung_up(*_: Any) -> None:
    if not isinstance(sys.exc_info()[1], ConnectionError):
        sys.__excepthook__(*sys.exc_info())


def main() -> None:
    """Serve until the standard input ends, which it does when the parent dies."""
    folder, plan = Path(sys.argv[1]), json.loads(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if "kinds" in plan:
        plan["kinds"] = tuple(plan["kinds"])
    served = Loopback(Plan(**plan), folder)
    print(json.dumps({"url": served.url, "root": served.root, "credential": served.credential_text()}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
