"""Steps whose loss is a sum of parts, each propagated back before the next one is computed.

Only one part's graph is in memory at a time. The parts are a model and its rivals, which share no weight, and the
pieces that a batch is cut into where it does not fit the GPU. Gradients add up to those of the sum; with one piece, and
on one device, they are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import lightning
import torch
from torch import Tensor

WHOLE = ("ch_names", "rows")  # parts of a batch that are not one for each window


class InParts(lightning.LightningModule):
    """Base class of modules that define `step_parts` in place of ``training_step``.

    Attributes
    ----------
    pieces : int
        Number of pieces that each batch is cut into. ``session.fit`` chooses it from the measured memory of the GPU,
        doubles it once where that runs out, and keeps it with the checkpoints.
    """

    pieces = 1

    def __init__(self) -> None:
        super().__init__()
        self._rest: Iterator[tuple[str, Tensor]] | None = None
        self._losses: dict[str, Tensor] = {}

    def step_parts(self, batch: Mapping[str, Any], batch_idx: int) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and the loss of each part, computed only when it is asked for.

        Losses of one name are added up in the log; their sum is the training loss.
        """
        raise NotImplementedError

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        self._losses = {}
        parts = self.step_parts(batch, batch_idx)
        if self._trainer is None or self.trainer.world_size > 1:
            # gradients are averaged over the devices in the one backward pass that Lightning prepares
            return torch.stack([self.note(*part) for part in parts]).sum()
        first = self.note(*next(parts))
        self._rest = parts
        return first

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        super().backward(loss, *args, **kwargs)
        parts, self._rest = self._rest, None  # a checkpoint holds no part of a step
        if parts is None:
            return
        plugin = self.trainer.precision_plugin
        scaler = getattr(plugin, "scaler", None)
        while True:
            with plugin.forward_context():
                part = next(parts, None)
            if part is None:
                return
            share = self.note(*part) / self.trainer.accumulate_grad_batches  # as Lightning does with the first
            super().backward(share if scaler is None else scaler.scale(share), *args, **kwargs)
            del part, share

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        for name, value in self._losses.items():
            self.log(name, value, on_step=True, prog_bar=name.endswith("loss"))
        self._losses = {}

    def note(self, name: str, value: Tensor) -> Tensor:
        """Add a value to those of this name, whose sum is logged at the end of the step; return the value."""
        self._losses[name] = self._losses.get(name, 0.0) + value.detach()
        return value


def in_pieces(
    batch: Mapping[str, Any], pieces: int, loss: Callable[[Mapping[str, Any]], Tensor], weight: Callable[[Any], Any]
) -> Iterator[Tensor]:
    """Yield the loss of each piece of a batch; they add up to the loss of the whole.

    Parameters
    ----------
    batch : mapping
        Columns of equal length, and `WHOLE`, which are of the whole batch.
    pieces : int
        Number of pieces; a batch with fewer rows is cut into its rows.
    loss : callable
        Mean over the rows of a batch.
    weight : callable
        What that mean is divided by: the number of rows, or the sum of their weights.
    """
    rows = next(len(column) for name, column in batch.items() if name not in WHOLE)
    pieces = min(pieces, rows)
    if pieces < 2:
        yield loss(batch)
        return
    whole = weight(batch)
    for place in range(pieces):
        some = slice(place * rows // pieces, (place + 1) * rows // pieces)
        piece = {name: column if name in WHOLE else column[some] for name, column in batch.items()}
        yield loss(piece) * (weight(piece) / whole)
