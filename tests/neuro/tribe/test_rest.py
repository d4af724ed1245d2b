"""Real fMRI at rest: it goes through phase 3 and evaluation, and no stimulus model can tell it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.neuro.tribe.fmri import FmriSettings, FmriTribe, fmri_data
from nbkit.neuro.tribe.gather import atlas_regions
from nbkit.neuro.tribe.runs.runs import make_stimulus_run
from nbkit.neuro.tribe.runs.targets import read_run
from nbkit.neuro.tribe.scoring.banded import banded_predictor
from nbkit.neuro.tribe.scoring.evaluate import score, student_predictor
from nbkit.neuro.tribe.scoring.settings import FrameSettings
from nbkit.neuro.tribe.stimuli.features import MODALITIES
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, synthetic_stimulus

pytestmark = pytest.mark.train
TR, DEAD = 1.4, 1769  # s; vertices that the file's provenance calls constant


@pytest.fixture(scope="module")
def rest(shared_data):
    path = shared_data / "fmri_fsa5_lemon" / "lemon_sub-010188_rest_fsaverage5_300vol.npz"
    if not path.is_file():
        pytest.skip("the recording at rest (../shared/data/fmri_fsa5_lemon) is not here")
    return read_run(path)


def runs_beside_a_film(rest, n_outputs, atlas=None):
    """Two thirds and one third of the recording, each as if a film had been shown; none was."""
    world = replace(SyntheticSettings.smoke(), duration_s=280.1)
    made = []
    for index, part in enumerate((slice(0, 200), slice(200, 300))):
        film = synthetic_stimulus(world, index)
        scan = replace(rest, fmri=rest.fmri[part], video_id=str(film["video_id"]))
        made.append(make_stimulus_run(film, TR, fmri=scan, subject=0, n_outputs=n_outputs, atlas=atlas))
    return made


def test_rest_goes_through_phase_3_and_cannot_be_told(rest, schaefer_folder, module_train):
    """On 20484 vertices: dead ones are in no loss and no score, and the score is that of chance."""
    regions, _ = atlas_regions(20484, schaefer_folder)
    train_run, held_out = runs_beside_a_film(rest, 20484)
    assert (~train_run.keep).sum() == DEAD and len(train_run) == 200 and train_run.step_s == TR
    smoke = FmriSettings.smoke()
    settings = replace(smoke, student=smoke.student.of(n_vertices=20484, tr=TR), steps=24, batch_size=2)
    torch.manual_seed(0)
    module = FmriTribe(settings, regions.parcel)
    before = module.student.vertices.weight.detach().clone()
    module_train(module, fmri_data(settings, [train_run], [held_out]), settings.steps)
    student = module.student.eval()
    moved = (student.vertices.weight.detach() - before).abs().amax(1).numpy()
    assert moved[train_run.keep].min() > 1e-3  # AdamW's decay alone moves a dead vertex, by next to nothing
    assert moved[~train_run.keep].max() < 1e-3
    scores = score(student_predictor(student, settings.times), [held_out])
    assert np.isnan(scores.r[~held_out.keep]).all() and np.isfinite(scores.r[held_out.keep]).all()
    by_network = regions.mean_r(scores.r)
    print(f"rest: mean r {scores.mean:.4f} over {held_out.keep.sum()} vertices;",
          {name: round(value, 3) for name, value in by_network.items()})  # fmt: skip
    assert abs(scores.mean) < 0.1 and scores.ceiling is None


def test_ridge_on_parcels_cannot_tell_it_either(rest, schaefer_folder):
    _, atlas = atlas_regions(400, schaefer_folder)
    train_run, held_out = runs_beside_a_film(rest, 400, atlas)
    r = score(banded_predictor([train_run], MODALITIES, FrameSettings.smoke()), [held_out]).mean
    print(f"rest: ridge {r:.4f}")
    assert abs(r) < 0.1
