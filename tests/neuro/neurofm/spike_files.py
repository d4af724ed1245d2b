"""Small files of spike windows, and short trainings, for NeuroFM's tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings, simulate_population
from nbkit.neuro.signals.spikes.windows import write_windows

TINY = replace(NeuroFMSettings.smoke(), dim=16, latents=4, n_bins=20, steps=30, max_units=8, curriculum_share=0.0)


def write_populations(folder: Path, units: tuple[int, ...] = (9, 5), seconds: float = 24.0, **facts: Any) -> list[Path]:
    """Write a recording for each number of units, named rec0, rec1 ...; every value in ``facts`` is one a recording."""
    made = []
    for number, count in enumerate(units):
        own = {name: values[number] for name, values in facts.items()}
        settings = replace(PopulationSettings.smoke(), units=count, duration_s=seconds, **own)
        made.append(simulate_population(settings, f"rec{number}", seed=4))
    return write_windows(folder, made, n_bins=20)


def train(module: Any, data: Any, steps: int, **options: Any) -> lightning.Trainer:
    """Fit for so many steps, and validate at the end."""
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="cpu", num_sanity_val_steps=0, check_val_every_n_epoch=None,
        val_check_interval=steps, **quiet, **options,
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer


def variance_explained(truth, decoded):
    """Return R2 over all dims of behaviour (windows, bins, dims), where the truth is known."""
    from sklearn.metrics import r2_score

    known = np.isfinite(truth).all(axis=-1)
    return r2_score(truth[known], decoded[known], multioutput="variance_weighted")
