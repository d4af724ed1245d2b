"""Every guard of the pseudo-labels stops what it is for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.neuro.tribe.fmri import FmriSettings, FmriTribe, fmri_data
from nbkit.neuro.tribe.pseudo_labels import LOSS_WEIGHTS, PseudoLabeler, UnfitStimulus, pseudo_runs
from nbkit.neuro.tribe.runs.runs import planted_runs
from nbkit.neuro.tribe.student.losses import LossWeights
from nbkit.neuro.tribe.student.student import StudentSettings


def predict(features):
    return np.random.default_rng(0).normal(size=(20, 5))


def test_weights_are_the_plan_s():
    assert LOSS_WEIGHTS == {"fmri": 0.4, "teacher": 0.3, "pseudo": 0.2, "other": 0.1}


def test_a_sound_student_labels_new_stimuli_and_the_label_says_what_it_is():
    made = PseudoLabeler(predict, 0.25, 0.05)({"video_id": "new"})
    assert made["predictions"].shape == (20, 5) and made["predictions"].dtype == np.float16
    assert "no teacher" in str(made["source"]) and made["weight"] == 0.2 and made["held_out_r"] == 0.25


@pytest.mark.parametrize("r", [0.20, 0.1, float("nan")])
def test_a_weak_student_is_refused(r):
    with pytest.raises(ValueError, match="pseudo-labels need more than 0.2"):
        PseudoLabeler(predict, r, 0.0)


def test_a_student_that_does_not_beat_its_baseline_is_refused():
    with pytest.raises(ValueError, match="0.250 is not above its baseline's 0.300"):
        PseudoLabeler(predict, 0.25, 0.30)


def test_validation_taught_flat_and_broken_stimuli_are_skipped():
    labeler = PseudoLabeler(predict, 0.3, 0.0, taught=["seen"], validation=["s07"])
    with pytest.raises(UnfitStimulus, match="s07 is a validation stimulus"):
        labeler({"video_id": "s07"})
    with pytest.raises(UnfitStimulus, match="the teacher saw seen"):
        labeler({"video_id": "seen"})
    for values, words in ((np.zeros((20, 5)), "varies by 0 z"), (np.full((20, 5), np.nan), "values that are NaN"),
                          (100 * predict(None), "plausible values lie between")):  # fmt: skip
        with pytest.raises(UnfitStimulus, match=words):
            PseudoLabeler(lambda _, values=values: values, 0.3, 0.0)({"video_id": "new"})


@pytest.mark.train
def test_phase_3_trains_on_the_labels_of_a_student_that_is_good_enough(module_train, some_runs, world):
    """A weak student labels nothing; a better one labels what has no target, and training uses exactly that."""
    sizes = StudentSettings.smoke().of(dim=32, heads=4, hidden=32, expert_hidden=32, n_vertices=24, n_subjects=2)
    settings = replace(FmriSettings.smoke(), student=sizes, steps=60, weights=LossWeights.fmri_pseudo())
    train = [run for run in some_runs if run.name != "stim0002"]
    val = [run for run in some_runs if run.name == "stim0002"]
    without = planted_runs(world, [7, 8], teacher=False)
    torch.manual_seed(0)
    module = FmriTribe(settings)
    with pytest.raises(ValueError, match=r"held-out r is .*; pseudo-labels need more than 0.2"):
        pseudo_runs(module.student, without, train, val, settings)
    module_train(module, fmri_data(settings, train, val), settings.steps)
    labelled = pseudo_runs(module.student, [*without, val[0]], train, val, settings)
    assert [run.name for run in labelled] == ["stim0007", "stim0008"]  # and not the held-out stimulus
    assert all(run.pseudo and run.bold is None and not run.teacher_valid[:3].any() for run in labelled)
    batch = next(iter(fmri_data(settings, [*train, *labelled], val).train_dataloader()))
    terms = module.terms(batch, module.predict(batch))
    assert ("pseudo" in terms) and (float(terms["pseudo"].detach()) > 0) == bool(batch["pseudo"].any())
    assert pseudo_runs(None, [], train, val, replace(settings, weights=LossWeights.fmri())) == []
    with pytest.raises(ValueError, match="need a student of the phase before"):
        pseudo_runs(None, without, train, val, settings)
