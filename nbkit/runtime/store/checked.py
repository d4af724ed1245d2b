"""Copying out of a store, checked before it counts."""

from __future__ import annotations

from typing import Any, BinaryIO

from nbkit.runtime.errors import DamagedError, StoreError
from nbkit.runtime.files import copy_hashed


def copy_checked(
    source: BinaryIO, target: Any, name: str, url: str, sha256: str | None = None, size: int | None = None
) -> None:
    """Copy what a store holds into a file of `write_atomically`; raising here leaves what was there before.

    Parameters
    ----------
    source : file
    target : file
        Counts and hashes what is written.
    name, url : str
        What is fetched and from where, for the error.
    sha256 : str or None
        What a receipt says of the content.
    size : int or None
        What the store says of it, in bytes.

    Raises
    ------
    StoreError
        Where the store broke off.
    DamagedError
        Where the content is not the receipt's.
    """
    copy_hashed(source, target)
    if size is not None and target.size != size:
        raise StoreError(f"{name} in {url} broke off after {target.size} of {size} bytes", passing=True)
    found = target.digest.hexdigest()
    if sha256 and found != sha256:
        raise DamagedError(
            f"{name} in {url} is damaged: {target.size} bytes with SHA-256 {found[:12]}..., its receipt says "
            f"{sha256[:12]}.... Nothing was kept of it here, and the store was left as it is. Run again; if it stays "
            "so, 'nbkit verify' shows what else is hurt."
        )
