"""Protocol of a session for training: the members that `fit` uses.

`nbkit.runtime.session.Session` and `nbkit.runtime.follower.Follower` have these members. `fit` also accepts any other
class that has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from nbkit.runtime.budget import Budget
from nbkit.runtime.device import Device, torch_device
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.outbox import Outbox
from nbkit.runtime.store.protocol import Store


class TrainingSession(Protocol):
    """Members of a session that `fit` reads and calls."""

    @property
    def slug(self) -> str:
        """Name of the phase; the checkpoints lie under ``<slug>/checkpoints/`` in the store."""

    @property
    def id(self) -> str:
        """Name of this session, which is recorded in every receipt."""

    @property
    def folder(self) -> Path:
        """Local folder for the checkpoints."""

    @property
    def store(self) -> Store | None:
        """Store to which the checkpoints are uploaded; None to keep them on this machine only."""

    @property
    def outbox(self) -> Outbox | None:
        """Uploads that run during the training; None without a store."""

    @property
    def budget(self) -> Budget:
        """Remaining time of the session."""

    @property
    def seed(self) -> int:
        """Seed of the order of the data and of all random numbers."""

    @property
    def device(self) -> Device | None:
        """Device to train on; None if the session was opened without ``accelerator``."""

    @property
    def rendezvous(self) -> Any:
        """Torch's store through which processes started by `fit` connect; None in all others."""

    def say(self, text: str) -> None:
        """Print one line."""

    def journal(self, event: str, **fields: Any) -> None:
        """Record an event for `run` and `rehearse`."""


def place(module: Any, session: TrainingSession, device: Any = None) -> None:
    """Put a module on the device that trained it, by default that of the session."""
    if hasattr(module, "to"):
        module.to(torch_device(device_of(session).accelerator) if device is None else device)


def device_of(session: TrainingSession) -> Device:
    """Return the device of a session.

    Raises
    ------
    UsageError
        If the session was opened without ``accelerator``.
    """
    if session.device is None:
        raise UsageError(
            f"The session of {session.slug} was opened without accelerator=, so it has no device to train on. Open it "
            "with accelerator='gpu' (or 'cpu' on purpose). Nothing was trained."
        )
    return session.device
