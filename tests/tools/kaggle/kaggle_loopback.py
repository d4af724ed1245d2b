"""A Kaggle on the loopback: the RPCs that nbkit uses, as the real client sends them, with Kaggle's refusals.

It keeps datasets, notebooks and their runs, a weekly quota and a clock that only a test moves. It checks what the
real one checks, and fails requests on demand: 429, 5xx with HTML, connections dropped before or after the work.
It listens on 127.0.0.1 only; a client reaches it in the same process by `point`, in another by the proxy variables
that `environment` gives.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import sysconfig
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

USER, KEY = "mary", "planted-kaggle-key-0f1e2d3c4b5a6978"
TOO_MANY = "Maximum batch GPU session count of 2 reached."
NO_QUOTA = "Maximum weekly GPU quota of 30.00 hours reached."


def need_client() -> None:
    """Skip what follows where Kaggle's client is not installed."""
    with suppress(FileExistsError):  # the first import on a machine makes a folder, and fails where two processes do
        pytest.importorskip("kaggle")
        return
    pytest.importorskip("kaggle")


@dataclass
class Run:
    """Keep one session of a notebook."""

    began: datetime
    gpu: bool
    limit: timedelta
    state: str = "RUNNING"
    ended: datetime | None = None
    message: str = ""
    takes: timedelta | None = None
    finish: Callable[[], str] | None = None


@dataclass
class Kernel:
    """Keep a notebook, its last text and its runs."""

    request: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    version: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    log: str = ""


@dataclass
class Dataset:
    """Keep a dataset's newest files and how many looks it takes to be ready."""

    files: dict[str, bytes]
    private: bool = True
    versions: int = 1
    looks: int = 1


class Loopback:
    """Serve Kaggle's RPCs on 127.0.0.1; use as a context manager."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 2, tzinfo=UTC)  # a Monday
        self.week = self.now
        self.hours = 30.0
        self.datasets: dict[str, Dataset] = {}
        self.kernels: dict[str, Kernel] = {}
        self.blobs: dict[str, list[Any]] = {}
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, list[str]] = {}
        self.seen: list[bytes] = []
        self.page = 20
        self.lose: set[str] = set()
        self.on_run: Callable[[str, dict[str, Any], Run], None] | None = None
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kaggle": self}))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Loopback:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, folder: Path) -> dict[str, str]:
        """Return variables by which a client in another process comes here."""
        proxy = {name: self.address for name in ("HTTP_PROXY", "http_proxy")} | {"NO_PROXY": "", "no_proxy": ""}
        login = {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY, "KAGGLE_CONFIG_DIR": str(folder)}
        return {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", **proxy, **login}

    @contextmanager
    def point(self, monkeypatch: Any, folder: Path) -> Iterator[None]:
        """Lead the client of this process here."""
        monkeypatch.setenv("HOME", str(folder))
        for name, value in self.environment(folder).items():
            if "proxy" not in name.lower():
                monkeypatch.setenv(name, value)
        from kagglesdk import kaggle_env

        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, self.address)
        yield

    # -- the clock --

    def advance(self, hours: float) -> None:
        """Let time pass: runs end when they are through or at their limit, a new week brings new quota."""
        with self.lock:
            target = self.now + timedelta(hours=hours)
            busy = [(run, run.began + min(run.takes or run.limit, run.limit)) for run in self.busy()]
            for run, end in sorted(busy, key=lambda pair: pair[1]):
                if end <= target:
                    self.now = max(self.now, end)
                    over = run.takes is not None and run.takes > run.limit
                    run.ended, run.state = end, "ERROR" if over else "COMPLETE"
                    if run.finish is not None:
                        run.state = run.finish()
            self.now = target
            while self.now >= self.week + timedelta(days=7):
                self.week += timedelta(days=7)

    def busy(self) -> list[Run]:
        """Return the runs that have not ended."""
        return [run for kernel in self.kernels.values() for run in kernel.runs if run.state in ("QUEUED", "RUNNING")]

    def used(self) -> timedelta:
        """Return the GPU time used since the week began, of running sessions too."""
        used = timedelta()
        for kernel in self.kernels.values():
            for run in kernel.runs:
                if run.gpu:
                    used += max(timedelta(), (run.ended or self.now) - max(run.began, self.week))
        return used

    # -- the RPCs --

    def answer(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of an RPC; raises `Refused`."""
        return getattr(self, f"rpc_{method}")(body)

    def rpc_IntrospectToken(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"active": False}

    def rpc_GetAcceleratorQuotaStatistics(self, body: dict[str, Any]) -> dict[str, Any]:
        refresh = (self.week + timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        gpu = {"timeUsed": f"{self.used().total_seconds():.0f}s", "totalTimeAllowed": f"{3600 * self.hours:.0f}s"}
        tpu = {"timeUsed": "0s", "totalTimeAllowed": "72000s"}
        return {"quotaRefreshTime": refresh, "gpuQuota": gpu, "tpuQuota": tpu}

    def rpc_GetDataset(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self._dataset(body)
        return {"ref": _ref(body), "isPrivate": found.private, "currentVersionNumber": found.versions}

    def rpc_GetDatasetStatus(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self._dataset(body)
        found.looks -= 1
        return {"status": "READY" if found.looks < 0 else "BLOBS_RECEIVED"}

    def rpc_ListDatasetFiles(self, body: dict[str, Any]) -> dict[str, Any]:
        files = sorted(self._dataset(body).files.items())
        first = int(body.get("pageToken") or 0)
        page = files[first : first + self.page]
        more = {"nextPageToken": str(first + self.page)} if first + self.page < len(files) else {}
        return {"datasetFiles": [{"name": name, "totalBytes": len(data)} for name, data in page], **more}

    def rpc_StartBlobUpload(self, body: dict[str, Any]) -> dict[str, Any]:
        token = secrets.token_hex(8)
        self.blobs[token] = [body["name"], None]
        return {"token": token, "createUrl": f"{self.address}/upload/{token}"}

    def rpc_CreateDataset(self, body: dict[str, Any]) -> dict[str, Any]:
        ref = f"{body['ownerSlug']}/{body['slug']}"
        if ref in self.datasets:
            return {"status": "error", "error": "The requested title is already in use by a dataset."}
        self.datasets[ref] = Dataset(self._blobs(body["files"]), body.get("isPrivate", False))
        return {"ref": ref, "status": "ok"}

    def rpc_CreateDatasetVersion(self, body: dict[str, Any]) -> dict[str, Any]:
        found = self._dataset(body)
        found.files, found.versions, found.looks = self._blobs(body["body"]["files"]), found.versions + 1, 1
        return {"ref": _ref(body), "status": "ok"}

    def rpc_GetKernel(self, body: dict[str, Any]) -> dict[str, Any]:
        kernel = self._kernel(body)
        return {"metadata": {"ref": kernel.request["slug"], "currentVersionNumber": kernel.version}}

    def rpc_SaveKernel(self, body: dict[str, Any]) -> dict[str, Any]:
        gpu = "Tesla" in (body.get("machineShape") or "")
        if gpu and sum(run.gpu for run in self.busy()) >= 2:
            return {"error": TOO_MANY}
        if gpu and self.used() >= timedelta(hours=self.hours):
            return {"error": NO_QUOTA}
        if not body["slug"].startswith(f"{USER}/"):
            raise Refused(403, "Permission 'kernels.update' was denied")
        kernel = self.kernels.setdefault(body["slug"], Kernel(body))
        kernel.request, kernel.version = body, kernel.version + 1
        run = Run(self.now, gpu, timedelta(seconds=body.get("sessionTimeoutSeconds") or 12 * 3600))
        kernel.runs.append(run)
        if self.on_run is not None:
            self.on_run(body["slug"], body, run)
        lost = [ref for ref in body.get("datasetDataSources", []) if ref not in self.datasets or ref in self.lose]
        url = f"https://www.kaggle.com/code/{body['slug']}"
        return {"ref": body["slug"], "url": url, "versionNumber": kernel.version, "invalidDatasetSources": lost}

    def rpc_GetKernelSessionStatus(self, body: dict[str, Any]) -> dict[str, Any]:
        run = self._kernel(body).runs[-1]
        return {"status": run.state, "failureMessage": run.message}

    def rpc_ListKernelSessionOutput(self, body: dict[str, Any]) -> dict[str, Any]:
        kernel = self._kernel(body)
        first, names = int(body.get("pageToken") or 0), sorted(kernel.files)
        slug = f"{body['userName']}/{body['kernelSlug']}"
        page = names[first : first + self.page]
        files = [{"url": f"{self.address}/output/{slug}/{name}", "fileName": name} for name in page]
        more = {"nextPageToken": str(first + self.page)} if first + self.page < len(names) else {}
        return {"files": files, "log": kernel.log, **more}

    def _dataset(self, body: dict[str, Any]) -> Dataset:
        found = self.datasets.get(_ref(body))
        if found is None:
            raise Refused(403, "Permission 'datasets.get' was denied")
        return found

    def _kernel(self, body: dict[str, Any]) -> Kernel:
        found = self.kernels.get(f"{body['userName']}/{body['kernelSlug']}")
        if found is None:
            raise Refused(404, "Kernel not found")
        return found

    def _blobs(self, files: list[dict[str, Any]]) -> dict[str, bytes]:
        found = [self.blobs[file["token"]] for file in files]
        return {name: data for name, data in found}


def _ref(body: dict[str, Any]) -> str:
    return f"{body['ownerSlug']}/{body['datasetSlug']}"


class Refused(Exception):
    """Answer with an HTTP error."""


class _Handler(BaseHTTPRequestHandler):
    kaggle: Loopback
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        data = self._body()
        method = urlsplit(self.path).path.rpartition("/")[2]
        fault = self._fault(method)
        if fault in ("drop", "429", "502"):
            return self._fail(fault)
        wanted = "Basic " + base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            return self._json(401, {"code": 401, "message": "Unauthenticated"})
        with self.kaggle.lock:
            self.kaggle.counts[method] += 1
            try:
                status, answer = 200, self.kaggle.answer(method, json.loads(data or b"{}"))
            except Refused as refused:
                status, answer = refused.args[0], {"code": refused.args[0], "message": refused.args[1]}
        if fault == "commitdrop":
            return self._fail("drop")
        self._json(status, answer)

    def do_PUT(self) -> None:
        token, data = urlsplit(self.path).path.rpartition("/")[2], self._body()
        name = self.kaggle.blobs[token][0]
        if name in self.kaggle.lose:
            return self._json(400, {})
        self.kaggle.blobs[token][1] = data
        self._json(200, {})

    def do_GET(self) -> None:
        user, kernel, name = urlsplit(self.path).path.removeprefix("/output/").split("/", 2)
        fault = self._fault("GET")
        data = self.kaggle.kernels[f"{user}/{kernel}"].files[name]
        if fault in ("drop", "429", "502"):
            return self._fail(fault)
        self._send(200, "application/octet-stream", data, short=len(data) // 2 if fault == "short" else None)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.kaggle.seen.append(data)
        return data

    def _fault(self, method: str) -> str:
        with self.kaggle.lock:
            waiting = self.kaggle.faults.get(method) or self.kaggle.faults.get("*") or []
            return waiting.pop(0) if waiting else ""

    def _fail(self, fault: str) -> None:
        if fault == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "429":
            self._send(429, "text/plain", b"slow down", {"Retry-After": "0.05"})
        else:
            self._send(502, "text/html", b"<html>bad gateway</html>")

    def _json(self, status: int, answer: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(answer).encode())

    def _send(
        self, status: int, kind: str, data: bytes, more: dict[str, str] | None = None, short: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:short])
        if short is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


def without_checkout(target: Path) -> str:
    """Return a PYTHONPATH for ``python -S``: what is installed here, but neither nbkit nor what leads to a checkout."""
    packages = target.with_name("installed")
    packages.mkdir()
    for folder in dict.fromkeys(sysconfig.get_paths()[key] for key in ("purelib", "platlib")):
        for path in Path(folder).iterdir():
            if not path.name.lower().startswith(("nbkit", "_nbkit")) and path.suffix != ".pth":
                (packages / path.name).symlink_to(path)
    return os.pathsep.join(map(str, (target, packages)))
