"""Features files: their layout, and what no training should meet."""

import numpy as np
import pytest

from nbkit.neuro.tribe.stimuli.features import BYTES_PER_STEP, feature_steps, pack_features, read_features


def arrays(steps, **more):
    draws = np.random.default_rng(0)
    made = {"text": draws.normal(size=(steps, 384)), "audio": draws.normal(size=(steps, 384)),
            "video": draws.normal(size=(steps, 640))}  # fmt: skip
    return made | more


def test_a_file_reads_back_and_has_2816_bytes_a_step(tmp_path):
    packed = pack_features("clip", 3.2, **arrays(7))
    np.savez(tmp_path / "clip.npz", **packed)
    again = read_features(tmp_path / "clip.npz", "clip")
    assert again["video_id"] == "clip" and again["duration_s"] == 3.2 and again["data"] == "real"
    assert sum(again[m].nbytes for m in ("text", "audio", "video")) == 7 * BYTES_PER_STEP == 7 * 2816
    with pytest.raises(ValueError, match="belongs to the stimulus 'clip', not to 'other'"):
        read_features(tmp_path / "clip.npz", "other")


def test_an_absent_modality_is_zeros_and_marked():
    packed = pack_features("story", 2.0, **arrays(4, video=None))
    assert packed["present"].tolist() == [True, True, False]
    assert packed["video"].shape == (4, 640) and not packed["video"].any()


@pytest.mark.parametrize(
    ("change", "duration", "words"),
    [
        ({"audio": np.full((4, 384), np.nan)}, 2.0, "clip: 1536 of 1536 values of audio are NaN"),
        ({"video": np.full((4, 640), 1e9)}, 2.0, "infinite in float16"),
        ({"text": np.zeros((5, 384))}, 2.0, r"text has shape \(5, 384\); 2 s at 2 Hz have \(4, 384\)"),
        ({}, 0.0, "lasts 0.0 s"),
        ({"text": None, "audio": None, "video": None}, 2.0, "at least one of text, audio, video"),
    ],
)
def test_bad_features_are_refused(change, duration, words):
    with pytest.raises(ValueError, match=words):
        pack_features("clip", duration, **arrays(feature_steps(duration), **change))


def test_a_torn_file_and_one_that_hides_something_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    packed = pack_features("x", 2.0, **arrays(4))
    np.savez(path, **{**packed, "present": np.array([False, True, True])})
    with pytest.raises(ValueError, match="text is marked as absent but is not zero"):
        read_features(path)
    path.write_bytes(path.read_bytes()[:999])
    with pytest.raises(ValueError, match="cannot be read"):
        read_features(path)
