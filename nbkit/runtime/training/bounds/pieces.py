"""How many pieces each batch is cut into, so that a step fits the GPU's memory.

A module takes part if it has an attribute ``pieces`` and a method ``step_parts(batch, batch_idx)``, which yields the
losses of a step one after the other (see `nbkit.neuro.training.steps.apart`). Loader, steps, order and seeds know
nothing of the pieces: only the order of sums depends on them. So the number is chosen once, kept in the receipts, and
used by every later session.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from nbkit.runtime.errors import NbkitError

T = TypeVar("T")
_ROOM = 0.85  # share of the free memory that a step may take: allocators leave gaps
_SAMPLE = 16  # a step is measured on this part of a batch, and on twice as much
_HELD = 3  # times the weights: they themselves and what Adam keeps for each; gradients are part of a step


class Cutting:
    """The pieces of a training.

    Parameters
    ----------
    module : LightningModule
    data : LightningDataModule or DataLoader
    chosen : dict
        What the receipts keep of this training's choices; ``pieces`` is read and written.
    accelerator, precision : str
        Lightning's names.
    alone : bool
        Whether one process trains; several average their gradients in one backward pass, so nothing is cut there.
    say : callable
    """

    def __init__(
        self,
        module: Any,
        data: Any,
        chosen: dict[str, Any],
        accelerator: str,
        precision: str,
        alone: bool,
        say: Callable[[str], None],
    ) -> None:
        self.module, self.data, self.chosen, self.say = module, data, chosen, say
        self.precision, self.on_gpu = precision, accelerator in ("cuda", "gpu")
        self.can = alone and isinstance(getattr(module, "pieces", None), int) and hasattr(module, "step_parts")

    def train(self, state: T, train: Callable[[T], Any], newest: Callable[[], T]) -> Any:
        """Train; if the memory runs out, once more with twice the pieces, from the newest checkpoint.

        Parameters
        ----------
        state
            What `train` resumes from, with ``receipt``.
        train, newest : callable
            Train from a state; return the newest one.

        Raises
        ------
        NbkitError
            If the memory runs out again.
        """
        if not self.can:
            return train(state)
        self._begin(state)
        first = None if getattr(state, "receipt", None) else _copied(self.module.state_dict())
        try:
            return train(state)
        except torch.OutOfMemoryError as error:
            self._cut_finer(error)
        # outside of the handler, where nothing holds the frames of the step that failed
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
        state = newest()
        if not getattr(state, "receipt", None) and first is not None:
            self.module.load_state_dict(first)
        try:
            return train(state)
        except torch.OutOfMemoryError as error:
            raise self._too_much(error) from error

    def _begin(self, state: Any) -> None:
        receipt = getattr(state, "receipt", None)
        if receipt is not None:
            pieces = int(receipt.chosen.get("pieces", 1))
        elif self.on_gpu:
            pieces = self._measured()
        else:
            pieces = self.module.pieces
        self.module.pieces = self.chosen["pieces"] = pieces
        if pieces > 1:
            self.say(f"Each batch is trained in {pieces} pieces, one after the other, so that a step fits the memory")

    def _measured(self) -> int:
        """Return the pieces for which a step fits the free memory, from two small steps of a copy."""
        loader, size = self._loader()
        rows = [loader.dataset[index] for index in range(min(2 * max(1, size // _SAMPLE), len(loader.dataset)))]

        def batch_of(count: int) -> Any:
            return loader.collate_fn(rows[:count])

        return choose_pieces(self.module, batch_of, size, self.precision, len(rows))

    def _loader(self) -> tuple[Any, int]:
        """Return the loader of the training data and the size of its batches."""
        loader = self.data.train_dataloader() if hasattr(self.data, "train_dataloader") else self.data
        own = getattr(loader, "batch_size", None)  # None where a batch sampler of the user's has it
        return loader, own or getattr(getattr(loader, "batch_sampler", None), "batch_size", None) or 1

    def _cut_finer(self, error: BaseException) -> None:
        if 2 * self.module.pieces > self._loader()[1]:
            raise self._too_much(error) from error
        self.module.pieces = self.chosen["pieces"] = 2 * self.module.pieces
        self.say(
            f"The memory ran out ({_first_line(error)}). Each batch is trained in {self.module.pieces} pieces from now "
            "on, in this session and in later ones; the steps see the same samples"
        )

    def _too_much(self, error: BaseException) -> NbkitError:
        return NbkitError(
            f"The memory ran out with each batch in {self.module.pieces} pieces: {_first_line(error)}. The checkpoints "
            "stand. Free the GPU of other processes, or make the network or the windows smaller (SETTINGS)."
        )


def choose_pieces(
    module: Any, batch_of: Callable[[int], Any], size: int, precision: str, most: int | None = None
) -> int:
    """Return the pieces for which a step fits the free memory of the GPU, from two small steps of a copy.

    Parameters
    ----------
    module : LightningModule
        Is not changed.
    batch_of : callable
        Returns a batch of so many rows.
    size : int
        Rows of a whole batch.
    precision : str
        Lightning's name.
    most : int, optional
        Most rows that there are for measuring.
    """
    rows = min(2 * max(1, size // _SAMPLE), most or size)
    if size < 2 or rows < 2:
        return 1
    trainer = getattr(module, "_trainer", None)  # of an earlier call in this process
    # the generators of this process are left as they are
    with torch.random.fork_rng():
        twin = copy.deepcopy(module, {id(trainer): None}).train().cuda()
        low, high = (peak(twin, batch_of(count), precision) for count in (rows // 2, rows))
        weights = sum(weight.nbytes for weight in twin.parameters() if weight.requires_grad)
        del twin
    gc.collect()
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    return pieces_for(size, rows, low, high, _ROOM * free - _HELD * weights)


def pieces_for(batch: int, rows: int, low: float, high: float, room: float) -> int:
    """Return the smallest power of two of pieces in which a step is expected to fit.

    Parameters
    ----------
    batch : int
        Rows of a whole batch.
    rows : int
        Rows of the larger of two measured steps; the smaller had half as many.
    low, high : float
        Most bytes that the smaller and the larger step took; a line through both gives those of every size.
    room : float
        Bytes that a step may take.
    """
    each = max(0.0, high - low) / max(1, rows - rows // 2)
    fixed = high - each * rows
    pieces = 1
    while pieces < batch and fixed + each * -(-batch // pieces) > room:
        pieces *= 2
    return pieces


def peak(module: Any, batch: Any, precision: str) -> float:
    """Return the most bytes of the GPU that one step of a module takes, above what was taken before."""
    from lightning.pytorch.utilities import move_data_to_device

    half = {"16": torch.float16, "bf": torch.bfloat16}.get(str(precision)[:2])
    batch = move_data_to_device(module.on_before_batch_transfer(batch, 0), torch.device("cuda"))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _, loss in _stepped(module, batch, half):
        loss.backward()
    torch.cuda.synchronize()
    module.zero_grad()
    return float(torch.cuda.max_memory_allocated() - before)


def _stepped(module: Any, batch: Any, half: torch.dtype | None) -> Any:
    parts = module.step_parts(batch, 1)
    while True:
        with torch.autocast("cuda", dtype=half, enabled=half is not None):
            part = next(parts, None)
        if part is None:
            return
        yield part


def _copied(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
