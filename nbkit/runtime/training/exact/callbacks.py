"""Callbacks of Lightning that cannot be part of a training in several sessions, and what to use instead.

All others are exact: what they hold is saved with the checkpoint. Those that log measured times or memory log other
values in every run, and change nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbkit.runtime.errors import UsageError

_FINDER = (
    "it trains trial steps before the first one, and would do so in every session. Run it once on its own "
    "(lightning.pytorch.tuner.Tuner with a plain Trainer) and give the value that it finds to the module or the data"
)

# classes of lightning.pytorch.callbacks by name, as not every version has all of them; subclasses are meant as well
REFUSED = {
    "BatchSizeFinder": _FINDER,
    "LearningRateFinder": _FINDER,
    "Checkpoint": (
        "nbkit writes the checkpoints, two newest and the best, verified and in the store. Leave it out; choose with "
        "save_every, save_each_epoch, and monitor with mode"
    ),
    "Timer": "the session's limit ends a training (open_session(limit=...)), and every session has its own",
    "ModelPruning": (
        "its masks are not in the checkpoint, which holds the pruned weights only, so that a resume would let "
        "them grow again. Prune after the training (torch.nn.utils.prune in the next cell), or multiply the weights "
        "with a mask that is a buffer of the module"
    ),
    "SpikeDetection": (
        "its state cannot be loaded again (Lightning looks for an attribute that does not exist). Raise an error in "
        "training_step where the loss is not finite: the state before the step is kept"
    ),
    "StochasticWeightAveraging": (
        "it places its start and end by max_epochs, so that with max_steps it would never average. Use "
        "EMAWeightAveraging or WeightAveraging (Lightning 2.6), or torch.optim.swa_utils.AveragedModel as a part of "
        "the module, updated in on_train_batch_end"
    ),
    "ProgressBar": "nbkit shows the progress. Log what it is to show with self.log(..., prog_bar=True)",
}


def check_callbacks(callbacks: Iterable[Any]) -> None:
    """Raise an error that names the remedy, if a callback cannot be part of a training in several sessions."""
    import lightning.pytorch.callbacks as theirs

    for callback in callbacks:
        for name, words in REFUSED.items():
            kind = getattr(theirs, name, None)
            if kind is None or not isinstance(callback, kind):
                continue
            if name == "Timer" and callback.time_remaining() is None:
                continue  # it only measures
            own = type(callback).__name__
            called = own if own == name else f"{own} ({name})"
            raise UsageError(f"The callback {called} is not possible in fit: {words}. Nothing was trained.")
