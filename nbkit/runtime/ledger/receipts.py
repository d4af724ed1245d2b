"""Receipts: what makes a checkpoint exist.

A checkpoint without a whole receipt does not exist. The receipt is written after the checkpoint, carries its size and
SHA-256, and a checksum of its own, so that a flipped bit in either is seen.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nbkit.ground.files import fsync_folder, write_json
from nbkit.runtime.errors import DamagedError

FORMAT = 1
_NAME = re.compile(r"step-(\d{9,})\.(ckpt|json)")
_LARGEST = 1 << 22  # bytes; a receipt is a few kB, and a damaged one must not fill the memory


@dataclass(frozen=True)
class Receipt:
    """Say what a checkpoint holds and how to know it whole.

    Attributes
    ----------
    step, epoch, batch : int
        Optimizer steps done; the place of the next batch.
    size : int
        Bytes of the checkpoint.
    sha256 : str
        Its SHA-256, 64 hexadecimal digits.
    complete : bool
        Whether training ended here because it was done.
    best : bool
        Whether the monitored metric was the best so far.
    world_size : int
        Processes that trained together.
    global_batch : int
        Samples that all of them see in one batch together.
    threads : int
        CPU threads that it was trained with; 0 on a GPU, or where an older nbkit wrote it.
    """

    slug: str
    step: int
    epoch: int
    batch: int
    size: int
    sha256: str
    complete: bool = False
    best: bool = False
    max_steps: int = 0
    reason: str = ""
    monitor: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    precision: str = ""
    world_size: int = 1
    global_batch: int = 0
    threads: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    session: str = ""
    time: float = 0.0
    format: int = FORMAT

    @property
    def file(self) -> str:
        return f"step-{self.step:09d}.ckpt"

    @property
    def name(self) -> str:
        return f"step-{self.step:09d}.json"

    def write(self, folder: Path) -> Path:
        """Write the receipt beside its checkpoint, whole or not at all."""
        path = folder / self.name
        body = asdict(self)
        body["receipt_sha256"] = _checksum(body)
        if not _appear(path, json.dumps(body, indent=1, sort_keys=True, allow_nan=False).encode()):
            write_json(path, body)
        return path


def _appear(path: Path, content: bytes) -> bool:
    """Let a new file appear whole out of one that has no name yet; False where the system cannot.

    Beside a checkpoint that has no receipt yet, a kill then leaves no second stray file.
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
            # only with a folder's handle does Python follow the link that stands for the nameless file
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


def read_receipt(path: Path, name: str | None = None) -> Receipt:
    """Read a receipt; `name` where the file is called otherwise than it should be.

    Raises
    ------
    DamagedError
        Where any byte of it is not as it was written.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is far too large")
        body = json.loads(path.read_bytes())
        promised = body.pop("receipt_sha256")
        if promised != _checksum(body):
            raise ValueError("its own checksum does not agree")
        known = {f.name for f in fields(Receipt)}
        receipt = Receipt(**{key: value for key, value in body.items() if key in known})
        if receipt.name != (name or path.name):
            raise ValueError(f"it is the receipt of {receipt.file}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"the receipt {path} is damaged: {error}") from error
    return receipt


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
