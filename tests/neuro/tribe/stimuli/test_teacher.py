"""Teachers: the stand-in's clock, the loop's step, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.signals.imaging.atlas import schaefer
from nbkit.neuro.tribe.runs.runs import make_stimulus_run
from nbkit.neuro.tribe.runs.targets import to_outputs
from nbkit.neuro.tribe.stimuli.segments import KEPT, join_segments, read_segment, segments_by_video
from nbkit.neuro.tribe.stimuli.stimuli import clip_rows, segment_rows, synthetic_rows
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, planted_brain, synthetic_stimulus
from nbkit.neuro.tribe.stimuli.teacher import SegmentMaker, StandInTeacher, keep_on, open_teacher
from nbkit.runtime.ledger.manifest import read_manifest

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


class Whole:
    """A teacher that cannot predict a chunk alone, as TRIBE v2; it counts the videos that it watched."""

    name = "whole"

    def __init__(self, change=None):
        self.inner, self.seen, self.change = StandInTeacher(WORLD), [], change or (lambda said: said)

    def watch(self, row):
        self.seen.append(row["video_id"])
        return self.change(self.inner.watch(row))


def test_a_video_is_watched_once_for_all_its_segments_and_sessions_on_one_disk(tmp_path):
    teacher, rows = Whole(), segment_rows(synthetic_rows(WORLD), WORLD)
    SegmentMaker(teacher, tmp_path, WORLD)(rows[0])
    for row in rows[1:]:  # another session, after a kill: the rest of the video is on the disk
        again = SegmentMaker(teacher, tmp_path, WORLD)
        again(row)
    assert teacher.seen == ["stim0000", "stim0001"]
    assert [path.name for path in tmp_path.glob("*.watched")] == ["synthetic_stim0001.watched"]


def test_five_sessions_watch_no_video_twice(tmp_path):
    """The work of one: with a hash of each segment's key, each of five sessions watched nearly every video."""
    world = replace(WORLD, stimuli=24)
    rows = segment_rows(synthetic_rows(world), world)
    manifest = read_manifest(rows, "tribe_teacher")
    parts = [list(manifest.shard(f"{i}/5")) for i in range(1, 6)]
    assert sorted(row["key"] for part in parts for row in part) == sorted(row["key"] for row in rows)
    videos = [{row["video_id"] for row in part} for part in parts]
    assert sum(map(len, videos)) == 24 and max(map(len, videos)) < 12


def test_a_chunk_costs_a_chunk(tmp_path):
    """A teacher that can predict a chunk alone is never asked for more."""

    class Counting(StandInTeacher):
        asked = 0

        def watch(self, row):
            raise AssertionError("the whole video was watched")

        def watch_part(self, row, start, end):
            self.asked += end - start
            return super().watch_part(row, start, end)

    teacher, rows = Counting(WORLD), segment_rows(synthetic_rows(WORLD), WORLD)
    make = SegmentMaker(teacher, tmp_path, WORLD)
    for row in rows:
        make(row)
    assert teacher.asked == 2 * 130


@pytest.mark.parametrize("kept", ["fsaverage4", "schaefer1000", "schaefer400"])
def test_predictions_are_kept_where_one_chooses(tmp_path, kept, schaefer_folder):
    row = segment_rows(synthetic_rows(WORLD), WORLD)[1]
    whole = read_segment(SegmentMaker(StandInTeacher(WORLD), tmp_path / "a", WORLD)(row))
    small = read_segment(
        SegmentMaker(StandInTeacher(WORLD), tmp_path / "b", WORLD, keep_on(kept, schaefer_folder))(row)
    )
    assert small.predictions.shape == (30, KEPT[kept]) and small.fusion_l4.shape == (30, 1152)
    assert (tmp_path / "b" / small.name).stat().st_size < 0.4 * (tmp_path / "a" / whole.name).stat().st_size
    parcels = int(kept.removeprefix("schaefer")) if kept.startswith("schaefer") else 400
    atlas = schaefer(parcels, schaefer_folder)
    one, other = (to_outputs(segment.predictions.float().numpy(), parcels, atlas) for segment in (whole, small))
    if kept == "fsaverage4":  # the parcels' means over a quarter of the vertices
        assert np.median([np.corrcoef(one[:, k], other[:, k])[0, 1] for k in range(400)]) > 0.97
    else:
        np.testing.assert_allclose(one, other, atol=2e-3)
    with pytest.raises(ValueError, match="cannot be kept on 'mni'"):
        keep_on("mni")


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_existing_predictions_are_imported_chunk_by_chunk(tmp_path, suffix):
    import h5py

    values = np.random.default_rng(0).normal(size=(130, 1000)).astype(np.float32)
    if suffix == ".npy":
        np.save(tmp_path / "stim0000.npy", values)
    else:
        with h5py.File(tmp_path / "stim0000.h5", "w") as file:
            file["predictions"], file["other"] = values, np.zeros(3)
    rows = segment_rows(synthetic_rows(WORLD), WORLD)
    make = SegmentMaker(open_teacher("files", cache=tmp_path), tmp_path / "out", WORLD)
    joined = join_segments([read_segment(make(row)) for row in rows[:2]])
    np.testing.assert_allclose(joined.predictions.float(), values, atol=4e-3)
    assert joined.fusion_l4 is None and "imported" in joined.teacher
    run = make_stimulus_run(synthetic_stimulus(WORLD, 0), 1.49, segment=joined, n_outputs=1000)
    assert run.fusion is None and run.teacher.shape[1] == 1000 and run.teacher_valid.any()
    with pytest.raises(FileNotFoundError, match="no predictions for 'stim0001'"):
        make(rows[2])


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01", b"\x89HDF\r\n\x1a\n" + b"0" * 40, None])
@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_a_damaged_file_of_predictions_is_named(tmp_path, content, suffix):
    path = tmp_path / f"stim0000{suffix}"
    if content is not None:
        path.write_bytes(content)
    elif suffix == ".npy":
        np.save(path, np.zeros((5, 7)))
    else:
        import h5py

        with h5py.File(path, "w") as file:
            file["a"], file["b"] = np.zeros((2, 1000)), np.zeros((2, 1000))
    row = segment_rows(synthetic_rows(WORLD), WORLD)[0]
    with pytest.raises(ValueError, match=rf"synthetic_stim0000_00000: stim0000{suffix} cannot be read"):
        open_teacher("files", cache=tmp_path).watch_part(row, 0, 100)


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
    def short(said):
        return {key: value[:53] for key, value in said.items()}

    def sick(said):
        said["predictions"][3, 7] = np.nan
        return said

    row = segment_rows(synthetic_rows(WORLD), WORLD)[0]
    with pytest.raises(ValueError, match="synthetic_stim0000_00000: the teacher gave 53 TRs of predictions"):
        SegmentMaker(Whole(short), tmp_path)(row)
    with pytest.raises(ValueError, match="stim0000_00000.pt: 1 of 2048400 values of predictions are NaN"):
        SegmentMaker(Whole(sick), tmp_path / "out")(row)
    assert list(tmp_path.rglob("*.pt")) == []


def test_an_unknown_teacher_is_refused():
    with pytest.raises(ValueError, match="'v3' is unknown; it may be tribe_v2 or synthetic or files"):
        open_teacher("v3")
