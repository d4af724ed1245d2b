"""Short digests of values, which are equal if and only if the bits are.

A proof records hundreds of tensors at every step, so their bytes are reduced to a checksum. Numbers and short texts are
kept as they are, because a message can show them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

_SHOWN = 60  # characters of a value that a message can show
_DEPTH = 12  # of nesting; an object that holds itself has no end


def of_tensor(tensor: torch.Tensor) -> str:
    """Return the value of a tensor with one element, else a checksum of its bytes, type and shape."""
    tensor = tensor.detach()
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.numel() == 1 and not tensor.is_complex() and not tensor.is_quantized:
        return f"{tensor.reshape(()).item()!r} ({kind})"
    return f"#{zlib.crc32(bytes_of(tensor)):08x} ({kind}, {'x'.join(map(str, tensor.shape))})"


def bytes_of(tensor: torch.Tensor) -> Any:
    """Return the bytes of a tensor on any device, in any layout."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def of_plain(value: Any) -> str:
    """Return the representation of a plain value, or its checksum if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"#{zlib.crc32(text.encode('utf-8', 'replace')):08x}"


def tree(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (name, digest) for every leaf of nested mappings and sequences.

    Parameters
    ----------
    name : str
        Of the whole; the names of the leaves begin with it.
    value : object
    depth : int
        How deep it lies.
    """
    if depth > _DEPTH:
        return
    if isinstance(value, torch.Tensor):
        yield name, of_tensor(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tree(f"{name}.{key}" if name else str(key), item, depth + 1)
    elif isinstance(value, list | tuple) and not _is_plain(value):
        for number, item in enumerate(value):
            yield from tree(f"{name}[{number}]", item, depth + 1)
    elif hasattr(value, "tobytes") and hasattr(value, "dtype"):
        yield name, f"#{zlib.crc32(value.tobytes()):08x} ({value.dtype})"
    elif hasattr(value, "__dict__") and not callable(value):  # such as a batch that is a dataclass
        yield from tree(name, vars(value), depth + 1)
    elif not callable(value):
        yield name, of_plain(value)


def _is_plain(values: Any) -> bool:
    return all(isinstance(value, bool | int | float | str | type(None)) for value in values)
