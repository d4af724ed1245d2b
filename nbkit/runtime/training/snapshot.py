"""Snapshots: copies of a checkpoint in memory, taken between two steps.

Training waits only for the copy into existing buffers; a thread writes the copy to disk while training continues. There
is one set of buffers, so memory holds at most one extra copy. A snapshot can contain only what loads with
``weights_only=True``. Anything else is an error that names the entry, before any byte is written.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from nbkit.ground.background import Background
from nbkit.runtime.disk import DiskError
from nbkit.runtime.errors import NbkitError, StoreError, UsageError

_LEAVES = (type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size)


class Buffers:
    """Memory into which checkpoints are copied, reused for every snapshot."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def copy(self, tree: Any) -> Any:
        """Return the tree with every tensor replaced by a copy in this object's memory.

        The copy is valid until the next call. Tensors that share memory share their copy.

        Raises
        ------
        UsageError
            If an entry cannot be stored in a checkpoint; the message names the first one.
        """
        used: dict[str, torch.Tensor] = {}
        seen: dict[tuple, torch.Tensor] = {}
        on_gpu = False

        def copied(tensor: torch.Tensor, path: str) -> torch.Tensor:
            nonlocal on_gpu
            tensor = tensor.detach()
            if tensor.layout is not torch.strided or tensor.is_quantized:
                return tensor.cpu().clone()
            key = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if tensor.numel() and key in seen:
                return seen[key]
            buffer = self._buffers.get(path)
            form = (tensor.shape, strides_of(tensor), tensor.dtype)
            if buffer is None or (buffer.shape, buffer.stride(), buffer.dtype) != form:
                buffer = torch.empty_strided(*form[:2], dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            buffer.copy_(tensor, non_blocking=tensor.is_cuda)
            on_gpu |= tensor.is_cuda
            used[path] = seen[key] = buffer
            return buffer

        with torch.no_grad():
            result = _walk(tree, "", copied)
        if on_gpu:
            torch.cuda.synchronize()
        self._buffers = used
        return result

    def bytes(self) -> int:
        """Return the size of the buffers in bytes."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self._buffers.values())


def strides_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return the order of dimensions in memory that a copy of a tensor keeps: sums over it are taken in that order."""
    return tensor.stride() if tensor.is_contiguous() else torch.empty_like(tensor, device="meta").stride()


def _walk(value: Any, path: str, copied: Any) -> Any:
    kind = type(value)
    if isinstance(value, torch.Tensor):
        return copied(value, path)
    if kind in _LEAVES:
        return value
    if kind in (dict, OrderedDict, Counter):
        for key in value:
            if type(key) not in _LEAVES and type(key) is not tuple:
                raise _refused(f"{path or 'the top level'} has the key {key!r}", key)
        result = kind({key: _walk(item, f"{path}.{key}" if path else str(key), copied) for key, item in value.items()})
        # torch stores the versions of the modules' layouts as an attribute of the state_dict
        for name, item in vars(value).items() if kind is OrderedDict else ():
            setattr(result, name, _walk(item, f"{path}.{name}", copied))
        return result
    if kind in (list, tuple):
        return kind(_walk(item, f"{path}[{i}]", copied) for i, item in enumerate(value))
    if kind is set:
        for item in value:
            _walk(item, f"{path}{{}}", copied)
        return set(value)
    raise _refused(f"{path or 'the top level'} is {_shown(value)}", value)


def check_storable(value: Any) -> None:
    """Raise an error if a value cannot be stored in a checkpoint."""
    _walk(value, "", lambda tensor, path: tensor)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _refused(what: str, value: object) -> UsageError:
    kind = type(value)
    advice = ""
    if kind.__module__ == "numpy":
        advice = " Use float(x), int(x) or torch.from_numpy(x) where it is set."
    elif what.startswith("lr_schedulers"):
        advice = " Give the schedule a state_dict and a load_state_dict of numbers, text, lists and tensors."
    elif "hyper_parameters" in what:
        advice = " Do not call save_hyperparameters with objects; keep them in module.settings, which nbkit saves."
    return UsageError(
        f"The checkpoint cannot be saved: {what}, of type {kind.__module__}.{kind.__qualname__}. Allowed are tensors, "
        "numbers, text, None, and dict, list, tuple or set of them, so that it loads with weights_only=True."
        f"{advice} Nothing was written; earlier checkpoints are unchanged."
    )


_NICE = 10  # on two cores a writer of the same priority doubles the duration of the training steps


class Writer:
    """Run one job at a time in a separate thread.

    Parameters
    ----------
    say : callable
        Prints one line.
    measured : callable
        Called with ("save", seconds) after every job.
    """

    def __init__(
        self, say: Callable[[str], None] = print, measured: Callable[[str, float], None] | None = None
    ) -> None:
        self.say, self.measured = say, measured or (lambda kind, seconds: None)
        self.fault: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a snapshot is being written."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, job: Callable[[], Any], hurry: bool = False) -> None:
        """Wait for the previous job, then start a job.

        Parameters
        ----------
        job : callable
        hurry : bool
            True for normal priority, if the training waits for the job; False for low priority.
        """
        self.wait()
        self.fault = MemoryError("the thread that writes it found no memory")  # until it has done its work
        # not a daemon thread, so that an interpreter that exits normally finishes the file first
        self._thread = Background(self._run, job, hurry, name="checkpoint-writer", daemon=False)
        self._thread.start()

    def _run(self, job: Callable[[], Any], hurry: bool) -> None:
        began = time.monotonic()
        if not hurry and sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(
                    os.PRIO_PROCESS, threading.get_native_id(), _NICE
                )  # on Linux this changes the thread only
        try:
            job()
            self.fault = None
        except BaseException as error:  # kept for whoever waits for this save, and told at once
            self.fault = error
            self.say(f"Saving failed: {as_sentence(error)} Training continues; earlier checkpoints are unchanged.")
        self.measured("save", time.monotonic() - began)

    def wait(self) -> None:
        """Wait until the job is done."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def finish(self) -> None:
        """Wait until the job is done, and raise its error if it failed."""
        self.wait()
        fault, self.fault = self.fault, None
        if isinstance(fault, DiskError):
            raise DiskError(
                f"The last checkpoint of this session could not be written: {fault} The steps after "
                "the last complete one will be trained again.",
                fault.errno,
            ) from fault
        if isinstance(fault, NbkitError):
            raise fault
        if fault is not None:
            raise StoreError(
                f"The last checkpoint of this session could not be written: {as_sentence(fault)} Earlier checkpoints "
                "are unchanged; the steps after them will be trained again. Free some space and run again."
            ) from fault


def as_sentence(error: BaseException) -> str:
    """Return the message of an error as one sentence."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.strerror}: {error.filename}"
    return text if text.endswith(".") else text + "."
