"""Teachers: the stand-in's clock, the loop's step, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.tribe.stimuli.segments import join_segments, read_segment, segments_by_video
from nbkit.neuro.tribe.stimuli.stimuli import clip_rows, segment_rows, synthetic_rows
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, planted_brain, synthetic_stimulus
from nbkit.neuro.tribe.stimuli.teacher import SegmentMaker, StandInTeacher, open_teacher

WORLD = replace(SyntheticSettings.smoke(), stimuli=2, duration_s=130.0, n_outputs=20484)


def test_segments_of_a_video_join_to_what_the_teacher_said_and_the_tail_is_kept(tmp_path):
    teacher = open_teacher("synthetic", WORLD)
    rows = segment_rows(synthetic_rows(WORLD), WORLD)
    assert [(r["key"], r["tr_start"], r["tr_end"]) for r in rows[:2]] == [
        ("synthetic_stim0000_00000", "0", "100"), ("synthetic_stim0000_00100", "100", "130")
    ]  # fmt: skip
    make = SegmentMaker(teacher, tmp_path, WORLD)
    paths = [make(row) for row in rows]
    found = segments_by_video(paths)
    assert list(found) == ["stim0000", "stim0001"]
    whole = join_segments([read_segment(path) for path in found["stim0000"]])
    said = teacher.watch(rows[0])
    assert (whole.tr_start, whole.tr_end) == (0, 130)
    assert np.allclose(whole.predictions.float(), said["predictions"], atol=2e-3, rtol=1e-3)
    assert "synthetic" in whole.teacher


def test_row_t_is_bold_five_seconds_later():
    world = replace(WORLD, n_outputs=400)
    features = synthetic_stimulus(world, 0)
    bold = planted_brain(world).parcels(features, after_s=6.0)[::2]  # 1 Hz
    said = StandInTeacher(world)._map.brain.outputs(bold)
    predictions = open_teacher("synthetic", WORLD).watch({"path": "", "index": "0", "key": "k"})["predictions"]
    assert np.allclose(predictions, said[5:135], atol=1e-4)


def test_a_video_is_watched_once_for_all_its_segments(tmp_path):
    class Counting(StandInTeacher):
        seen = 0

        def watch(self, row):
            self.seen += 1
            return super().watch(row)

    teacher = Counting(WORLD)
    make = SegmentMaker(teacher, tmp_path, WORLD)
    for row in segment_rows(synthetic_rows(WORLD), WORLD):
        make(row)
    assert teacher.seen == 2


def test_bad_files_keep_their_rows_and_fail_by_name(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "torn.mp4").write_bytes(b"no video at all" * 50)
    rows = segment_rows(clip_rows(tmp_path))
    assert [row["tr_end"] for row in rows] == ["", ""]
    make = SegmentMaker(StandInTeacher(WORLD), tmp_path / "out")
    with pytest.raises(ValueError, match="empty.mp4 has 0 bytes"):
        make(rows[0])
    with pytest.raises(ValueError, match="torn.mp4 cannot be read as video or sound"):
        make(rows[1])
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_says_too_little_or_nan_is_refused(tmp_path):
    class Short(StandInTeacher):
        def watch(self, row):
            return {key: value[:53] for key, value in super().watch(row).items()}

    class Sick(StandInTeacher):
        def watch(self, row):
            said = super().watch(row)
            said["predictions"][3, 7] = np.nan
            return said

    row = segment_rows(synthetic_rows(WORLD), WORLD)[0]
    with pytest.raises(ValueError, match="synthetic_stim0000_00000: the teacher gave 53 TRs of predictions"):
        SegmentMaker(Short(WORLD), tmp_path)(row)
    with pytest.raises(ValueError, match="stim0000_00000.pt: 1 of 2048400 values of predictions are NaN"):
        SegmentMaker(Sick(WORLD), tmp_path)(row)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_teacher_is_refused():
    with pytest.raises(ValueError, match="'v3' is unknown; it may be tribe_v2 or synthetic"):
        open_teacher("v3")
