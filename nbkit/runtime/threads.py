"""Threads of a training on a CPU: their number, and how they wait for each other.

Torch distributes each operation over OpenMP threads, which wait for each other about a thousand times per step. By
default a waiting thread spins. If other processes use the cores as well, it takes the time that the slower thread
needs, and training becomes several times slower than with one thread. Threads that sleep while they wait avoid this, so
only the way of waiting is changed and not the number of threads.

Measured in steps per second on two cores with a load of about 3 from other processes, for the demo's model and for a
transformer of 128 dimensions: 3.4 and 0.5 with two threads that spin, 7.3 and 4.7 with two that sleep, 7.4 and 4.9 with
one thread. Beside two more busy processes, for the demo's model: 0.6, 3.3 and 1.5.
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
    """Make torch's threads sleep while they wait, unless a variable already says how they wait.

    OpenMP reads its variables only once, when torch is imported, so a later call has no effect.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def describe_threads(number: int) -> str:
    """Return the number of threads and how they wait as text for the card."""
    threads = f"{number} thread{'s' * (number != 1)}"
    if number == 1:
        return threads
    setting = next((f"{name}={os.environ[name]}" for name in _WAITING if name in os.environ), None)
    if setting == "OMP_WAIT_POLICY=PASSIVE":
        return f"{threads} that sleep while they wait"
    if setting is not None:
        return f"{threads}, {setting}"
    return (
        f"{threads} that spin while they wait, slow beside other processes: set OMP_WAIT_POLICY=PASSIVE before Python "
        "starts, or open the session before torch is imported"
    )


@contextlib.contextmanager
def kept_threads(recorded: int, accelerator: str, say: Any) -> Iterator[int]:
    """Train with the number of threads that the training began with, and restore the present number afterwards.

    Two threads add numbers in another order than one, so the last bits of the results depend on the number of threads.
    A session on a machine with more or fewer cores must therefore use the number of the first session.

    Parameters
    ----------
    recorded : int
        Number in the checkpoint that is resumed; 0 if there is no checkpoint or no number in it.
    accelerator : str
        Lightning's name; with a GPU the number is not changed.
    say : callable
        Prints one line.

    Yields
    ------
    number : int
        Number of threads to record in the next checkpoints; 0 with a GPU.
    """
    if accelerator != "cpu":
        yield 0
        return
    import torch

    before = torch.get_num_threads()
    number = recorded or before
    if number != before and (source := _chosen_by(before)):
        say(
            f"This training began with {number} threads and continues with {before}, because {source} sets that "
            "number. The last bits of its results differ from those of an uninterrupted training."
        )
        number = before
    elif number != before:
        say(f"Training with {number} threads instead of {before}, as it began: the last bits depend on this number.")
    # also if the number does not change: once it is set, MKL no longer uses fewer threads by itself
    torch.set_num_threads(number)
    try:
        yield number
    finally:
        torch.set_num_threads(before)


def _chosen_by(number: int) -> str:
    """Return what set this number of threads; an empty string if it is torch's default."""
    if variable := next((name for name in _NUMBER if name in os.environ), None):
        return variable
    import psutil

    cores = {os.cpu_count(), psutil.cpu_count(logical=False)}
    if hasattr(os, "sched_getaffinity"):
        cores.add(len(os.sched_getaffinity(0)))
    return "" if number in cores else "torch.set_num_threads"
