"""Memory of a training step, without a GPU and without the memory itself.

One step runs on fake tensors, which have shapes and sizes but no numbers, under CUDA's kind of autocast and with the
composite form of attention, the largest that torch may fall back to: it keeps its maps in float32 at half precision
too. All storages that are alive at a time are added up. So the figure is an upper estimate of what the tensors of a
step take; a CUDA context (about 0.5 GB) comes on top.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Made = Callable[[], tuple[Any, Callable[[int], Any]]]
_MOMENTS = 2  # tensors that Adam keeps for each weight
_FEW = (2, 4)  # rows of the small batches of steps that cannot run on fake tensors
_PRODUCTS = {
    torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default, torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default,
}  # fmt: skip
_INTO = {  # those that write into a given tensor, to those that return a new one
    torch.ops.aten.mm.out: torch.ops.aten.mm.default, torch.ops.aten.addmm.out: torch.ops.aten.addmm.default,
}  # fmt: skip


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step.

    Attributes
    ----------
    weights : int
        All weights and buffers.
    optimizer : int
        What Adam keeps.
    step : int
        Most bytes of activations, gradients and temporary tensors at one time.
    """

    weights: int
    optimizer: int
    step: int

    @property
    def total(self) -> int:
        """Bytes of all together."""
        return self.weights + self.optimizer + self.step


class LiveBytes(TorchDispatchMode):
    """Mode that adds up the storages that are alive.

    Attributes
    ----------
    now, peak : int
        Bytes at this moment, and the most at one time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = _compute(func, args, kwargs or {})
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return made

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, if it is not counted yet, until it is freed."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._live:
            return
        self._live[key] = storage.nbytes()
        self.now += self._live[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.now -= self._live.pop(key)


def _compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Return what an operation gives; products of bfloat16 are taken in float32, whose copies are not counted."""
    real = [value for value in tree_leaves(args) if isinstance(value, Tensor) and not isinstance(value, FakeTensor)]
    half = next((value.dtype for value in real if value.dtype in (torch.bfloat16, torch.float16)), None)
    if half is None or func not in _PRODUCTS and func not in _INTO:
        return func(*args, **kwargs)
    # a processor without instructions for bfloat16 takes many times as long for them
    wide = tree_map(lambda value: value.float() if isinstance(value, Tensor) else value, (args, kwargs))
    if func in _INTO:
        return kwargs["out"].copy_(_INTO[func](*wide[0]))
    return tree_map(lambda value: value.to(half) if isinstance(value, Tensor) else value, func(*wide[0], **wide[1]))


def step_memory(make: Made, rows: int, half: torch.dtype | None = torch.bfloat16, *, fake: bool = True) -> StepMemory:
    """Return the memory of one training step at a batch size.

    Steps whose shapes depend on values (experts that tokens are sent to, codes that are restarted) cannot run on fake
    tensors. They run on two small batches, and a line through both gives the memory of the whole one.

    Parameters
    ----------
    make : callable
        Returns a Lightning module on the CPU, in training mode, and a function that draws a batch of so many rows.
    rows : int
        Size of the batch.
    half : torch.dtype, optional
        Precision of autocast, of as many bytes as float16 and much faster on a CPU; None for none.
    fake : bool
        False for a network that holds tensors of its own, which cannot be made fake: small batches are used for it.

    Returns
    -------
    memory : StepMemory
    """
    module, batch_of = make()
    sizes = [_sizes_of(part) for part in _parts_of(module)]
    held, trained = sum(each for each, _ in sizes), sum(each for _, each in sizes)
    peak = _peak_of_shapes(module, batch_of(rows), half) if fake else None
    if peak is None:
        module, batch_of = make() if fake else (module, batch_of)
        few = sorted({min(rows, each) for each in _FEW})
        peaks = [_peak(module, batch_of(each), half) for each in few]
        each = (peaks[-1] - peaks[0]) / max(1, few[-1] - few[0])
        peak = round(peaks[-1] + each * (rows - few[-1]))
    return StepMemory(held, _MOMENTS * trained, peak)


def _peak_of_shapes(module: Any, batch: Any, half: torch.dtype | None) -> int | None:
    """Return the peak of a step on fake tensors; None if its shapes depend on values. The module becomes fake."""
    mode = FakeTensorMode()
    for part in _parts_of(module):
        _make_fake(part, mode)
    shapes = tree_map(lambda value: mode.from_tensor(value) if isinstance(value, Tensor) else value, batch)
    try:
        with mode:
            return _peak(module, shapes, half)
    except (DataDependentOutputException, DynamicOutputShapeException):
        return None


def _peak(module: Any, batch: Any, half: torch.dtype | None) -> int:
    """Return the most bytes that are alive at a time in a step, without the weights."""
    live = LiveBytes()
    module.zero_grad(set_to_none=True)
    with sdpa_kernel(SDPBackend.MATH), live:
        for tensor in tree_leaves(batch):
            if isinstance(tensor, Tensor):
                live.add(tensor)
        parts = _losses(module, batch)
        while True:
            with torch.autocast("cpu", dtype=half, enabled=half is not None, cache_enabled=False):
                loss = next(parts, None)
            if loss is None:
                return live.peak
            loss.backward()
            del loss


def _losses(module: Any, batch: Any) -> Iterator[Tensor]:
    """Yield the losses of a step; each is propagated back before the next one is asked for."""
    if hasattr(module, "step_parts"):
        yield from (loss for _, loss in module.step_parts(batch, 1))
    else:
        yield module.training_step(batch, 1)


def _parts_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all below it, with those that are held as plain attributes."""
    seen: set[int] = set()
    waiting = [module]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        waiting += part.children()
        waiting += [value for value in vars(part).values() if isinstance(value, nn.Module)]


def _sizes_of(part: nn.Module) -> tuple[int, int]:
    """Return the bytes of a module's own tensors, and of those that are trained."""
    own = [value for table in (part._parameters, part._buffers) for value in table.values() if value is not None]
    return sum(value.nbytes for value in own), sum(value.nbytes for value in own if value.requires_grad)


def _make_fake(part: nn.Module, fake: FakeTensorMode) -> None:
    """Replace a module's own tensors by fake ones."""
    for table in (part._parameters, part._buffers):
        for name, value in table.items():
            if value is not None:
                made = fake.from_tensor(value.detach())
                table[name] = nn.Parameter(made, value.requires_grad) if isinstance(value, nn.Parameter) else made
