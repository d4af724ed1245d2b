"""Reading and writing of checkpoint files, as Lightning's CheckpointIO plugin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch.utils._pytree import tree_leaves

from nbkit.ground.files import write_atomically
from nbkit.runtime.disk import DiskError, on_disk
from nbkit.runtime.errors import DamagedError, NbkitError, UsageError
from nbkit.runtime.ledger.records import shortened


class SnapshotIO(CheckpointIO):
    """Pass Lightning's checkpoints to whoever asked for them, and return one that was verified before.

    A save that nbkit asks for brings its receiver along as Lightning's ``storage_options``; a save that a user asks
    for (``trainer.save_checkpoint(path)``) brings none, and becomes a file.

    Parameters
    ----------
    loaded : tuple of (Path, dict) or None
        A checkpoint that was read already, so that it is not read twice.
    before_loading : callable or None
        Called with a checkpoint before Lightning loads its weights into the module.
    """

    def __init__(
        self,
        loaded: tuple[Path, dict[str, Any]] | None = None,
        before_loading: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._loaded, self._before_loading = loaded, before_loading

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: Any,
        storage_options: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        if storage_options is not None:
            storage_options(checkpoint)
        else:
            write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if self._loaded is not None and Path(path) == self._loaded[0]:
            checkpoint, self._loaded = self._loaded[1], None
            if self._before_loading is not None:
                self._before_loading(checkpoint)
            return checkpoint
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def write_checkpoint(checkpoint: Any, path: Path) -> tuple[int, str]:
    """Write a checkpoint atomically, and return its size in bytes and its SHA-256.

    Raises
    ------
    DiskError
        If the disk is full or fails; the message has the size of the tensors and what is free.
    """
    with on_disk(f"{path.name} was not written", path.parent, _tensor_bytes(checkpoint)):
        return write_atomically(path, lambda file: torch.save(checkpoint, file))


def _tensor_bytes(checkpoint: Any) -> int:
    """Return the size of a checkpoint's tensors, each storage once."""
    storages = {}
    for leaf in tree_leaves(checkpoint):
        if isinstance(leaf, torch.Tensor) and leaf.layout is torch.strided:
            storages[leaf.untyped_storage().data_ptr()] = leaf.untyped_storage().nbytes()
    return sum(storages.values())


def load_checkpoint(path: Path, written_by: str = "") -> dict[str, Any]:
    """Load a checkpoint with ``weights_only=True``.

    Parameters
    ----------
    path : Path
        A file whose bytes were verified.
    written_by : str
        The torch version that its receipt names; empty if it is not known.

    Returns
    -------
    checkpoint : dict
        With its tensors in main memory.

    Raises
    ------
    UsageError
        If there is no such file.
    DamagedError
        If the torch that wrote it cannot read it, although its bytes are as they were written.
    NbkitError
        If another torch wrote it and this one cannot read it, or the disk or the memory fails.
    """
    try:
        with on_disk(f"{path.name} could not be read", path.parent):
            return torch.load(path, map_location="cpu", weights_only=True)
    except DiskError:
        raise
    except FileNotFoundError:
        raise UsageError(f"There is no checkpoint {path}.") from None
    except Exception as error:  # torch and the bytes that it unpickles may raise any error
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise NbkitError(
                f"{path} does not fit into the memory. Nothing was deleted. Free some memory and run again."
            ) from error
        cannot = f"torch {torch.__version__} cannot load {path}: {_why(error)}"
        if written_by not in ("", torch.__version__):
            raise NbkitError(
                f"{cannot}. It was written by torch {written_by}. Nothing was deleted. Use that version."
            ) from error
        raise DamagedError(f"{cannot}. So it is damaged, although its bytes are those that were written") from error


def _why(error: Exception) -> str:
    """Return the reason of an error of torch.load, without its advice to load the file in another, unsafe way."""
    lines = [line.strip() for line in str(error).splitlines()]
    own = [line for line in lines if line and "weights_only" not in line and "torch.load" not in line]
    return shortened(own[0].partition(". ")[0].removesuffix(".")) if own else f"a {type(error).__name__}"
