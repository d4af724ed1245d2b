"""Small folders of each public layout, made here: what they hold comes out, and what is wrong is named."""

from __future__ import annotations

import json
import shutil

import h5py
import nibabel
import numpy as np
import pytest

from nbkit.neuro.signals.imaging.surfaces import mesh
from nbkit.neuro.tribe.readers.datasets import fmri_runs, open_dataset, stimulus_rows
from nbkit.neuro.tribe.runs.events import features_of_events
from nbkit.neuro.tribe.runs.runs import make_stimulus_run
from nbkit.neuro.tribe.stimuli.features import pack_features
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings
from tests.neuro.tribe.readers.test_textgrid import long_form

DRAWS = np.random.default_rng(0)
MNI = np.array([[8.0, 0, 0, -92], [0, 8, 0, -128], [0, 0, 8, -74], [0, 0, 0, 1]])


@pytest.fixture
def algonauts(tmp_path):
    """Two films of one subject: a part of Friends with a transcript, and a part of a film without."""
    func = tmp_path / "fmri" / "sub-01" / "func"
    func.mkdir(parents=True)
    for task, keys in (
        ("friends", ["ses-001_task-s01e02a", "ses-002_task-s01e03b"]),
        ("movie10", ["ses-004_task-wolf01_run-1"]),
    ):
        name = f"sub-01_task-{task}_space-MNI152NLin2009cAsym_atlas-Schaefer18_parcel-1000Par7Net_bold.h5"
        with h5py.File(func / name, "w") as file:
            for key in keys:
                file[key] = DRAWS.normal(size=(30, 1000)).astype(np.float32)
    told = tmp_path / "stimuli" / "transcripts" / "friends" / "s1"
    told.mkdir(parents=True)
    head = "text_per_tr\twords_per_tr\tonsets_per_tr\tdurations_per_tr\n"
    rows = "Hi there\t['Hi', 'there']\t[0.2, 0.9]\t[0.3, 0.4]\n\t[]\t[]\t[]\n" + "it's\t[\"it's\"]\t[3.1]\t[0.2]\n"
    (told / "friends_s01e02a.tsv").write_text(head + rows)
    films = tmp_path / "stimuli" / "movies" / "friends" / "s1"
    films.mkdir(parents=True)
    (films / "friends_s01e02a.mkv").write_bytes(b"film")
    return tmp_path


def test_parcels_and_transcripts_of_the_challenge(algonauts, tmp_path):
    made = open_dataset("algonauts", algonauts)
    (stimulus,) = made.stimuli
    assert [tuple(word) for word in stimulus.words][0] == ("Hi", 0.2, 0.5) and stimulus.words[-1].text == "it's"
    runs = made.runs()
    assert [run.video_id for run in runs] == ["s01e02a", "s01e03b", "wolf01"]
    assert {run.subject for run in runs} == {"sub-01"} and runs[0].fmri.shape == (30, 1000) and runs[0].tr == 1.49
    (row,) = stimulus_rows("algonauts", algonauts, SyntheticSettings.smoke(), tmp_path / "own")
    assert row["key"] == "algonauts_s01e02a" and row["path"].endswith("s01e02a.mkv")
    assert (tmp_path / "own" / "algonauts" / "s01e02a.words.tsv").read_text().count("\n") == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("words_per_tr\n['a']\n", "onsets_per_tr"),
        ("words_per_tr\tonsets_per_tr\tdurations_per_tr\n['a', 'b']\t[0.1]\t[0.1]\n", "line 2"),
        ("words_per_tr\tonsets_per_tr\tdurations_per_tr\n__import__('os')\t[0.1]\t[0.1]\n", "line 2"),
    ],
)
def test_a_wrong_transcript_is_named_by_line(algonauts, text, said):
    (path,) = algonauts.rglob("*.tsv")
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"friends_s01e02a.tsv.*{said}"):
        open_dataset("algonauts", algonauts)


def test_a_wrong_file_of_responses_is_named(algonauts):
    (path,) = algonauts.rglob("*task-movie10*.h5")
    with h5py.File(path, "a") as file:
        file["something else"] = np.zeros((3, 1000))
    with pytest.raises(ValueError, match="'something else' is not named ses-"):
        open_dataset("algonauts", algonauts).runs()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"task-movie10.* cannot be read as responses"):
        open_dataset("algonauts", algonauts).runs()


def test_stories_begin_ten_seconds_in_without_video_and_with_a_third_of_the_weight(tmp_path):
    for name in ("TextGrids", "preprocessed_data/UTS01"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "TextGrids" / "souls.TextGrid").write_text(long_form())
    path = tmp_path / "preprocessed_data" / "UTS01" / "souls.hf5"
    with h5py.File(path, "w") as file:
        file["data"] = DRAWS.normal(size=(40, 1000))
    made = open_dataset("lebel", tmp_path)
    assert made.stimuli[0].modalities == "text" and made.stimuli[0].words[0].text == "Alice"
    (run,) = made.runs()
    assert (run.weight, run.without, run.tr) == (0.3, ("video",), 2.0045)
    assert run.fmri.shape == (45, 1000) and run.valid.tolist() == [False] * 5 + [True] * 40
    features = pack_features("souls", 90.0, np.ones((180, 384)), None, np.ones((180, 640)))
    joined = make_stimulus_run(features, run.tr, fmri=run, without=run.without, weight=run.weight)
    assert joined.present.tolist() == [True, False, False] and joined.scored.sum() == 39 and joined.weight == 0.3
    with h5py.File(path, "w") as file:
        file["data"] = DRAWS.normal(size=(40, 81126))
    with pytest.raises(ValueError, match=r"UTS01/souls.hf5 has the shape \(40, 81126\): voxels"):
        made.runs()


def volume(path, shape=(23, 29, 23), volumes=12, tr=2.0):
    """Write a volume whose values change linearly from left to right; return the offset and the slope of each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    offset, slope = np.random.default_rng(3).normal(size=(2, volumes))
    x = (MNI[0, 0] * np.arange(shape[0]) + MNI[0, 3])[:, None, None, None]
    image = nibabel.Nifti1Image((100 + offset + slope * x / 30 + np.zeros((*shape, volumes))).astype(np.float32), MNI)
    image.header.set_zooms((8, 8, 8, tr))
    nibabel.save(image, path)
    return offset, slope


def test_volumes_go_to_the_surface_and_their_words_lie_beside_them(tmp_path):
    offset, slope = volume(tmp_path / "sub-01" / "func" / "sub-01_task-tale_bold.nii.gz", tr=1.5)
    (tmp_path / "tale.TextGrid").write_text(long_form())
    made = open_dataset("images", tmp_path)
    assert made.stimuli[0].video_id == "tale" and made.stimuli[0].words[0].text == "Alice"
    (run,) = made.runs()
    assert run.fmri.shape == (12, 20484) and run.tr == 1.5 and run.keep.mean() > 0.95
    points = np.concatenate([mesh("fsaverage5", "pial", side)[0] for side in ("left", "right")])[::2000, 0]
    wanted = offset[:, None] + slope[:, None] * points / 30
    trend = np.stack([np.ones(12), np.arange(12)], 1)
    wanted -= trend @ np.linalg.lstsq(trend, wanted, rcond=None)[0]
    r = [np.corrcoef(wanted[:, k], run.fmri[:, 2000 * k])[0, 1] for k in range(len(points))]
    assert np.median(r) > 0.98  # the left hemisphere's vertices come first, each with the values of its place


def test_surface_files_are_read_in_pairs_and_need_a_tr(tmp_path):
    for side in "LR":
        arrays = [nibabel.gifti.GiftiDataArray(DRAWS.normal(size=10242).astype(np.float32)) for _ in range(8)]
        nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), tmp_path / f"sub-a_task-x_hemi-{side}_bold.func.gii")
    with pytest.raises(ValueError, match=r"no TR; write sub-a_task-x_hemi-L_bold.json"):
        fmri_runs("images", tmp_path)
    (tmp_path / "sub-a_task-x_hemi-L_bold.json").write_text(json.dumps({"RepetitionTime": 0.8}))
    (run,) = fmri_runs("images", tmp_path)
    assert run.fmri.shape == (8, 20484) and run.tr == 0.8 and run.subject == "sub-a"
    (tmp_path / "sub-a_task-x_hemi-R_bold.func.gii").unlink()
    with pytest.raises(FileNotFoundError, match="lacks sub-a_task-x_hemi-R_bold.func.gii"):
        fmri_runs("images", tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08\x00", b"no image", b"\x5c\x01\x00\x00" + b"\x00" * 400])
def test_a_damaged_image_is_named(tmp_path, content):
    (tmp_path / "sub-01_task-x_bold.nii").write_bytes(content)
    with pytest.raises(ValueError, match=r"sub-01_task-x_bold.nii cannot be read as a run"):
        fmri_runs("images", tmp_path)


def test_clips_of_three_seconds_stand_at_their_onsets(tmp_path):
    func = tmp_path / "sub-01" / "ses-02" / "func"
    func.mkdir(parents=True)
    stem = "sub-01_ses-02_task-test_run-1"
    (func / f"{stem}_events.tsv").write_text(
        "onset\tduration\ttrial_type\tstim_file\n2.0\t3.0\t1\ttest/1050.mp4\n6.0\t3.0\t2\ttest/1051.mp4\n9\t1\tfix\tn/a\n"
    )
    np.save(func / f"{stem}_bold.npy", DRAWS.normal(size=(12, 400)))
    (func / f"{stem}_bold.json").write_text(json.dumps({"RepetitionTime": 1.0}))
    (tmp_path / "stimulus_set").mkdir()
    for name in ("1050", "1051"):
        (tmp_path / "stimulus_set" / f"{name}.mp4").write_bytes(b"clip")
    made = open_dataset("bold_moments", tmp_path)
    assert [stimulus.video_id for stimulus in made.stimuli] == ["1050", "1051"]
    (run,) = made.runs()
    assert [tuple(event) for event in run.events] == [(2.0, 3.0, "1050"), (6.0, 3.0, "1051")]
    known = {n: pack_features(n, 3.0, None, None, np.full((6, 640), v)) for n, v in (("1050", 1), ("1051", 2))}
    whole = features_of_events(run, known)
    assert whole["video"][:, 0].tolist() == [0] * 4 + [1] * 6 + [0] * 2 + [2] * 6 + [0] * 6
    assert whole["present"].tolist() == [False, False, True] and float(whole["duration_s"]) == 12.0
    with pytest.raises(ValueError, match=r"shows 2 clips, and 1 have no features \(1051"):
        features_of_events(run, {"1050": known["1050"]})


def test_the_development_film_begins_after_five_volumes_without_its_confounds(tmp_path):
    folder = tmp_path / "development_fmri"
    volume(folder / "sub-pixar001_task-pixar_space-MNI_desc-preproc_bold.nii.gz", volumes=20)
    moved = DRAWS.normal(size=(20, 2))
    table = "\n".join(["a\tb", *("\t".join(map(str, row)) for row in moved)])
    (folder / "sub-pixar001_task-pixar_desc-reducedConfounds_regressors.tsv").write_text(table + "\n")
    (run,) = open_dataset("development", tmp_path).runs()
    assert run.fmri.shape == (15, 20484) and run.video_id == "pixar" and run.tr == 2.0
    left = moved[5:] - moved[5:].mean(0)
    assert np.abs(run.fmri[:, run.keep].T @ left).max() < 1e-3


def test_haxby_blocks_are_events_with_the_categorys_name(shared_data):
    folder = shared_data / "fmri_haxby_pymvpa"
    if not folder.is_dir():
        pytest.skip("the blocks (../shared/data/fmri_haxby_pymvpa) are not here")
    made = open_dataset("haxby", folder)
    assert len(made.stimuli) == 12 and {len(stimulus.words) for stimulus in made.stimuli} == {8}
    assert {word.text for word in made.stimuli[0].words} >= {"face", "house", "cat"}
    run = made.runs()[0]
    assert run.fmri.shape == (121, 530) and run.tr == 2.5 and run.video_id == made.stimuli[0].video_id


@pytest.mark.parametrize("reader", ["algonauts", "lebel", "bold_moments", "haxby", "development", "images", "alice"])
def test_a_folder_of_something_else_is_refused_with_what_is_needed(tmp_path, reader):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(FileNotFoundError, match=r"holds .*[gG]ive|holds no image"):
        open_dataset(reader, tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        open_dataset(reader, tmp_path)
