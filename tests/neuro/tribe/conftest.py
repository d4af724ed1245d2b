"""A small made-up world and short trainings in it."""

from __future__ import annotations

import warnings
from dataclasses import replace

import lightning
import pytest

from nbkit.neuro.tribe.runs.runs import planted_runs
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings

WORLD = replace(SyntheticSettings.smoke(), duration_s=62.0, n_outputs=24, parcels=24, subjects=2)


@pytest.fixture(scope="session")
def world() -> SyntheticSettings:
    return WORLD


@pytest.fixture(scope="session")
def some_runs():
    """Two subjects' runs of three stimuli, with teacher and fMRI: 41 steps of 1.49 s each."""
    return planted_runs(WORLD, range(3), subjects=[0, 1])


@pytest.fixture(scope="session")
def module_train():
    """Train a module for some steps with Lightning alone, and give the trainer."""

    def run(module, data, steps, save=None):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            trainer = lightning.Trainer(
                max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
            )  # fmt: skip
            trainer.fit(module, data)
        if save:
            trainer.save_checkpoint(save, weights_only=False)
        return trainer

    return run


@pytest.fixture
def train(module_train):
    """The same, for one test."""
    return module_train


@pytest.fixture
def schaefer_folder(shared_data):
    """Return the folder of the real atlas."""
    folder = shared_data / "schaefer_fsaverage5"
    if not folder.is_dir():
        pytest.skip("the atlas (../shared/data/schaefer_fsaverage5) is not here")
    return folder
