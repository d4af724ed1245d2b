"""Students trained within a fold, so that no held-out step or person is in their training."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nbkit.neuro.tribe.fmri import FmriSettings, FmriTribe, fmri_data
from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.student.student import TinyTribe


def refit_student(
    settings: FmriSettings,
    runs: Sequence[StimulusRun],
    parcel: torch.Tensor | None = None,
    start: str | Path | None = None,
    seed: int = 2025,
    network: np.ndarray | None = None,
) -> TinyTribe:
    """Train a student on runs, as phase 3 does, without a validation and without a checkpoint.

    Parameters
    ----------
    settings : FmriSettings
    runs : sequence of StimulusRun
        With responses.
    parcel, network
        See `SupervisedTribe`.
    start : str or Path, optional
        Checkpoint of an earlier phase that saw none of the held-out stimuli.
    seed : int

    Returns
    -------
    student : TinyTribe
        In evaluation mode, on the device that trained it.
    """
    import lightning

    torch.manual_seed(seed)
    module = FmriTribe(settings, parcel, network=network)
    module.start_from(start)
    data = fmri_data(settings, list(runs), [replace(runs[0], name=f"{runs[0].name} (unused)")])
    quiet = logging.getLogger("lightning.pytorch")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # one fold's training prints a page about the device; the session's card has it
    try:
        with warnings.catch_warnings():
            for hint in ("does not have many workers", "LeafSpec"):  # the latter is between Lightning and torch
                warnings.filterwarnings("ignore", message=f".*{hint}")
            trainer = lightning.Trainer(
                max_steps=settings.steps, max_epochs=-1, accelerator="auto", devices=1, logger=False,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                limit_val_batches=0, gradient_clip_val=None,
            )  # fmt: skip
            trainer.fit(module, data.train_dataloader())
    finally:
        quiet.setLevel(level)
    return module.student.to(trainer.strategy.root_device).eval()  # Lightning hands it back on the CPU
