"""Stimuli as rows: lengths by both ways, words where they are told, the tail kept."""

import numpy as np
import pytest

from nbkit.neuro.tribe.stimuli import stimuli
from nbkit.neuro.tribe.stimuli.stimuli import (
    clip_rows,
    list_stimuli,
    media_seconds,
    segment_rows,
    synthetic_rows,
    write_clip,
)
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings


def test_lengths_of_real_clips_are_known(shared_data):
    if not (shared_data / "av_grid").is_dir():
        pytest.skip("the real clips (../shared/data/av_grid) are not here")
    rows = clip_rows(shared_data / "av_grid", "grid")
    assert len(rows) == 10 and rows[0]["transcript"] == "bin blue at f two now"
    assert media_seconds(rows[0]["path"]) == pytest.approx(2.98, abs=0.03)
    assert [(r["tr_start"], r["tr_end"]) for r in segment_rows(rows[:1])] == [("0", "3")]


def test_ffprobe_is_asked_where_it_is_and_pyav_where_it_has_no_word(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mpg", 2.0)
    by_av = media_seconds(path)
    assert by_av == pytest.approx(2.0, abs=0.1)
    monkeypatch.setattr(stimuli.shutil, "which", lambda name: "ffprobe")
    monkeypatch.setattr(stimuli, "_probed_seconds", lambda path: 7.5)
    assert media_seconds(path) == 7.5
    monkeypatch.setattr(stimuli, "_probed_seconds", lambda path: None)
    assert media_seconds(path) == by_av


@pytest.mark.parametrize(
    ("seconds", "ends"), [(100.0, [100]), (100.01, [100]), (100.5, [100, 101]), (252.0, [100, 200, 252])]
)
def test_the_tail_is_a_segment_of_its_own(seconds, ends):
    world = SyntheticSettings(stimuli=1, duration_s=seconds)
    assert [int(row["tr_end"]) for row in segment_rows(synthetic_rows(world), world)] == ends


def test_made_clips_are_the_same_each_time_and_names_are_safe(tmp_path):
    world = SyntheticSettings(stimuli=2)
    rows = list_stimuli(None, world, tmp_path, made_clips=1)
    assert [row["key"] for row in rows] == ["synthetic_stim0000", "synthetic_stim0001", "made_made0"]
    first = (tmp_path / "made-clips" / "made0.mpg").read_bytes()
    list_stimuli(None, world, tmp_path, made_clips=1)
    assert (tmp_path / "made-clips" / "made0.mpg").read_bytes() == first
    odd = write_clip(tmp_path / "odd" / "a b(c).mpg", 1.0)
    assert clip_rows(odd.parent)[0]["video_id"] == "a-b-c-" and np.isfinite(media_seconds(odd))
    with pytest.raises(FileNotFoundError, match="holds no video or sound file"):
        clip_rows(tmp_path)
