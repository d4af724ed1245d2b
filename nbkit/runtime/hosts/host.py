"""What the runtime must know of the place it runs in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Host:
    """Describe a place where a session runs.

    Attributes
    ----------
    name : str
        ``kaggle``, ``colab``, ``studio`` or ``local``.
    folder : Path
        Where this machine's files may lie; lost with the machine.
    limit : float or None
        Length of a session in seconds that is safely inside the host's wall; None where there is none.
    clock : str
        ``process`` where the host counts from the machine's start, ``open`` where nothing counts before the session.
    batch : bool
        True where no person watches.
    words : str
        What a user should know of this place.
    room : int or None
        Bytes that the host keeps of `folder`'s own place; None where only the disk sets a limit.
    """

    name: str
    folder: Path
    limit: float | None
    clock: str
    batch: bool
    words: str
    room: int | None = None
