"""What phases train on: made up only when asked for, no held-out stimulus in training, regions that fit the outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.tribe.fmri import FmriSettings
from nbkit.neuro.tribe.gather import atlas_regions, heard, measured, planted_regions, taught
from nbkit.neuro.tribe.pretrain import PretrainSettings
from nbkit.neuro.tribe.stimuli.synthetic import synthetic_fmri, synthetic_stimulus


def nothing(slug):
    raise AssertionError(f"{slug} was asked for")


def test_the_made_up_world_needs_no_store_and_holds_the_same_stimuli_out():
    fmri = FmriSettings.smoke()
    kd, phase3 = (gather("planted", nothing, fmri) for gather in (taught, measured))
    features = heard("planted", nothing, PretrainSettings.smoke())
    trained = {run.name for train in (kd[0], phase3[0], features[0]) for run in train}
    assert trained.isdisjoint({run.name for run in phase3[1]}) and {r.name for r in kd[1]} == {
        r.name for r in phase3[1]
    }
    assert phase3[0][0].bold.shape[1] == 400 and {run.subject for run in phase3[0]} == {0, 1, 2}
    with pytest.raises(ValueError, match="Source 'made-up' is unknown"):
        heard("made-up", nothing, fmri)


def test_the_stores_runs_meet_by_stimulus(tmp_path, monkeypatch, world, schaefer_folder):
    features, scans = tmp_path / "features", tmp_path / "fmri"
    features.mkdir()
    scans.mkdir()
    wide = replace(world, n_outputs=5124, parcels=400)
    for index in range(3):
        stimulus = synthetic_stimulus(wide, index)
        np.savez(features / f"{stimulus['video_id']}.npz", **stimulus)
        for subject in (4, 7):
            if (index, subject) != (2, 7):
                np.savez(scans / f"{index}-{subject}.npz", **synthetic_fmri(wide, subject, stimulus))
    files = {"tribe_features": sorted(features.glob("*.npz")), "tribe_teacher": []}
    settings = replace(FmriSettings.smoke(), student=FmriSettings.smoke().student.of(n_vertices=5124))
    train, val = measured("store", files.__getitem__, settings, scans, "stim0002", schaefer_folder)
    assert [(run.name, run.subject) for run in train] == [
        ("stim0000", 0), ("stim0000", 1), ("stim0001", 0), ("stim0001", 1),
    ]  # fmt: skip
    assert [run.name for run in val] == ["stim0002"] and train[0].teacher is None
    with pytest.raises(ValueError, match="no stimulus has both"):
        measured("store", {"tribe_features": [], "tribe_teacher": []}.__getitem__, settings, scans, "", schaefer_folder)


@pytest.mark.parametrize("outputs", [400, 5124])
def test_planted_regions_are_the_modalities(outputs):
    regions = planted_regions(outputs)
    assert regions.names == ("text", "audio", "video") and regions.network.shape == (outputs,)
    assert regions.on_surface(np.arange(float(outputs))).shape == (5124,)
    assert regions.mean_r(regions.network.astype(float)) == {"text": 0.0, "audio": 1.0, "video": 2.0}
    assert len(regions.parcel) == outputs and int(regions.parcel.max()) == (2 if outputs == 400 else 399)


@pytest.mark.parametrize("outputs", [400, 1000, 5124, 20484])
def test_atlas_regions_are_seven_networks(outputs, schaefer_folder):
    regions, atlas = atlas_regions(outputs, schaefer_folder)
    assert len(regions.names) == 7 and len(regions.network) == len(regions.parcel) == outputs
    assert len(regions.on_surface(np.zeros(outputs))) == (20484 if outputs in (400, 1000) else outputs)
    assert len(atlas.labels) == 20484
    if outputs > 1000:
        assert (regions.network < 0).any() and int(regions.parcel.max()) == 399  # the medial wall is nowhere


def test_a_newcomer_is_in_no_training_and_comes_alone_when_asked_for():
    settings = replace(FmriSettings.smoke(), newcomer=2)
    train, val = measured("planted", None, settings)
    own, later = measured("planted", None, settings, newcomer=True)
    assert {run.subject for run in [*train, *val]} == {0, 1} and {run.subject for run in [*own, *later]} == {2}
    assert len(own) == 4 and len(later) == 3
    assert measured("planted", None, FmriSettings.smoke(), newcomer=True) == ([], [])
