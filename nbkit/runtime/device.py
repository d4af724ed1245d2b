"""Which device, which precision, and why.

A phase that asked for a GPU and finds none, or one whose kernels this torch does not carry, stops and says so: nine
hours on a CPU by accident is the costliest fault there is. Every automatic choice comes with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbkit.runtime.errors import UsageError
from nbkit.runtime.threads import threads_in_words, wait_asleep

_WANTED = ("gpu", "cpu", "any")


@dataclass(frozen=True)
class Device:
    """Say what a training runs on.

    Attributes
    ----------
    accelerator : str
        Lightning's word: ``cuda`` or ``cpu``.
    count : int
        Devices of it.
    name : str
        Such as ``Tesla T4``.
    precision : str
        Lightning's word: ``16-mixed``, ``bf16-mixed`` or ``32-true``.
    reason : str
        Why this precision.
    """

    accelerator: str
    count: int
    name: str
    precision: str
    reason: str

    def __str__(self) -> str:
        many = f"{self.count} x " if self.count > 1 else ""
        return f"{many}{self.name}, {self.precision} ({self.reason})"


def choose_device(wanted: str = "any") -> Device:
    """Choose device and precision, or refuse with the reason.

    Parameters
    ----------
    wanted : str
        ``"gpu"``, ``"cpu"``, or ``"any"`` (a GPU where one works, else the CPU).

    Raises
    ------
    UsageError
        For a GPU that is asked for and not there, or that this torch cannot run on.
    """
    if wanted not in _WANTED:
        raise UsageError(f"accelerator {wanted!r} is not one; allowed are {', '.join(_WANTED)}. Nothing was begun.")
    wait_asleep()  # where this process has not imported torch yet, as in `nbkit check`
    import torch

    if wanted != "cpu" and torch.cuda.is_available():
        return _cuda(torch)
    if wanted == "gpu":
        raise UsageError(
            f"this phase asked for a GPU and torch {torch.__version__} finds none. Turn one on (Kaggle: Settings, "
            "Accelerator, GPU T4 x2; Colab: Runtime, Change runtime type), or say accelerator='cpu' to train on the "
            "CPU on purpose, or SMOKE=True to try the notebook. Nothing was begun."
        )
    return Device("cpu", 1, f"CPU ({threads_in_words(torch.get_num_threads())})", "32-true", "a CPU computes in fp32")


def _cuda(torch: Any) -> Device:
    cuda = torch.cuda
    name, (major, minor) = cuda.get_device_name(0), cuda.get_device_capability(0)
    fault = kernel_fault(major, minor, cuda.get_arch_list())
    if fault is None:
        try:
            # is_available() is true on cards whose first kernel dies
            (torch.ones(8, device="cuda") * 2).sum().item()
        except RuntimeError as error:
            fault = f"its first kernel failed: {str(error).splitlines()[0]}"
    if fault:
        raise UsageError(
            f"{name} (capability {major}.{minor}) is here, but torch {torch.__version__} cannot run on it: {fault}. "
            "Choose another accelerator (Kaggle: GPU T4 x2) or a torch that carries its kernels. Nothing was begun."
        )
    if (major, minor) >= (8, 0):
        reason = f"capability {major}.{minor} has bf16 of its own"
        return Device("cuda", cuda.device_count(), name, "bf16-mixed", reason)
    reason = f"capability {major}.{minor} only emulates bf16, fp16 is several times faster"
    return Device("cuda", cuda.device_count(), name, "16-mixed", reason)


def kernel_fault(major: int, minor: int, built_for: list[str]) -> str | None:
    """Say why kernels built for these architectures do not run on a card; None where they do.

    Parameters
    ----------
    major, minor : int
        The card's compute capability.
    built_for : list of str
        As ``torch.cuda.get_arch_list()`` gives, such as ``["sm_75", "compute_90"]``.
    """
    for arch in built_for:
        kind, _, digits = arch.partition("_")
        digits = digits.rstrip("af")
        if not digits.isdigit():
            continue
        built = (int(digits[:-1]), int(digits[-1]))
        # machine code runs within its major version, PTX on anything newer
        machine_code = kind == "sm" and built[0] == major and built[1] <= minor
        if machine_code or (kind == "compute" and built <= (major, minor)):
            return None
    return f"it carries kernels for {', '.join(built_for) or 'no GPU'}, none for sm_{major}{minor}"


def open_device(accelerator: str, smoke: bool, seed: int, local_rank: int = 0) -> Device:
    """Choose the device of a session, and seed the global generators for the cells after it.

    Parameters
    ----------
    accelerator : str
        What the phase asked for; with `smoke` a phase that asked for a GPU may run on a CPU.
    local_rank : int
        Of this process among those that train together on this machine.

    Returns
    -------
    device : Device
    """
    wanted = "any" if smoke and accelerator == "gpu" else accelerator
    if local_rank and wanted != "cpu":
        import torch

        if local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)  # its own, not another context on the first
    device = choose_device(wanted)
    seed_everything(seed)
    return device


def seed_everything(seed: int) -> None:
    """Seed the global generators, so that the first weights of a module depend on the seed alone."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
