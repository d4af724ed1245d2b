"""Levels of the matrix that are known to break the promise, each with its reason."""

from __future__ import annotations

from typing import Any

HOOKS_AT_EPOCH_START = "what on_train_epoch_start did is not there after a resume within an epoch"
HELD = "state that no checkpoint holds"
WORDS = "refused, but by Lightning and in words that mislead"

OPEN: dict[tuple[str, Any], str] = {
    ("module", "curriculum"): HOOKS_AT_EPOCH_START,
    ("module", "unfreezes"): HOOKS_AT_EPOCH_START,
    ("module", "freezes norm"): HOOKS_AT_EPOCH_START,
    ("module", "draws in hooks"): "nothing seeds on_train_epoch_start",
    ("module", "adds a group"): "its optimizer is refused as one of another model",
    ("module", "growing buffer"): "its buffer is refused as one of another model",
    ("module", "generator"): HELD,
    ("module", "numpy generator"): HELD,
    ("module", "attribute"): HELD,
    ("module", "list until the epoch's end"): HELD,
    ("module", "running metric"): HELD,
    ("module", "minmax metric"): HELD,
    ("data", "generator in the dataset"): HELD,
    ("data", "stateful module"): "its state is saved one batch ahead",
    ("optimization", "manual, two of different rhythm"): "gradients that are gathered are lost",
    ("optimization", "accumulated by a schedule"): HOOKS_AT_EPOCH_START,
    ("interval", "metric"): "not stepped at the first epoch's end after a resume",
    ("scheduler", "MultiStepLR"): "its state holds a Counter, which no checkpoint takes",
    ("callback", "BackboneFinetuning"): HOOKS_AT_EPOCH_START,
    ("callback", "BaseFinetuning"): HOOKS_AT_EPOCH_START,
    ("callback", "GradientAccumulationScheduler"): HOOKS_AT_EPOCH_START,
    ("callback", "StochasticWeightAveraging"): HELD,
    ("callback", "ModelPruning"): HELD,
    ("callback", "SpikeDetection"): "Lightning's own load_state_dict of it fails",
    ("callback", "BatchSizeFinder"): WORDS,
    ("callback", "LearningRateFinder"): WORDS,
    ("callback", "Checkpoint"): WORDS,
    ("callback", "ModelCheckpoint"): WORDS,
    ("callback", "OnExceptionCheckpoint"): WORDS,
    ("callback", "ProgressBar"): WORDS,
    ("callback", "RichProgressBar"): WORDS,
    ("callback", "TQDMProgressBar"): WORDS,
}


def is_open(cell: Any) -> bool:
    """Return whether a cell has a level that is known to be at fault."""
    return any((name, level) in OPEN for name, level in vars(cell).items())
