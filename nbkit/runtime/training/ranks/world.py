"""The rank of this process, and the number of processes, in a training on several devices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbkit.runtime.device import Device
from nbkit.runtime.errors import UsageError

NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
STRATEGIES = {"auto": False, "ddp": False, "ddp_find_unused_parameters_true": True}


@dataclass(frozen=True)
class World:
    """The rank of this process and the number of processes.

    Attributes
    ----------
    rank, size : int
        Rank of this process, and number of processes.
    local_rank, local_size : int
        Among the processes of this machine.
    starts : bool
        Whether this process must start the others; otherwise torchrun or such a process started it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    starts: bool = False

    @property
    def others_wait(self) -> bool:
        """Whether other processes are running already and must be told what happens to this one."""
        return self.size > 1 and not self.starts and all(name in os.environ for name in NEEDED)

    @property
    def nodes(self) -> int:
        return self.size // self.local_size


def current_world(environment: Mapping[str, str] | None = None) -> World:
    """Return the ranks that torchrun has set in the environment; a single process if it has set none.

    Raises
    ------
    UsageError
        For numbers that do not fit together.
    """
    told = os.environ if environment is None else environment
    try:
        size, rank = int(told.get("WORLD_SIZE", "1")), int(told.get("RANK", "0"))
        local_size, local = int(told.get("LOCAL_WORLD_SIZE", str(size))), int(told.get("LOCAL_RANK", str(rank)))
    except ValueError:
        size = rank = local_size = local = -1
    if not (0 <= rank < size and 0 <= local < local_size and size % local_size == 0):
        names = ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK")
        raise UsageError(
            f"The environment says {', '.join(f'{n}={told.get(n)}' for n in names)}, which is inconsistent. Start "
            "the processes with torchrun, the same number on every machine. Nothing was trained."
        )
    return World(rank, size, local, local_size) if size > 1 else World()


def choose_world(options: Mapping[str, Any], device: Device) -> World:
    """Return the ranks of a training on the requested devices.

    Parameters
    ----------
    options : mapping
        Options of `fit`: ``devices``, ``strategy`` and ``accelerator`` are read.
    device : Device

    Raises
    ------
    UsageError
        If the devices do not exist, or if the strategy shards the state over the processes.
    """
    told = current_world()
    accelerator = options.get("accelerator", device.accelerator)
    devices = options.get("devices")
    if told.size > 1:
        if devices not in (None, "auto", -1, told.local_size, str(told.local_size)):
            raise UsageError(
                f"devices={devices!r}, and torchrun started {told.local_size} process(es) on this machine. Leave "
                "devices out, or start as many. Nothing was trained."
            )
        world = told
    else:
        wanted = 1 if devices is None else _count(devices, device, accelerator)
        world = World(0, wanted, 0, wanted, starts=wanted > 1)
    strategy = options.get("strategy", "auto")
    if world.size > 1 and strategy not in STRATEGIES:
        raise UsageError(
            f"strategy={strategy!r} does not support several devices; allowed are {', '.join(STRATEGIES)}. The "
            "processes are started by nbkit in a notebook or script, or by torchrun. Nothing was trained."
        )
    return world


def _count(devices: Any, device: Device, accelerator: str) -> int:
    on_gpu = accelerator in ("cuda", "gpu")
    if devices in ("auto", -1, "-1"):
        return device.count if on_gpu else 1
    number = int(devices) if isinstance(devices, str) and devices.isdigit() else devices
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise UsageError(
            f"devices={devices!r} is not a number of devices; allowed are a whole number from 1, and 'auto' for all "
            "devices of this machine. On several machines start the processes with torchrun. Nothing was trained."
        )
    if on_gpu and number > device.count:
        raise UsageError(
            f"devices={devices!r}, and this machine has {device.count} GPU(s) ({device.name}). Ask for as many as "
            "there are, or turn on more (Kaggle: GPU T4 x2). Nothing was trained."
        )
    return number
