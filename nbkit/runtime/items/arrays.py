"""An item's arrays as one npz file: names that come back as they were, or a refusal in words.

A name of an array becomes the name of a member of a zip file, and numpy makes the name of the array of that again.
Names for which this way does not lead back are refused before anything is written.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

from nbkit.runtime.errors import UsageError

MEMBER = ".npy"
_LONGEST = 65_535 - len(MEMBER)  # bytes: a zip file keeps the length of a name in two of them
_SHOWN = 60  # characters of a name in a message


def check_arrays(key: str, names: Iterable[str]) -> None:
    """Refuse names of an item's arrays that a later session could not tell apart, or that no npz file can hold.

    Raises
    ------
    UsageError
    """
    seen: dict[str, str] = {}
    for name in names:
        fault = _fault(name)
        if fault:
            raise UsageError(
                f"The array {_shown(name)} of item {key} has a name that {fault}. Rename it. The item is not recorded."
            )
        if (other := seen.setdefault(_on_windows(name), name)) != name:
            raise UsageError(
                f"The arrays {_shown(other)} and {_shown(name)} of item {key} are one array where '\\' in a name is "
                "read as '/', as on Windows. Rename one of them. The item is not recorded."
            )
    for form, name in seen.items():
        without = form.removesuffix(MEMBER)
        if without != form and without in seen:
            raise UsageError(
                f"numpy.load cannot tell {_shown(name)} and {_shown(seen[without])} of item {key} apart, as it leaves "
                f"{MEMBER!r} out. Rename one of them. The item is not recorded."
            )


def _fault(name: str) -> str | None:
    if "\0" in name:
        return "holds a NUL, at which a zip file's names end"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "cannot be written as UTF-8"
    return f"has {size:,} bytes, more than the {_LONGEST:,} of a zip file's names" if size > _LONGEST else None


def _on_windows(name: str) -> str:
    return name.replace("\\", "/")  # by zipfile, when it writes there and when it reads there


def _shown(name: str) -> str:
    return repr(name) if len(name) <= _SHOWN else f"{name[:_SHOWN]!r}..."


def write_arrays(arrays: Mapping[str, Any], file: Any) -> None:
    """Write an npz file as `numpy.savez` does, for arrays of any name.

    `numpy.savez` takes the names as arguments, so it refuses ``file``, or uses ``allow_pickle`` for itself.
    """
    from numpy.lib import format as npy

    target: Any = _Sequential(file)
    with zipfile.ZipFile(target, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}{MEMBER}", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)


class _Sequential:
    """Write-only file for zipfile, which then writes sequentially."""

    def __init__(self, file: Any) -> None:
        self.write, self.flush = file.write, file.flush
