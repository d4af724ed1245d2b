"""Segment files: written and read back, and everything wrong with one refused in words."""

import numpy as np
import pytest
import torch

from nbkit.neuro.tribe.stimuli.segments import (
    Segment,
    join_segments,
    parse_segment_name,
    read_segment,
    segment_name,
    write_segment,
)

V = 12


def segment(start=0, trs=100, video="s01e01a", **more):
    draws = np.random.default_rng(start)
    arrays = {
        "predictions": draws.normal(size=(trs, V)), "fusion_l4": draws.normal(size=(trs, 1152)),
        "fusion_l6": draws.normal(size=(trs, 1152)),
    }  # fmt: skip
    made = {key: torch.as_tensor(value) for key, value in (arrays | more).items()}
    return Segment("friends", video, start, start + trs, **made, teacher="a test")


def test_the_layout_is_the_seeds(tmp_path):
    path = write_segment(tmp_path, segment(100), V)
    assert path.name == "friends_s01e01a_00100.pt" and list(tmp_path.iterdir()) == [path]
    content = torch.load(path, weights_only=True)
    assert set(content) == {"video_id", "tr_start", "tr_end", "predictions", "fusion_l4", "fusion_l6", "teacher"}
    assert content["predictions"].dtype == torch.float16 and content["fusion_l4"].shape == (100, 1152)
    again = read_segment(path, V, video_id="s01e01a")
    assert torch.equal(again.predictions, segment(100).predictions.half()) and again.tr_end == 200


def test_the_tail_is_kept_and_joins(tmp_path):
    parts = [read_segment(write_segment(tmp_path, s, V), V) for s in (segment(100, 37), segment(0))]
    whole = join_segments(parts)
    assert (whole.tr_start, whole.tr_end, whole.predictions.shape) == (0, 137, (137, V))
    with pytest.raises(ValueError, match="ends at TR 137 and .* begins at 200"):
        join_segments([*parts, segment(200)])
    with pytest.raises(ValueError, match="another video"):
        join_segments([parts[1], segment(100, video="other")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"predictions": torch.zeros(100, V + 1)}, r"predictions has shape \(100, 13\).* 12 vertices"),
        ({"fusion_l6": torch.zeros(99, 1152)}, r"fusion_l6 has shape \(99, 1152\)"),
        ({"predictions": torch.full((100, V), torch.nan)}, "1200 of 1200 values of predictions are NaN"),
        ({"fusion_l4": torch.full((100, 1152), 1e6)}, "infinite in fp16"),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        write_segment(tmp_path, segment(**change), V)
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_wrong_is_not_read(tmp_path):
    path = write_segment(tmp_path, segment(), V)
    with pytest.raises(ValueError, match="12 outputs; they may have 20484"):
        read_segment(path)
    foreign = path.with_name("friends_s02e02b_00000.pt")
    path.rename(foreign)
    with pytest.raises(ValueError, match="holds 's01e01a' from TR 0, which does not match its name"):
        read_segment(foreign, V)
    with pytest.raises(ValueError, match="belongs to the stimulus 's01e01a', not to 's09'"):
        read_segment(foreign.rename(path), V, video_id="s09")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cannot be read as a segment"):
        read_segment(path, V)
    torch.save({"predictions": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="a segment has video_id, tr_start"):
        read_segment(path, V)
    with pytest.raises(FileNotFoundError):
        read_segment(tmp_path / "friends_none_00000.pt", V)


def test_names_come_apart_as_they_were_put_together():
    for parts in (("friends", "s01e01a", 0), ("bold-moments", "clip_0001_b", 123456)):
        assert parse_segment_name(segment_name(*parts)) == parts
    for dataset, video in (("a_b", "v"), ("a", "../v"), ("a", "_v"), ("", "v")):
        with pytest.raises(ValueError):
            segment_name(dataset, video, 0)
    with pytest.raises(ValueError, match="below 0"):
        segment_name("a", "v", -1)
