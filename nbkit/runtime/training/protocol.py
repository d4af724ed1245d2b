"""The protocol of a session that trains: all that the training uses of it.

`nbkit.runtime.session.Session` and `nbkit.runtime.follower.Follower` have these members. A class of your own that has
them can be trained with, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from nbkit.runtime.budget import Budget
from nbkit.runtime.device import Device
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.outbox import Outbox
from nbkit.runtime.store.protocol import Store


class TrainingSession(Protocol):
    """What `fit` reads and calls of a session."""

    @property
    def slug(self) -> str:
        """Name of the phase; the checkpoints lie under ``<slug>/checkpoints/`` in the store."""

    @property
    def id(self) -> str:
        """Name of this session; it stands in every receipt."""

    @property
    def folder(self) -> Path:
        """Folder of this machine for the checkpoints."""

    @property
    def store(self) -> Store | None:
        """Store that the checkpoints survive in; None keeps them on this machine only."""

    @property
    def outbox(self) -> Outbox | None:
        """Uploads beside the training; None where there is no store."""

    @property
    def budget(self) -> Budget:
        """Time that is left until the session ends."""

    @property
    def seed(self) -> int:
        """Seed of the data's order and of every random number."""

    @property
    def device(self) -> Device | None:
        """Device to train on; None where the session was opened without ``accelerator``."""

    @property
    def rendezvous(self) -> Any:
        """Torch's store that processes started by `fit` meet at; None in all others."""

    def say(self, text: str) -> None:
        """Print one line."""

    def journal(self, event: str, **fields: Any) -> None:
        """Note one event for `run` and `rehearse`."""


def device_of(session: TrainingSession) -> Device:
    """Return the device of a session.

    Raises
    ------
    UsageError
        Where the session was opened without ``accelerator``.
    """
    if session.device is None:
        raise UsageError(
            f"The session of {session.slug} was opened without accelerator=, so it has no device to train on. Open it "
            "with accelerator='gpu' (or 'cpu' on purpose). Nothing was trained."
        )
    return session.device
