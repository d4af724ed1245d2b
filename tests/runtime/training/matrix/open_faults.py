"""Levels of the matrix that are known to break the promise, each with its reason."""

from __future__ import annotations

from typing import Any

HELD = "state that no checkpoint holds"
WORDS = "refused, but by Lightning and in words that mislead"

OPEN: dict[tuple[str, Any], str] = {
    ("module", "curriculum"): HELD,
    ("module", "draws in hooks"): "nothing seeds on_train_epoch_start",
    ("module", "generator"): HELD,
    ("module", "numpy generator"): HELD,
    ("module", "attribute"): HELD,
    ("module", "list until the epoch's end"): HELD,
    ("module", "running metric"): HELD,
    ("module", "minmax metric"): HELD,
    ("data", "generator in the dataset"): HELD,
    ("scheduler", "MultiStepLR"): "its state holds a Counter, which no checkpoint takes",
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
