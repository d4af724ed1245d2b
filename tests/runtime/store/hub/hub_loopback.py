"""A Hugging Face Hub on the loopback: the routes that its own client asks for a data set, and their faults.

It listens on 127.0.0.1 only, in a thread or, by ``python -m tests.runtime.store.hub.hub_loopback``, in a process that
ends with its parent.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.runtime.store.hub.hub_state import AFTER, BEFORE, DOWNLOADS, LFS, TOKEN, USER, Hub, Plan, Refusal
from tests.runtime.store.served import Answering, ServerProcess

_ROUTES = (
    ("POST", r"/api/repos/create", "create"),
    ("GET", r"/api/whoami-v2", "whoami"),
    ("GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)", "info"),
    ("POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/paths-info/main", "paths"),
    ("GET", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/tree/(?P<commit>[^/]+)(?:/(?P<name>.*))?", "tree"),
    ("POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/preupload/main", "preupload"),
    ("POST", r"/api/datasets/(?P<repo>[^/]+/[^/]+)/commit/main", "commit"),
    ("POST", r"/datasets/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("GET", r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/main/(?P<name>.+)", "resolve"),
    ("PUT", r"/objects/(?P<name>\w+)", "object"),
    ("GET", r"/objects/(?P<name>\w+)", "object"),
)
_SIGNED = "plantedSignature0123456789"


class Handler(Answering):
    """Answer one connection's requests."""

    hub: Hub

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        hub, parts = self.hub, urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/control":
            return self._control()
        path = unquote(parts.path)
        route = next(
            ((how, m) for method, p, how in _ROUTES if method == self.command and (m := re.fullmatch(p, path))), None
        )
        try:
            self.body = self._read()
            if route is None:
                raise Refusal(404, "", f"{self.command} {path} is not known to this loopback")
            how, match = route
            with hub.lock:
                hub.counts["all"] += 1
                hub.counts[how] += 1
            sends = self.command == "GET" and (how == "object" or (how == "resolve" and not path.endswith(LFS)))
            self.kind = hub.fault(BEFORE + (AFTER if how == "commit" else ()) + (DOWNLOADS if sends else ()))
            if self.kind:
                with hub.lock:
                    hub.faults[self.kind] += 1
            if self.kind in BEFORE:
                return self._fail(self.kind)
            if how != "object" and (hub.plan.revoked or self.headers.get("Authorization") != f"Bearer {TOKEN}"):
                raise Refusal(401, "", "Invalid credentials in Authorization header")
            getattr(self, f"_{how}")(**match.groupdict())
        except Refusal as refusal:
            more = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message} if refusal.code else {}
            self._send(refusal.status, {"error": refusal.message}, more=more | refusal.more)
        except ConnectionError:
            self.close_connection = True

    def _fail(self, kind: str) -> None:
        if kind == "drop":
            return self._hang_up()
        if kind == "html502":
            return self._send(502, b"<!DOCTYPE html><html><title>502 Bad Gateway</title></html>", "text/html")
        status = {"json500": 500, "busy503": 503, "storm429": 429}[kind]
        more = {"Retry-After": self.hub.plan.retry_after} if kind != "json500" else {}
        self._send(status, {"error": "no"}, more=more)

    # -- what the client asks -----------------------------------------------------------------------------------------

    def _whoami(self) -> None:
        role = "read" if self.hub.plan.read_only else "write"
        self._send(200, {"type": "user", "name": USER, "auth": {"accessToken": {"role": role, "displayName": "t"}}})

    def _create(self) -> None:
        told = json.loads(self.body)
        repo = f"{told.get('organization') or USER}/{told['name']}"
        if self.hub.plan.read_only:
            raise Refusal(403, "", "You don't have the rights to create a dataset under this namespace")
        if repo in self.hub.repos:
            url = {"url": f"{self.root}datasets/{repo}"}
            return self._send(409, {"error": "You already created this dataset repo", **url})
        # older clients say "private", newer ones "visibility"
        self.hub.make(repo, bool(told.get("private")) or told.get("visibility") == "private")
        self._send(200, {"url": f"{self.root}datasets/{repo}", "name": repo})

    def _info(self, repo: str) -> None:
        self.hub.files(repo)
        known = self.hub.repos[repo]
        self._send(200, {"id": repo, "sha": known["commits"][-1]["oid"], "private": known["private"]})

    def _paths(self, repo: str) -> None:
        with self.hub.lock:
            files = self.hub.files(repo)
            names = parse_qs(self.body.decode())["paths"]
            self._send(200, [files[name].row(name) for name in names if name in files])

    def _tree(self, repo: str, commit: str, name: str | None) -> None:
        with self.hub.lock:
            files = self.hub.files(repo, commit)
        rows = [f.row(n) for n, f in sorted(files.items()) if not name or n.startswith(f"{name}/")]
        if name and not rows:
            raise Refusal(404, "EntryNotFound", f"{name} does not exist")
        start = int(self.query.get("cursor", 0))
        end = start + self.hub.plan.page
        url = f"{self.root}{self.path.lstrip('/').partition('?')[0]}?recursive=true&cursor={end}"
        self._send(200, rows[start:end], more={"Link": f'<{url}>; rel="next"'} if end < len(rows) else {})

    def _preupload(self, repo: str) -> None:
        if self.hub.plan.read_only:
            raise Refusal(403, "", "Forbidden: you must use a write token to upload to a repository.")
        files = self.hub.files(repo)
        self._send(200, {"files": [
            {"path": f["path"], "uploadMode": self.hub.mode(f["path"], f["size"]), "shouldIgnore": False,
             "oid": files[f["path"]].blob if f["path"] in files else None}
            for f in json.loads(self.body)["files"]
        ]})  # fmt: skip

    def _batch(self, repo: str) -> None:
        if self.hub.plan.full:
            raise Refusal(403, "", "Private repository storage limit reached, please upgrade your plan")
        objects = []
        for told in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.root}objects/{told['oid']}?X-Amz-Signature={_SIGNED}"}}
            objects.append(told | ({} if told["oid"] in self.hub.content else {"actions": upload}))
        self._send(200, {"transfer": "basic", "objects": objects})

    def _object(self, name: str) -> None:
        if self.headers.get("Authorization"):
            raise Refusal(400, "", "a signed address gets no token")
        if self.query.get("X-Amz-Signature") != _SIGNED:
            raise Refusal(403, "", "SignatureDoesNotMatch")
        if self.command == "GET":
            return self._download(self.hub.content[name])
        if self.hub.keep(self.body, lfs=True).sha256 != name:
            raise Refusal(400, "", "XAmzContentSHA256Mismatch")
        self._send(200, b"")

    def _commit(self, repo: str) -> None:
        if self.hub.plan.read_only:
            raise Refusal(403, "", "Forbidden: you must use a write token to upload to a repository.")
        oid = self.hub.commit(repo, [json.loads(line) for line in self.body.splitlines() if line.strip()])
        if self.kind == "commitdrop":
            return self._hang_up()
        if self.kind == "commit500":
            return self._send(500, {"error": "Internal Error"})
        url = f"{self.root}datasets/{repo}/commit/{oid}"
        self._send(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def _resolve(self, repo: str, name: str) -> None:
        found = self.hub.files(repo).get(name)
        if found is None:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        if found.lfs:
            place = f"{self.elsewhere}objects/{found.sha256}?X-Amz-Signature={_SIGNED}"
            return self._send(302, b"", more={"Location": place})
        self._download(self.hub.content[found.sha256])

    def _download(self, data: bytes) -> None:
        if self.kind == "flipped" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if self.kind == "short":
            data = data[: len(data) // 2]
        if self.kind == "truncated":
            self._send(200, data[: len(data) // 2], "application/octet-stream", {"Content-Length": str(len(data))})
            return self._hang_up()
        self._send(200, data, "application/octet-stream")

    # -- reading and sending ------------------------------------------------------------------------------------------

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length) if length else b""
        if len(data) < length:
            raise ConnectionResetError("the client died in the middle")
        return data

    @property
    def root(self) -> str:
        return f"http://{self.headers['Host']}/"

    @property
    def elsewhere(self) -> str:
        """Return another host of this server: the client must not send its token there."""
        return self.root.replace("127.0.0.1", "localhost")

    def _control(self) -> None:
        for name, value in json.loads(self._read() or b"{}").items():
            setattr(self.hub.plan, name, value)
        self._send(200, {"all": self.hub.counts["all"]} if "brief" in self.query else self.hub.summary())


class Loopback:
    """Serve a Hub in a thread of this process."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.hub = Hub(plan)
        handler = type("OneHub", (Handler,), {"hub": self.hub})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None if isinstance(sys.exc_info()[1], OSError) else _say()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"hf://datasets/{USER}/nbkit"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Loopback:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class LoopbackProcess(ServerProcess):
    """Serve a Hub from a process of its own."""

    def __init__(self, **plan: Any) -> None:
        super().__init__("tests.runtime.store.hub.hub_loopback", json.dumps(plan))
        self.url, self.endpoint, self.root = self.told["url"], self.told["endpoint"], f"{self.told['endpoint']}/"


def _say() -> None:
    sys.__excepthook__(*sys.exc_info())


def main() -> None:
    """Serve until the standard input ends, which it does when the parent dies."""
    served = Loopback(Plan(**{k: tuple(v) if k == "kinds" else v for k, v in json.loads(sys.argv[1]).items()}))
    print(json.dumps({"url": served.url, "endpoint": served.endpoint}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
