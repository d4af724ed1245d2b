"""Memory-map arrays in npy and npz files.

A mapped array needs no memory of its own: its pages are in the operating system's file cache, one copy for all
processes that read the file. Nothing here writes to a file.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

TORCH_DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float16): torch.float16}


def npy_header(path: str | Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return shape, dtype and offset of the data (bytes) of an npy file; only its header is read.

    Raises
    ------
    ValueError
        If the file is not an npy file in C order, or is shorter than its header says.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = read_header(file)
            offset = file.tell()
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read as npy ({error}); it has {path.stat().st_size} bytes on disk and was left as it is."
        ) from error
    if fortran:
        raise ValueError(f"{path} is in Fortran order, in which windows are not contiguous; save it in C order.")
    size, wanted = path.stat().st_size, offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size < wanted:
        raise ValueError(f"{path} has {size} bytes, but its header says {wanted}: it is cut short. Write it again.")
    return shape, dtype, offset


def map_npy(path: str | Path) -> torch.Tensor:
    """Map a float32 or float16 npy file as a Tensor, without keeping the file open.

    The pages are private: writes into the Tensor stay in this process and never reach the file.
    """
    shape, dtype, offset = npy_header(path)
    if dtype not in TORCH_DTYPES:
        raise ValueError(f"{path} holds {dtype}, neither float32 nor float16; write it again with write_shard.")
    count, kind = int(np.prod(shape, dtype=np.int64)), TORCH_DTYPES[dtype]
    if count == 0:
        return torch.empty(shape, dtype=kind)
    # np.memmap would keep one descriptor per file. A process may have 1024, fewer than HBN has recordings.
    pages = torch.UntypedStorage.from_file(str(path), False, offset + kind.itemsize * count)
    return torch.empty(0, dtype=kind).set_(pages, offset // kind.itemsize, shape)


def map_member(path: str | Path, key: str) -> np.ndarray:
    """Map an array in an npz file; a compressed array is loaded into memory."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{key}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        with np.load(path) as file:
            return file[key]
    with Path(path).open("rb") as file:
        file.seek(info.header_offset + 26)  # lengths in the local header; those of the central directory may differ
        name, extra = np.frombuffer(file.read(4), "<u2")
        file.seek(info.header_offset + 30 + int(name) + int(extra))
        shape, fortran, dtype = read_header(file)
        return np.memmap(path, dtype, mode="r", offset=file.tell(), shape=shape, order="F" if fortran else "C")


def read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, Fortran order (bool) and dtype, and leave the file position at the start of the data."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
