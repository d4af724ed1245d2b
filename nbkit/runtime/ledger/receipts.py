"""Receipts: a checkpoint counts only if its receipt is intact.

The receipt is written after the checkpoint. It has the checkpoint's size and SHA-256 and a checksum of its own, so that
a flipped bit in either is detected.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from nbkit.ground.files import fsync_folder, sha256_of, write_json
from nbkit.runtime.disk import on_disk
from nbkit.runtime.errors import DamagedError
from nbkit.runtime.ledger.records import Count, Time, from_json, shortened

FORMAT = 1
Number = Annotated[int, Meta(ge=1, le=2**60)]
_NAME = re.compile(r"step-(\d{9,})\.(ckpt|json)")
_LARGEST = 1 << 22  # bytes; receipts have a few kB, and a damaged one must not fill the memory


@dataclass(frozen=True)
class Receipt:
    """Content and checksum of a checkpoint.

    Attributes
    ----------
    step, epoch, batch : int
        Optimizer steps done; epoch and position of the next batch.
    size : int
        Bytes of the checkpoint.
    sha256 : str
        Its SHA-256, in hexadecimal.
    complete : bool
        Whether training was finished here.
    best : bool
        Whether the monitored metric was the best until then.
    world_size : int
        Number of processes that trained together.
    global_batch : int
        Samples per batch of all processes together.
    threads : int
        Number of CPU threads that it was trained with; 0 on a GPU, and in receipts of older versions.
    chosen : dict of str to int
        What was chosen by measuring, once for the training: ``pieces`` of a batch, ``val_batches`` of a validation.
    """

    slug: str
    step: Count
    epoch: Count
    batch: Count
    size: Count
    sha256: str
    complete: bool = False
    best: bool = False
    max_steps: Count = 0
    reason: str = ""
    monitor: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    precision: str = ""
    world_size: Number = 1
    global_batch: Count = 0
    threads: Count = 0
    chosen: dict[str, Number] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    session: str = ""
    time: Time = 0.0
    format: Annotated[int, Meta(ge=1)] = FORMAT

    @property
    def file(self) -> str:
        return f"step-{self.step:09d}.ckpt"

    @property
    def name(self) -> str:
        return f"step-{self.step:09d}.json"

    def fault(self, path: Path) -> str | None:
        """Return what is wrong with a checkpoint file; None if it agrees with this receipt."""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return f"is missing; its receipt records {self.size} bytes"
        if size != self.size:
            return f"is damaged: it has {size} bytes, its receipt records {self.size}"
        found = sha256_of(path)
        if found != self.sha256:
            return f"is damaged: its SHA-256 is {found[:12]}..., its receipt records {self.sha256[:12]}..."
        return None

    def write(self, folder: Path) -> Path:
        """Write the receipt beside its checkpoint, atomically, and return its path."""
        path = folder / self.name
        body = asdict(self)
        body["receipt_sha256"] = _checksum(body)
        with on_disk(f"The receipt {self.name} was not written", folder):
            if not _appear(path, json.dumps(body, indent=1, sort_keys=True, allow_nan=False).encode()):
                write_json(path, body)
        return path


class _Watched(Struct):
    name: str | None = None
    mode: str | None = None
    best: float | None = None


class _Validation(Struct):
    contents: dict[str, Any] = {}
    collate_fn: dict[str, Any] | None = None


class _Trained(Struct):
    seed: int | None = None
    optimizers: list[str] = []
    schedulers: list[str] = []
    callbacks: list[str] = []
    scheduler_monitors: list[str | None] = []
    callback_settings: dict[str, dict[str, Any]] = {}
    validation: dict[str, _Validation] = {}
    validated: list[str] = []
    monitor: str | None = None
    mode: str | None = None
    precision: str | None = None


class _Compared(Struct):
    """The form of what a receipt keeps as it was written, because it is compared with what another session has."""

    training: _Trained
    monitor: _Watched | None


def _appear(path: Path, content: bytes) -> bool:
    """Create a file atomically by linking one that has no name yet; return False if the system cannot.

    So a kill leaves no second stray file beside a checkpoint that has no receipt yet.
    """
    try:
        handle = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o644)
    except (AttributeError, OSError):
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            # Python follows the link to the nameless file only relative to a folder's handle
            numbers = os.open("/proc/self/fd", os.O_RDONLY)
            try:
                os.link(str(file.fileno()), path, src_dir_fd=numbers, follow_symlinks=True)
            finally:
                os.close(numbers)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    fsync_folder(path.parent)
    return True


def step_of(name: str) -> int | None:
    """Return the step in the name of a checkpoint or receipt; None for any other name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def read_receipt(path: Path, name: str | None = None, slug: str | None = None) -> Receipt:
    """Read a receipt.

    Parameters
    ----------
    path : Path
    name : str or None
        The name that the file should have; by default the one it has.
    slug : str or None
        The phase that it should be of.

    Raises
    ------
    DamagedError
        If any byte of it has changed, it does not have the form of a receipt, or a newer nbkit wrote it.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is far too large")
        body = from_json(path.read_bytes().decode("utf-8"))
        promised = body.pop("receipt_sha256")
        if promised != _checksum(body):
            raise ValueError("its own checksum does not agree")
        if isinstance(body.get("format"), int) and body["format"] > FORMAT:
            raise ValueError("a newer nbkit wrote it, which must be installed to read it")
        receipt = msgspec.convert(body, Receipt)
        msgspec.convert({"training": receipt.training, "monitor": receipt.monitor}, _Compared)
        if not all(text.isprintable() for text in (receipt.reason, receipt.precision, receipt.session)):
            raise ValueError("its reason, precision or session is no printable text")
        if receipt.name != (name or path.name):
            raise ValueError(f"it belongs to {receipt.file}")
        if receipt.slug != (slug or receipt.slug):
            raise ValueError(f"it belongs to the phase {receipt.slug!r}, not to {slug!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"The receipt {path} is damaged: {shortened(str(error))}") from error
    return receipt


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
