"""Choice of the device and precision, with the reason.

A phase that needs a GPU stops with an error if there is none, or if this version of torch has no kernels for it: it
must not train for nine hours on a CPU by accident. Every automatic choice is shown with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbkit.runtime.errors import UsageError
from nbkit.runtime.threads import describe_threads, wait_asleep

_WANTED = ("gpu", "cpu", "any")


@dataclass(frozen=True)
class Device:
    """Device that a training runs on.

    Attributes
    ----------
    accelerator : str
        Lightning's name: ``cuda`` or ``cpu``.
    count : int
        Number of devices.
    name : str
        Name of the hardware, such as ``Tesla T4``.
    precision : str
        Lightning's name: ``16-mixed``, ``bf16-mixed`` or ``32-true``.
    reason : str
        Why this precision was chosen.
    """

    accelerator: str
    count: int
    name: str
    precision: str
    reason: str

    @property
    def torch_device(self) -> str:
        """Name of the device in torch: where a session trains, and where what follows its training is computed."""
        return torch_device(self.accelerator)

    def __str__(self) -> str:
        many = f"{self.count} x " if self.count > 1 else ""
        return f"{many}{self.name}, {self.precision} ({self.reason})"


def torch_device(accelerator: str) -> str:
    """Return torch's name of one of Lightning's accelerators."""
    return "cuda" if accelerator in ("cuda", "gpu") else "cpu"


def choose_device(wanted: str = "any") -> Device:
    """Choose device and precision.

    Parameters
    ----------
    wanted : str
        ``"gpu"``, ``"cpu"``, or ``"any"`` (a GPU if there is one, else the CPU).

    Returns
    -------
    device : Device

    Raises
    ------
    UsageError
        If `wanted` is unknown, a GPU is needed and there is none, or this version of torch cannot use the GPU.
    """
    if wanted not in _WANTED:
        raise UsageError(f"Accelerator {wanted!r} is not valid. Allowed: {', '.join(_WANTED)}. Nothing was begun.")
    wait_asleep()  # if this process has not imported torch yet, as in `nbkit check`
    import torch

    if wanted != "cpu" and torch.cuda.is_available():
        return _cuda(torch)
    if wanted == "gpu":
        raise UsageError(
            f"This phase needs a GPU, and torch {torch.__version__} finds none. Turn one on (Kaggle: Settings, "
            "Accelerator, GPU T4 x2; Colab: Runtime, Change runtime type), use accelerator='cpu' to train on the CPU "
            "on purpose, or SMOKE=True to try the notebook. Nothing was begun."
        )
    return Device("cpu", 1, f"CPU ({describe_threads(torch.get_num_threads())})", "32-true", "a CPU computes in fp32")


def _cuda(torch: Any) -> Device:
    cuda = torch.cuda
    name, (major, minor) = cuda.get_device_name(0), cuda.get_device_capability(0)
    fault = kernel_fault(major, minor, cuda.get_arch_list())
    if fault is None:
        try:
            # is_available() is also true for cards on which the first kernel fails
            (torch.ones(8, device="cuda") * 2).sum().item()
        except RuntimeError as error:
            fault = f"the first kernel failed: {str(error).splitlines()[0]}"
    if fault:
        raise UsageError(
            f"Torch {torch.__version__} cannot use the GPU {name} (compute capability {major}.{minor}): {fault}. "
            "Choose another accelerator (Kaggle: GPU T4 x2) or a version of torch that supports it. Nothing was begun."
        )
    if (major, minor) >= (8, 0):
        reason = f"compute capability {major}.{minor} has native bf16"
        return Device("cuda", cuda.device_count(), name, "bf16-mixed", reason)
    reason = f"compute capability {major}.{minor} only emulates bf16; fp16 is several times faster"
    return Device("cuda", cuda.device_count(), name, "16-mixed", reason)


def kernel_fault(major: int, minor: int, built_for: list[str]) -> str | None:
    """Return why kernels built for these architectures do not run on a card; None if they do.

    Parameters
    ----------
    major, minor : int
        The card's compute capability.
    built_for : list of str
        Result of ``torch.cuda.get_arch_list()``, such as ``["sm_75", "compute_90"]``.
    """
    for arch in built_for:
        kind, _, digits = arch.partition("_")
        digits = digits.rstrip("af")
        if not digits.isdigit():
            continue
        built = (int(digits[:-1]), int(digits[-1]))
        # machine code runs on cards of the same major version, PTX on any newer card
        machine_code = kind == "sm" and built[0] == major and built[1] <= minor
        if machine_code or (kind == "compute" and built <= (major, minor)):
            return None
    return f"it has kernels for {', '.join(built_for) or 'no GPU'}, but none for sm_{major}{minor}"


def open_device(accelerator: str, smoke: bool, seed: int, local_rank: int = 0) -> Device:
    """Choose the device of a session, and seed the global random generators for the cells that follow.

    Parameters
    ----------
    accelerator : str
        What the phase needs: ``"gpu"``, ``"cpu"`` or ``"any"``.
    smoke : bool
        True to let a phase that needs a GPU run on a CPU.
    seed : int
    local_rank : int
        Rank of this process among those that train together on this machine.

    Returns
    -------
    device : Device
    """
    wanted = "any" if smoke and accelerator == "gpu" else accelerator
    if local_rank and wanted != "cpu":
        import torch

        if local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)  # otherwise every process would also create a context on the first GPU
    device = choose_device(wanted)
    seed_everything(seed)
    return device


def seed_everything(seed: int) -> None:
    """Seed the global random generators, so that the initial weights of a module depend only on the seed."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
