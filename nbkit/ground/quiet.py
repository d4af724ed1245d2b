"""Hide hints of libraries that do not apply to nbkit's trainings, and one deprecation inside of braindecode."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric")
_NOISE = (
    "does not have many workers", "number of training batches", "litlogger",
    "Trainer already configured with", "LeafSpec",  # the latter is between Lightning and torch
    "recommended to use `self.log", "sync_dist", "find_unused_parameters=True was specified",
    "in `LightningModule` but have passed in a",  # a module's own hook is used, which is why it has one
)  # fmt: skip


@contextlib.contextmanager
def quiet_lightning(*more: str) -> Iterator[None]:
    """Return a context that hides Lightning's log messages below a warning, and warnings with certain known texts.

    All other warnings are shown. Levels and filters are restored at the end.

    Parameters
    ----------
    *more : str
        Regular expressions of further warnings to hide, such as ``"no `val_dataloader`"``.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in (*_NOISE, *more):
                warnings.filterwarnings("ignore", message=f".*{text}")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def quiet_braindecode() -> Iterator[None]:
    """Return a context, or decorator, for braindecode's import, which asks MNE for a montage by its former name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Montage name 'standard_1020' is deprecated", FutureWarning)
        yield
