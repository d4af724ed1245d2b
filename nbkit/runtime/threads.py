"""The threads of a training on a CPU: how they wait for each other, and how many they are.

Torch spreads one operation over OpenMP threads, which meet at its end, some thousand times a step. A thread that comes
early spins by default. Beside other busy processes it spins in the very time that the late one needs, and training
becomes several times slower than on one thread. Threads that sleep while they wait keep their speed, so only their
waiting is changed and not their number. Steps a second on two cores that others used too (load about 3), the demo's
model and a transformer of 128 dimensions: two threads that spin 3.4 and 0.5, two that sleep 7.3 and 4.7, one 7.4 and
4.9. Beside two more busy processes: 0.6, 3.3 and 1.5 of the demo's model.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def wait_asleep() -> None:
    """Have the threads of torch sleep while they wait, unless the environment says how they wait.

    OpenMP reads its variables once, when torch is imported; after that this changes nothing.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def threads_in_words(number: int) -> str:
    """Return how many threads there are and how they wait, for the card."""
    threads = f"{number} thread{'s' * (number != 1)}"
    if number == 1:
        return threads
    told = next((f"{name}={os.environ[name]}" for name in _WAITING if name in os.environ), None)
    if told == "OMP_WAIT_POLICY=PASSIVE":
        return f"{threads}, asleep while they wait: other work does not slow them down more than its share"
    if told is not None:
        return f"{threads}, {told}"
    return f"{threads} that spin while they wait, slow beside other work: open the session before torch is imported"


@contextlib.contextmanager
def kept_threads(recorded: int, accelerator: str, say: Any) -> Iterator[int]:
    """Train with as many threads as the training began with, and put the number back afterwards.

    A sum over two threads is added in another order than over one, so the number of threads is part of the bits: a
    session on a machine with other cores must take the first session's.

    Parameters
    ----------
    recorded : int
        Of the checkpoint that is resumed; 0 where there is none, or none that says it.
    accelerator : str
        Lightning's word; with a GPU the number is left alone.
    say : callable
        Prints one line.

    Yields
    ------
    number : int
        What the next checkpoints record; 0 with a GPU.
    """
    if accelerator != "cpu":
        yield 0
        return
    import torch

    before = torch.get_num_threads()
    number = recorded or before
    if number != before and (told := _told(before)):
        say(
            f"this training began with {number} threads and goes on with {before}, as {told} says: its last bits are "
            "not those of a training that was never interrupted."
        )
        number = before
    elif number != before:
        say(f"training with {number} threads instead of {before}, as it began: another number gives other last bits.")
    # also where the number stays: once it is set, MKL no longer takes fewer by itself
    torch.set_num_threads(number)
    try:
        yield number
    finally:
        torch.set_num_threads(before)


def _told(number: int) -> str:
    """Return who chose this number of threads; empty where it is torch's own choice."""
    if told := next((name for name in _NUMBER if name in os.environ), None):
        return told
    import psutil

    cores = {os.cpu_count(), psutil.cpu_count(logical=False)}
    if hasattr(os, "sched_getaffinity"):
        cores.add(len(os.sched_getaffinity(0)))
    return "" if number in cores else "torch.set_num_threads"
