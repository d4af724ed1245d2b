"""Train a module for seconds, outside of any session: for stand-ins, whose weights nobody keeps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning


def train_briefly(module: lightning.LightningModule, data: Any, steps: int, path: str | Path) -> Path:
    """Train for some steps on the CPU and save the checkpoint; the same module and data give the same weights.

    Parameters
    ----------
    module : LightningModule
    data : LightningDataModule
    steps : int
    path : path
        Of the checkpoint.
    """
    talk = logging.getLogger("lightning.pytorch")
    before = talk.level
    talk.setLevel(logging.ERROR)  # of devices and loggers that a stand-in does not use
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, limit_val_batches=0, num_sanity_val_steps=0,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(path)
    talk.setLevel(before)
    return Path(path)
