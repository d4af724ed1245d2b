"""A network on windows that is finetuned: what regression and classification have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor

from nbkit.neuro.training.optimization import ClippedModule, Patience, check_batch, make_optimizer
from nbkit.neuro.training.steps.apart import InParts, in_pieces


class WindowModule(InParts, ClippedModule):
    """Base class of modules that predict a target of a window; systems define the network in `outputs`.

    Parameters
    ----------
    settings : dataclass
        With lengths in steps, see `counted`; ``grad_clip``, ``patience_steps`` and what `make_optimizer` uses are read.
    ch_names : sequence of str
    sfreq : float
        Sampling frequency, in Hz.
    target : str
        Column of the batches that is scored; it must never be missing.

    Attributes
    ----------
    kind : str
        Name of the system's description in checkpoints, see `held`.
    monitor : str
        The validation score to minimise.
    layers : int
        Number of the head's layer, used by systems with layer decay, see `layer_of`.
    classes : tuple of str
        Names of the classes; () for numbers.
    column : str
        The windows' own name of the target; "" is the challenge's target.
    n_times : int, optional
        Samples per window in training.
    """

    kind, monitor = "", ""
    layers = 0
    classes: tuple[str, ...] = ()
    column = ""

    def __init__(self, settings: Any, ch_names: Sequence[str], sfreq: float, target: str) -> None:
        super().__init__()
        self.settings, self.ch_names, self.sfreq = settings, tuple(ch_names), float(sfreq)
        self.target = target
        self.n_times: int | None = None

    def outputs(self, windows: Tensor) -> Tensor:
        """Return the last layer's outputs, shape (batch, outputs), for windows (batch, channels, time) in uV."""
        raise NotImplementedError

    def predicted(self, windows: Tensor) -> Tensor:
        """Return what is scored: values of shape (batch,), or probabilities of shape (batch, classes)."""
        raise NotImplementedError

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the training loss of a batch, a mean over its windows."""
        raise NotImplementedError

    def weight(self, batch: Mapping[str, Tensor]) -> Any:
        """Return what the mean in `loss` is divided by: the number of windows, or the sum of their weights."""
        return len(batch["window"])

    def validation_scores(self, true: Tensor, predicted: Tensor) -> dict[str, float]:
        """Return the scores of a whole validation set by name; those of a rival are logged beside the module's own."""
        raise NotImplementedError

    def layer_of(self, name: str) -> int:
        """Return the layer that a weight belongs to, from 0 at the input to ``layers`` at the head."""
        return self.layers

    def learns(self) -> dict[str, Any]:
        """Return what the module learns, for a checkpoint: the target's column and its classes."""
        return {"column": self.column, "classes": list(self.classes)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        made = checkpoint.get(self.kind, {})
        before = {"column": made.get("column", ""), "classes": list(made.get("classes", []))}
        if before != self.learns():
            raise ValueError(
                f"The checkpoint learned {_in_words(before)}; now the target is {_in_words(self.learns())}. Nothing "
                "was loaded. Set TARGET and CLASSES back, or start over with RESUME = 'fresh' or in another store."
            )

    def configure_callbacks(self) -> list[lightning.Callback]:
        steps = self.settings.patience_steps
        return [Patience(self.monitor, steps)] if steps else []

    def on_before_batch_transfer(self, batch: Mapping[str, Any], dataloader_idx: int) -> Mapping[str, Any]:
        check_batch(batch, (self.target,))
        self.n_times = int(batch["window"].shape[-1])
        return batch

    def step_parts(self, batch: Mapping[str, Any], batch_idx: int) -> Iterator[tuple[str, Tensor]]:
        for loss in in_pieces(batch, self.pieces, self.loss, self.weight):
            yield "train_loss", loss

    def configure_optimizers(self) -> dict[str, Any]:
        return make_optimizer(self, self.settings, self.layer_of, self.layers)


@torch.no_grad()
def predict(module: WindowModule, batches: Any) -> tuple[Tensor, Tensor]:
    """Return predictions (see `WindowModule.predicted`) and true values of all windows, in the target's unit."""
    was = module.training
    module.eval()
    pairs = [(module.predicted(b["window"].to(module.device)).cpu(), b[module.target].float()) for b in batches]
    module.train(was)
    predicted, true = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return predicted, true


def column_of(data: Any) -> str:
    """Return the windows' own name of the target of data; "" for the challenge's."""
    return getattr(data, "target", None) or ""


def test_subjects_of(data: Any) -> tuple[str, ...]:
    """Return the names of the test subjects of data; () if nothing is tested."""
    return tuple(getattr(data, "test_subjects", ()))


def check_numbers(made: Mapping[str, Any], path: Any) -> None:
    """Raise if a checkpoint's description is of a classifier.

    Raises
    ------
    ValueError
        With what the file has learned.
    """
    if made.get("classes"):
        raise ValueError(
            f"{path} tells classes apart ({_in_words(made)}) and predicts no number. Load it with load_finetuned; for "
            "the challenge's zip, finetune with TARGET = None."
        )


def check_challenge(module: WindowModule, path: Any) -> None:
    """Raise if a finetuned module has learned another target than the challenge's.

    Raises
    ------
    ValueError
        With what it has learned.
    """
    if module.column:
        raise ValueError(
            f"{path} predicts {_in_words(module.learns())}, not the challenge's target. Finetune with TARGET = None "
            "in another store for the challenge's zip."
        )


def _in_words(learned: Mapping[str, Any]) -> str:
    classes = learned.get("classes") or ()
    named = learned.get("column") or "the challenge's own target"
    return f"{named} with the classes {', '.join(classes)}" if classes else named
