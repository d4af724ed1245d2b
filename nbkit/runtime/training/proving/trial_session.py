"""The session of a trial, which takes the place of the user's own wherever the training holds or names it.

A real session holds locks, threads and a store, so it cannot be copied into another process and must not be. What is
pickled for a proof names it by a word, and a trial reads that word as its own session.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_SESSION, _MEMORY = "the session", "the memory of a tensor"


@dataclass
class TrialSession:
    """The members of a session that `fit` uses, for a training without a store and without a time limit."""

    slug: str
    folder: Path
    seed: int
    device: Any
    budget: Any
    id: str = "proof"
    store: Any = None
    outbox: Any = None
    rendezvous: Any = None
    smoke: bool = False
    shard: str | None = None
    rank: int = 0

    def say(self, text: str) -> None:
        """Print one line into the log of the trial."""
        print(text, flush=True)

    def journal(self, event: str, **fields: Any) -> None:
        """Do nothing: a proof is no part of the phase."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"session.{name} is not there in a proof, which trains in other processes and without the store. There are "
            "session.say, journal, folder, slug, seed, device, budget, smoke, shard and id. Take what is needed of "
            f"session.{name} before the training, and give it to the module, the data or the callback."
        )


def pickled(cloudpickle: Any, value: Any, session: Any) -> bytes:
    """Return the bytes of an object, in which the session is only named, and the memory of its tensors before them.

    By itself pickle copies the memory of every tensor. A view of the weights, or the dict that ``state_dict`` returns,
    would then be apart from them in all runs of a proof, and none would be the training that the user has.
    """
    import torch

    memory: dict[int, torch.UntypedStorage] = {}

    class Pickler(cloudpickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            if isinstance(thing, torch.TypedStorage):
                memory[thing._cdata] = thing._untyped_storage
                return _MEMORY, list(memory).index(thing._cdata), thing.dtype
            return _SESSION if thing is session else None

    content = io.BytesIO()
    Pickler(content).dump(value)
    bytes_of = [torch.empty(0, dtype=torch.uint8, device=one.device).set_(one) for one in memory.values()]
    return pickle.dumps(bytes_of) + content.getvalue()


class Unpickler(pickle.Unpickler):
    """Read what `pickled` has written, with another session in the place of the one that was named.

    Parameters
    ----------
    file : binary file
    session : TrialSession
    """

    def __init__(self, file: BinaryIO, session: TrialSession) -> None:
        self._memory = pickle.load(file)
        super().__init__(file)
        self._session = session

    def persistent_load(self, name: Any) -> Any:
        if isinstance(name, tuple) and name[0] == _MEMORY:
            import torch

            _, number, kind = name
            return torch.TypedStorage(wrap_storage=self._memory[number].untyped_storage(), dtype=kind, _internal=True)
        if name != _SESSION:
            raise pickle.UnpicklingError(f"The parts of the proof name {name!r}, which is unknown.")
        return self._session
