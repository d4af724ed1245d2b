"""Jobs of a scheduler as an executor: Slurm, through submitit.

A machine that can submit jobs runs the session; each item is a job, and jobs that are submitted together become one job
array. The session's process keeps ledger, uploads and budget, so a job that the scheduler kills costs its item only,
which is recorded as failed and tried again by a later session. If the session's process ends, it cancels its jobs.

On a login node of Slurm::

    import submitit
    from nbkit.runtime.items.jobs import JobExecutor

    slurm = submitit.AutoExecutor(folder="jobs")  # a folder that all nodes see
    slurm.update_parameters(timeout_min=60, slurm_partition="gpu", gpus_per_node=1, slurm_array_parallelism=8)
    with JobExecutor(slurm, at_once=16) as executor:
        session.map(process, rows, executor=executor)

``process`` must be importable on the nodes, or be small enough to be sent with the job. Arrays come back through the
shared folder; a path that it returns must lie on a shared disk. A job takes some seconds to begin, so an item should
last a minute or more. ``submitit.AutoExecutor(folder, cluster="local")`` runs the same on one machine; that is what the
tests do, and a real Slurm has not been tried.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from nbkit.ground.background import Background

_GATHER = 0.2  # seconds in which submissions become one array
_LOOK = 1.0  # seconds between two looks at the jobs


class JobExecutor(Executor):
    """Submit functions as jobs.

    Parameters
    ----------
    jobs : submitit.Executor
        With the parameters of the jobs.
    at_once : int
        Jobs that are queued or running at the same time.
    look : float
        Seconds between two looks at whether jobs have ended.
    """

    def __init__(self, jobs: Any, at_once: int = 8, look: float = _LOOK) -> None:
        self._jobs, self._look, self._max_workers = jobs, look, at_once
        self._new: queue.Queue[tuple[Future[Any], Callable[[], Any]]] = queue.Queue()
        self._running: dict[Future[Any], Any] = {}
        self._closed = threading.Event()
        self._thread = Background(self._serve, name="jobs")
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call as a job; its future can be cancelled until the job has been submitted."""
        from functools import partial

        if self._closed.is_set():
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Any] = Future()
        self._new.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel the jobs that have not ended, or wait for them."""
        if not wait or cancel_futures:
            self._cancel()
        self._closed.set()
        if wait:
            self._thread.join()
        else:
            self._cancel()

    def _cancel(self) -> None:
        while True:
            try:
                self._new.get_nowait()[0].cancel()
            except queue.Empty:
                break
        for future, job in list(self._running.items()):
            job.cancel(check=False)
            if not future.done() and not future.cancel():
                future.set_exception(RuntimeError(f"job {job.job_id} was cancelled"))
            self._running.pop(future, None)

    # -- in the thread --

    def _serve(self) -> None:
        while self._running or not self._new.empty() or not self._closed.is_set():
            fresh = self._gathered()
            if fresh:
                self._submit(fresh)
            for future, job in list(self._running.items()):
                if not future.done() and _has_ended(job):
                    _take(future, job)
                if future.done():
                    self._running.pop(future, None)

    def _gathered(self) -> list[tuple[Future[Any], Callable[[], Any]]]:
        """Return what was submitted meanwhile, after a while without anything new."""
        found = []
        try:
            found.append(self._new.get(timeout=self._look))
            end = time.monotonic() + _GATHER
            while (left := end - time.monotonic()) > 0:
                found.append(self._new.get(timeout=left))
        except queue.Empty:
            pass
        return [(future, call) for future, call in found if future.set_running_or_notify_cancel()]

    def _submit(self, fresh: list[tuple[Future[Any], Callable[[], Any]]]) -> None:
        try:
            with self._jobs.batch():
                jobs = [self._jobs.submit(call) for _, call in fresh]
        except Exception as error:  # the scheduler refused them; the caller decides what that means
            for future, _ in fresh:
                future.set_exception(error)
            return
        for (future, _), job in zip(fresh, jobs, strict=True):
            self._running[future] = job


def _has_ended(job: Any) -> bool:
    try:
        return bool(job.done())
    except Exception:  # the scheduler did not answer this time
        return False


def _take(future: Future[Any], job: Any) -> None:
    """Set a future to what its job made, or to the reason why it made nothing."""
    try:
        error = job.exception()
        if error is None:
            future.set_result(job.result())
        else:
            future.set_exception(error)
    except Exception as fault:  # whoever waits for the future gets it
        future.set_exception(fault)
