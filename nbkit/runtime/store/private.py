"""What a login of any store is: secret, written for its owner only, sent over encrypted lines only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from urllib.parse import urlsplit

from nbkit.ground.files import write_private


class Credential(ABC):
    """A login whose secrets are in no representation.

    Attributes
    ----------
    where : str
        Where the credential was found, for messages.
    """

    where: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}(from {self.where or 'nowhere'})"

    @abstractmethod
    def to_text(self) -> str:
        """Return one line of JSON: for a file or a secret, not for printing."""

    @abstractmethod
    def secrets(self) -> tuple[str, ...]:
        """Return the texts that must never be shown."""

    def write(self, path: Path) -> None:
        """Write the credential atomically to a file that only its owner can read."""
        write_private(path, (self.to_text() + "\n").encode("utf-8"))


def is_encrypted(address: str) -> bool:
    """Return whether a secret may be sent to an address: by https, or within this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1")
