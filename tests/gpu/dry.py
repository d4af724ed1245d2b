"""``python -m tests.gpu --dry``: every slice up to its first call of CUDA, on a machine without a card.

Imports, settings, modules, batches and the writer of the page run as they do beside a card. Questions about the card
are answered as a T4 would; what would put a tensor on it ends the slice, and that place is what is recorded. Estimates
of memory are made up here: they take minutes, and tests/gpu/test_memory.py makes them.
"""

from __future__ import annotations

import contextlib
import re
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from nbkit.runtime.errors import NbkitError
from tests import ROOT
from tests.bench.rows import Row
from tests.gpu.slices import Slice

# what slices ask before they compute; all else of CUDA ends them
_ANSWERS: dict[str, Any] = {
    "is_available": True, "get_device_name": "no card", "get_device_capability": (7, 5), "is_bf16_supported": False,
    "mem_get_info": (15_000_000_000, 16_000_000_000), "memory_allocated": 0, "max_memory_allocated": 0,
    "reset_peak_memory_stats": None, "empty_cache": None, "synchronize": None, "current_device": 0,
}  # fmt: skip


_REFUSALS = (RuntimeError, AssertionError, torch.multiprocessing.ProcessRaisedException, NbkitError)


class FirstCall(BaseException):
    """The first call that needs a card; no handler of an ordinary error holds it up."""


class NeverCalled(RuntimeError):
    """A slice ended without a card, so it would measure something else than the card."""


@contextlib.contextmanager
def as_beside_a_card(cards: int = 1) -> Iterator[None]:
    """Answer questions about a card, and raise `FirstCall` where one is needed."""

    def needed(*args: Any, **kwargs: Any) -> None:
        raise FirstCall

    with contextlib.ExitStack() as stack:
        for name, value in (_ANSWERS | {"device_count": cards}).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *_, value=value, **__: value))
        stack.enter_context(mock.patch.object(torch.cuda, "_lazy_init", needed))  # torch's own code calls it, too
        stack.enter_context(mock.patch("tests.gpu.memory.need_gb", lambda preset: 1.0))
        yield


def first_call(one: Slice) -> str:
    """Run a slice up to its first call of CUDA and return where that is.

    Raises
    ------
    NeverCalled
        If it ends before.
    Exception
        Whatever stops it earlier.
    """
    try:
        with as_beside_a_card(one.cards):
            one.rows()
    except FirstCall as reached:
        return _place(reached)
    except _REFUSALS as error:  # torch's own, as in processes that a slice starts
        lines = str(error).strip().splitlines() or [""]
        last = next((line for line in lines if "CUDAAccelerator" in line), lines[-1])
        if not re.search("nvidia|cuda|nccl|FirstCall", last, re.IGNORECASE):
            raise
        return f"{_place(error)}: {last[:80]}"
    raise NeverCalled(f"{one.name!r} ended without a call of CUDA.")


def dry_part(one: Slice) -> dict[str, Any]:
    """Return a slice as the page's writer takes it: a row of made-up figures with the place, or why it failed."""
    began = time.perf_counter()
    try:
        place, why = first_call(one), ""
    except Exception as error:
        place, why = "", f"failed before CUDA: {type(error).__name__}: {error}"
    took = time.perf_counter() - began
    row = Row(f"{one.name}: made up, no card", 1.0, "ms", "made up", 2.0, "<= 2 ms", True, place)
    return {"rows": [] if why else [asdict(row)], "why": why, "seconds": round(took, 1)}


def _place(reached: BaseException) -> str:
    """Return the line of this repository that called CUDA."""
    frames = [frame for frame in traceback.extract_tb(reached.__traceback__) if _is_ours(frame.filename)]
    last = frames[-1]
    return f"{Path(last.filename).relative_to(ROOT).as_posix()}:{last.lineno}, `{last.line}`"


def _is_ours(filename: str) -> bool:
    path = Path(filename)
    if not path.is_relative_to(ROOT) or path == Path(__file__):
        return False
    return path.relative_to(ROOT).parts[0] in ("nbkit", "tests")
