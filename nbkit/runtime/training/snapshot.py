"""A copy of a checkpoint in memory, taken between two steps.

The copy into buffers that exist already is all that training waits for; a thread writes them out while training goes
on. There is one set of buffers, so at most one extra copy, and what is in it can be read back with
``weights_only=True``: anything else is refused by name before a byte is written.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch

from nbkit.runtime.errors import UsageError

_LEAVES = (type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size)


class Buffers:
    """Copy checkpoints into the same memory again and again."""

    def __init__(self) -> None:
        self._held: dict[str, torch.Tensor] = {}

    def copy(self, tree: Any) -> Any:
        """Give the tree with every tensor replaced by a copy in this object's memory.

        The copy is valid until the next call. Tensors that share memory share their copy.

        Raises
        ------
        UsageError
            Names the first entry that a checkpoint may not hold.
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
            buffer = self._held.get(path)
            if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                pinned = tensor.is_cuda
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
            buffer.copy_(tensor, non_blocking=tensor.is_cuda)
            on_gpu |= tensor.is_cuda
            used[path] = seen[key] = buffer
            return buffer

        with torch.no_grad():
            result = _walk(tree, "", copied)
        if on_gpu:
            torch.cuda.synchronize()
        self._held = used
        return result

    def bytes(self) -> int:
        """Give the memory held, in bytes."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self._held.values())


def _walk(value: Any, path: str, copied: Any) -> Any:
    kind = type(value)
    if isinstance(value, torch.Tensor):
        return copied(value, path)
    if kind in _LEAVES:
        return value
    if kind in (dict, OrderedDict):
        for key in value:
            if type(key) not in _LEAVES and type(key) is not tuple:
                raise _refused(f"{path or 'the top level'} has the key {key!r}", key)
        result = kind((key, _walk(item, f"{path}.{key}" if path else str(key), copied)) for key, item in value.items())
        # torch keeps the versions of a module's layout beside the entries of its state_dict
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


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _refused(what: str, value: object) -> UsageError:
    kind = type(value)
    advice = ""
    if kind.__module__ == "numpy":
        advice = " Write float(x), int(x) or torch.from_numpy(x) where it is set."
    elif "hyper_parameters" in what:
        advice = " Do not call save_hyperparameters with objects; keep them in module.settings, which nbkit saves."
    return UsageError(
        f"the checkpoint cannot be saved: {what}, of type {kind.__module__}.{kind.__qualname__}. Allowed are tensors, "
        "numbers, text, None and dict, list, tuple or set of them, so that it loads with weights_only=True."
        f"{advice} Nothing was written; earlier checkpoints are untouched."
    )
