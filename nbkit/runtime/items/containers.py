"""Containers of Modal as an executor: each item is one call of a deployed function.

A session on any machine spawns the calls; Modal (https://modal.com) runs each in a container, paid by the second. This
process keeps ledger, uploads and budget, so a container that dies costs its item only, which is recorded as failed and
tried again by a later session. The end of the ``with`` block waits for calls in work; ``shutdown(wait=False)`` cancels
them.

Deploy once, in a file of your own (``modal deploy burst.py``; it needs an account)::

    import modal

    app = modal.App("nbkit-burst")
    image = modal.Image.debian_slim(python_version="3.11").pip_install_from_pyproject("pyproject.toml")

    @app.function(image=image.add_local_python_source("nbkit"), gpu="T4", timeout=3600)
    def call(work, *args, **kwargs):
        return work(*args, **kwargs)

Then, where the session runs::

    from nbkit.runtime.items.containers import ContainerExecutor, modal_function

    with ContainerExecutor(modal_function("nbkit-burst", "call"), at_once=32) as executor:
        session.map(process, rows, executor=executor)

``process`` must be importable in the image. It returns arrays, not paths: a container's disk is gone when it ends. The
tests run this with a stand-in that has the calls of modal 1.6; a real account has not been tried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from nbkit.runtime.errors import UsageError

_LOOK = 5.0  # seconds between two looks at whether the session was asked to stop


def modal_function(app: str, name: str) -> Any:
    """Return a deployed function of Modal.

    Parameters
    ----------
    app, name : str
        Name of the app, and of its function.

    Raises
    ------
    UsageError
        If modal is not installed, or has no such function for this account.
    """
    try:
        import modal
    except ImportError as error:
        raise UsageError(
            f"The function {name!r} of the app {app!r} needs the package modal, which is not installed here. Run "
            "'pip install modal' and 'modal setup', or use another executor (None computes in this process)."
        ) from error
    function = modal.Function.from_name(app, name)
    try:
        function.hydrate()  # asks Modal now, not at the first item
    except Exception as error:
        raise UsageError(
            f"Modal has no function {name!r} in an app {app!r} for this account ({type(error).__name__}: {error}). "
            "Log in with 'modal setup', and deploy the function with 'modal deploy' under these names."
        ) from error
    return function


class ContainerExecutor(Executor):
    """Run functions as calls of a deployed function.

    Parameters
    ----------
    function : modal.Function
        Takes a function and its arguments, and returns what it returns (see `modal_function`).
    at_once : int
        Calls that are in work at the same time.
    look : float
        Seconds between two looks at whether the executor was shut down.
    """

    def __init__(self, function: Any, at_once: int = 8, look: float = _LOOK) -> None:
        self._function, self._look, self._max_workers = function, look, at_once
        self._closed = threading.Event()
        self._stop = threading.Event()
        self._waiting = ThreadPoolExecutor(at_once, thread_name_prefix="containers")  # each waits for one call

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call; its future can be cancelled until the call has been spawned."""
        if self._closed.is_set():
            raise RuntimeError("cannot schedule new futures after shutdown")
        return self._waiting.submit(self._run, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel the calls that have not ended, or wait for them."""
        self._closed.set()
        if not wait or cancel_futures:
            self._stop.set()
        self._waiting.shutdown(wait=wait, cancel_futures=not wait or cancel_futures)

    def _run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = self._function.spawn(_Answering(fn), *args, **kwargs)
        while not self._stop.is_set():
            try:
                value, error = call.get(timeout=self._look)
            except TimeoutError:  # still in work: the function's own errors come as values, Modal's are another class
                continue
            if error is not None:
                raise error
            return value
        call.cancel(terminate_containers=True)
        raise RuntimeError(f"call {call.object_id} was cancelled")


@dataclass(frozen=True)
class _Answering:
    """Function that returns what another one returns and None, or None and the error that it raised."""

    fn: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Exception | None]:
        try:
            return self.fn(*args, **kwargs), None
        except Exception as error:  # returned to the machine that asked, which raises it there
            return None, error
