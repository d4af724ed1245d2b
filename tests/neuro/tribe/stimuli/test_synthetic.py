"""The made-up world: what was planted can be found in it."""

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.tribe.stimuli.synthetic import (
    SyntheticSettings,
    SyntheticTeacher,
    planted_brain,
    synthetic_fmri,
    synthetic_stimulus,
)

WORLD = SyntheticSettings.smoke()


@pytest.fixture(scope="module")
def features():
    return synthetic_stimulus(replace(WORLD, duration_s=600.0), 0)


def test_the_same_index_is_the_same_stimulus_and_another_another():
    one, again, other = (synthetic_stimulus(WORLD, i) for i in (3, 3, 4))
    assert all(np.array_equal(one[m], again[m]) for m in ("text", "audio", "video"))
    assert abs(np.corrcoef(one["text"].ravel(), other["text"].ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("number", range(3))
def test_only_the_planted_modality_moves_a_parcel(features, number):
    world = replace(WORLD, duration_s=600.0)
    name = ("text", "audio", "video")[number]
    silent = {**features, name: np.zeros_like(features[name])}
    teacher = SyntheticTeacher(world)
    change = np.abs(teacher.predict(features)["predictions"] - teacher.predict(silent)["predictions"]).max(axis=0)
    own = teacher.brain.modality_of_output == number
    assert (change[own] > 0.1).all() and (change[~own] < 1e-5).all() and 100 < own.sum() < 160


def test_the_response_peaks_where_it_was_planted(features):
    for peak in (4.0, 6.0):
        world = replace(WORLD, duration_s=600.0, hrf_peak_s=peak)
        brain = planted_brain(world)
        impulse = {m: np.zeros_like(features[m], dtype=float) for m in ("text", "audio", "video")}
        impulse["audio"][100] = brain.carriers["audio"][0]
        bold = np.abs(brain.parcels(impulse)).max(axis=1)
        assert bold.argmax() / 2 == pytest.approx(50 + peak, abs=0.51) and bold[:100].max() < 1e-9
        said = np.abs(SyntheticTeacher(world).predict(impulse | {"duration_s": 600.0})["predictions"]).max(axis=1)
        assert said.argmax() == pytest.approx(50 + peak - 5, abs=1.01)  # the teacher has taken 5 s out


def test_every_number_of_outputs_tells_of_the_same_parcels(features):
    world = replace(WORLD, duration_s=600.0)
    parcels = SyntheticTeacher(world).predict(features)["predictions"]
    for count in (5124, 20484):
        teacher = SyntheticTeacher(replace(world, n_outputs=count))
        said = teacher.predict(features)["predictions"]
        assert said.shape == (600, count) and len(np.unique(teacher.brain.parcel_of_output)) == 400
        assert np.allclose(said, parcels[:, teacher.brain.parcel_of_output] * teacher.brain.gain_of_output, atol=1e-4)
        assert 0.5 < said.std() < 2


def test_fmri_has_the_ceiling_it_says_and_subjects_differ_by_their_film_alone(features):
    world = replace(WORLD, duration_s=600.0)
    one, other = (synthetic_fmri(world, subject, features) for subject in (0, 1))
    assert one["fmri"].shape == (int(600 / 1.49), 400)
    r = [np.corrcoef(one["fmri"][:, i], one["clean"][:, i])[0, 1] for i in range(400)]
    assert np.mean(r) == pytest.approx(one["ceiling"], abs=0.01)
    alike = [np.corrcoef(one["clean"][:, i], other["clean"][:, i])[0, 1] for i in range(400)]
    assert 0.2 < np.mean(alike) < 0.95
    same = replace(world, subject_spread=0.0)
    assert np.allclose(synthetic_fmri(same, 0, features)["clean"], synthetic_fmri(same, 9, features)["clean"])


def test_fmri_and_teacher_are_one_brain_on_one_clock(features):
    from nbkit.neuro.signals.imaging.bold import teacher_on_clock

    world = replace(WORLD, duration_s=600.0, subject_spread=0.0)
    fmri = synthetic_fmri(world, 0, features)
    found, known = teacher_on_clock(
        SyntheticTeacher(world).predict(features)["predictions"], world.tr, len(fmri["clean"])
    )
    r = [np.corrcoef(found[known, i], fmri["clean"][known, i])[0, 1] for i in range(400)]
    assert min(r) > 0.99
    late = [np.corrcoef(found[known, i][:-3], fmri["clean"][known, i][3:])[0, 1] for i in range(400)]
    assert np.mean(late) < 0.9
