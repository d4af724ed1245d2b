"""Every guard of the pseudo-labels stops what it is for."""

import numpy as np
import pytest

from nbkit.neuro.tribe.pseudo_labels import LOSS_WEIGHTS, PseudoLabeler, UnfitStimulus


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
