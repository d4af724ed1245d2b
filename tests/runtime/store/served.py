"""What the loopback servers of the stores share: answers, a server in a process of its own, faults by a plan."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.request import ProxyHandler, build_opener

from tests import ROOT


class Answering(BaseHTTPRequestHandler):
    """Answer one connection's requests with JSON, bytes or nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of an answer leave together

    def _send(self, status: int, body: Any, kind: str = "", more: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": kind or "application/json", "Content-Length": str(len(data)), **(more or {})}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class ServerProcess:
    """A loopback server in a process of its own, which ends when this one lets go of it.

    Parameters
    ----------
    module : str
        Serves with ``python -m`` until its standard input ends, and first prints a JSON object.
    *words : str

    Attributes
    ----------
    told : dict
        The JSON object.
    """

    root: str  # the server's address, with a slash at its end

    def __init__(self, module: str, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.told = json.loads(self._process.stdout.readline())

    def control(self, **plan: Any) -> dict[str, Any]:
        """Change the plan; return what the server holds and has counted."""
        return self._ask("control", json.dumps(plan).encode() if plan else None)

    def served(self) -> int:
        """Return how many requests were made so far."""
        return self._ask("control?brief=1")["all"]

    def _ask(self, path: str, data: bytes | None = None) -> dict[str, Any]:
        with build_opener(ProxyHandler({})).open(f"{self.root}{path}", data, timeout=60) as answer:
            return json.load(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class Faulty:
    """Requests that fail as a plan says: by its rate, at its next, or in a storm of 429 answers.

    Attributes
    ----------
    plan : object
        With ``seed``, ``rate``, ``kinds`` and ``fail_next``.
    longest_storm : int
    """

    longest_storm = 4

    def __init__(self, plan: Any) -> None:
        self.plan, self.lock, self.random, self.storm = plan, threading.RLock(), random.Random(plan.seed), 0

    def fault(self, kinds: tuple[str, ...]) -> str | None:
        """Return how the next request that may fail in these ways fails; None where it does not."""
        with self.lock:
            for kind in self.plan.fail_next:
                if kind in kinds:
                    self.plan.fail_next.remove(kind)
                    return kind
            if self.storm and "storm429" in kinds:
                self.storm -= 1
                return "storm429"
            kinds = tuple(k for k in kinds if k in self.plan.kinds)
            if not kinds or self.random.random() >= self.plan.rate:
                return None
            kind = self.random.choice(kinds)
            if kind == "storm429":
                self.storm = self.random.randrange(self.longest_storm)
            return kind
