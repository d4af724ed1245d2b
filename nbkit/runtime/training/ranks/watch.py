"""Connections between the processes of a training that show when one of them dies.

The operating system closes the connections of a dead process, so a death is noticed within milliseconds, without a
timeout. A machine that vanished is noticed by TCP keep-alive probes. A process whose main thread does not react,
because it waits on a GPU for one that is gone, is ended after a grace period.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from nbkit.ground.background import Background
from nbkit.runtime.errors import NbkitError

_GRACE = 30.0  # seconds in which the main thread should see the error itself
_CONNECT = 60.0
_LOOK = 0.1
_PROBES = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))  # a vanished machine: half a minute


class Watch:
    """Notice processes that ended unexpectedly, and forward the message of one that failed.

    Rank 0 is connected to all others, each of the others to rank 0.

    Parameters
    ----------
    ranks : Ranks
        Connected already; used to tell the others where to connect.
    address : str
        Address of rank 0.
    """

    def __init__(self, ranks: Any, address: str) -> None:
        self.lost: str | None = None
        self.last_resort: Callable[[], None] = lambda: None
        self._rank = ranks.rank
        self._ended, self._known = threading.Event(), threading.Event()
        self._selector = selectors.DefaultSelector()
        self._names: dict[socket.socket, str] = {}
        self._unread: dict[socket.socket, bytes] = {}
        self._gone_well: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._connect(ranks, address)
        self._thread = Background(self._listen, name="rank-watch")
        self._thread.start()

    # -- connecting --

    def _connect(self, ranks: Any, address: str) -> None:
        me = {"rank": ranks.rank, "name": f"rank {ranks.rank} (process {os.getpid()} on {socket.gethostname()})"}
        if ranks.first:
            with _server(address, ranks.size) as server:
                told = {"port": server.getsockname()[1], "token": secrets.token_hex(16), "name": me["name"]}
                ranks.share(told)
                server.settimeout(_CONNECT)
                while len(self._names) < ranks.size - 1:
                    self._welcome(server, told["token"], ranks.size)
            return
        told = ranks.share(None)
        line = socket.create_connection((address, told["port"]), timeout=_CONNECT)
        line.sendall(_line({**me, "token": told["token"]}))
        self._keep(line, told["name"])

    def _welcome(self, server: socket.socket, token: str, size: int) -> None:
        try:
            line, _ = server.accept()
        except TimeoutError:
            raise NbkitError(
                f"Only {len(self._names)} of {size - 1} other processes connected to rank 0 within {_CONNECT:.0f} s. "
                "Nothing was trained."
            ) from None
        line.settimeout(_CONNECT)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            hello = json.loads(line.makefile("rb").readline())
            if secrets.compare_digest(str(hello["token"]), token):
                return self._keep(line, str(hello["name"]))
        line.close()  # not one of ours

    def _keep(self, line: socket.socket, name: str) -> None:
        line.settimeout(None)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _PROBES:
            if hasattr(socket, option):
                line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._names[line], self._unread[line] = name, b""
        self._selector.register(line, selectors.EVENT_READ)

    # -- from the main thread --

    def why(self, seconds: float) -> str | None:
        """Return what is known about a process that is gone, after waiting up to this long for the news."""
        self._known.wait(seconds)
        return self.lost

    def end(self, words: str | None = None) -> None:
        """Tell the others that this process is done, or what failed here; the second call does nothing."""
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
        self._tell({"lost": words} if words else {"bye": True})
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10 * _LOOK)
        for line in self._names:
            with contextlib.suppress(OSError):
                line.close()
        self._selector.close()

    # -- in the thread --

    def _listen(self) -> None:
        while not self._ended.is_set() and self._selector.get_map():
            for key, _ in self._selector.select(_LOOK):
                if not self._ended.is_set():
                    self._hear(key.fileobj)

    def _hear(self, line: Any) -> None:
        try:
            heard = line.recv(1 << 16)
        except OSError:
            heard = b""
        if not heard:
            self._selector.unregister(line)
            if line not in self._gone_well:
                self._lose(f"{self._names[line]} ended unexpectedly", line)
            return
        *whole, self._unread[line] = (self._unread[line] + heard).split(b"\n")
        for text in whole:
            message = json.loads(text)
            self._gone_well.add(line)
            if "lost" in message:
                self._lose(str(message["lost"]), line)

    def _lose(self, words: str, source: Any) -> None:
        if self.lost is not None:
            return
        self.lost = words
        self._known.set()
        self._tell({"lost": words}, but=source)
        Background(self._force, name="rank-watch-grace").start()

    def _tell(self, message: dict[str, Any], but: Any = None) -> None:
        for line in self._names:
            if line is not but:
                with contextlib.suppress(OSError):
                    line.sendall(_line(message))

    def _force(self) -> None:
        """End this process if its main thread does not notice the death by itself."""
        _release_gpu()
        if self._ended.wait(_GRACE):
            return
        print(
            f"[nbkit] {self.lost}; rank {self._rank} still waits for it and is ended. The last checkpoint is kept; "
            "run it again to continue.",
            file=sys.stderr,
            flush=True,
        )
        with contextlib.suppress(Exception):  # this process ends in the next line, and the loss was printed
            self.last_resort()
        os._exit(1)


def _server(address: str, size: int) -> socket.socket:
    """Listen on this machine only, or on all of its addresses if other machines take part."""
    if address in ("127.0.0.1", "localhost"):
        return socket.create_server(("127.0.0.1", 0), backlog=size)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, backlog=size, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=size)


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _release_gpu() -> None:
    """Abort GPU operations that wait for a process that is gone; the main thread then sees an error."""
    import torch.distributed as dist

    abort = getattr(dist.distributed_c10d, "_abort_process_group", None)
    if abort is not None and dist.is_initialized() and dist.get_backend() == "nccl":
        with contextlib.suppress(Exception):  # private to torch; without it the process is ended after the grace
            abort()
