"""An order of the data that the training itself changes: refused where it happens, as no resume would find it again."""

from __future__ import annotations

import hashlib
from typing import Any

from nbkit.runtime.errors import UsageError


class Order:
    """Compare what the order of a loader depends on with what it was when the session began."""

    def __init__(self) -> None:
        self._loader: Any = None
        self._first: dict[str, Any] = {}

    def begin(self, loader: Any) -> None:
        """Record the order of a loader, unless that is done."""
        if loader is not None and loader is not self._loader:
            self._loader, self._first = loader, _order_of(loader)

    def check(self, loader: Any) -> None:
        """Raise an error if the training has changed it.

        Raises
        ------
        UsageError
            With what has changed, and the remedy.
        """
        now = _order_of(loader) if loader is self._loader else self._first
        if now["samples"] != self._first["samples"]:
            raise UsageError(
                f"The training itself has changed the number of items of its dataset ({type(loader.dataset).__name__}):"
                f" {self._first['samples']} -> {now['samples']}. The order of an epoch depends on it, so that a later "
                "session would refuse the checkpoint as one of other data. Give the dataset all of its items from the "
                f"start, and let a number (self.stage = 1), which is saved, say which of them are used. {_UNCHANGED}"
            )
        if now["weights"] != self._first["weights"]:
            raise UsageError(
                "The training itself has changed the weights of its WeightedRandomSampler, by which the order of an "
                "epoch is drawn, so that a later session would draw another one. Keep the weights of the sampler as "
                f"they are, and weight the loss of each item instead. {_UNCHANGED}"
            )


_UNCHANGED = "Nothing was saved now; earlier checkpoints are unchanged."


def _order_of(loader: Any) -> dict[str, Any]:
    indices = loader._indices
    weights = indices.sampler.weights.numpy().tobytes() if indices.kind == "weighted" else b""
    return {"samples": len(indices.dataset), "weights": hashlib.blake2b(weights, digest_size=16).digest()}
