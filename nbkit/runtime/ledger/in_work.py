"""The mark of the item in work, on this machine's disk: exact and cheap, but lost with the machine."""

from __future__ import annotations

import os
from pathlib import Path

from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.database import is_record_id, not_recorded
from nbkit.runtime.names import check_name

_SIZE = 1280  # bytes: a key, a line end, the session


class InWork:
    """File that names the item in work and its session.

    Parameters
    ----------
    folder : Path
        The session's own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._file = os.open(folder / "in-work", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise not_recorded(folder, error) from error

    def read(self) -> tuple[str, str]:
        """Return the key and the session of the item that was in work last; each empty where it is not known."""
        text = os.pread(self._file, 4096, 0).rstrip(b"\0").decode("utf-8", "replace")
        key, _, session = text.partition("\n")
        try:
            check_name(key)
        except UsageError:
            key = ""  # none, or damaged
        return key, session if is_record_id(session, None) else ""

    def write(self, key: str, session: str) -> None:
        """Name the item in work; an empty key for none."""
        try:
            os.pwrite(self._file, f"{key}\n{session}".encode().ljust(_SIZE, b"\0"), 0)
        except OSError as error:
            raise not_recorded(self.folder, error) from error

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
