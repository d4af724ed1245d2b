"""The archive of Brennan et al. (2016): a small one of its layout, and the real one where it is at hand."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.tribe.readers.alice import REGIONS, STORY, TR, read_alice
from nbkit.neuro.tribe.readers.datasets import open_dataset, stimulus_rows
from nbkit.neuro.tribe.runs.runs import make_stimulus_run
from nbkit.neuro.tribe.stimuli.features import pack_features
from nbkit.neuro.tribe.stimuli.low_level import WORD_NAMES, word_regressors
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings
from tests.neuro.tribe.readers.test_textgrid import long_form


@pytest.fixture
def archive(tmp_path):
    """A small archive: 40 volumes of two people, and one without values."""
    draws = np.random.default_rng(0)
    (tmp_path / "10mm").mkdir()
    rows = [(0.0, 20.5, "sp"), (20.5, 21.0, "Alice"), (21.0, 21.5, "was")]
    (tmp_path / "story.TextGrid").write_text(long_form(rows))
    for subject in ("s18", "s22", "s33"):
        values = draws.normal(100, 1, (40, 6)) * (subject != "s33")
        np.savetxt(tmp_path / "10mm" / f"{subject}-timecourses.txt", values)
        np.savetxt(tmp_path / f"{subject}-rp_run.txt", draws.normal(size=(50, 6)))
        np.savetxt(tmp_path / f"{subject}-sndpwr.txt", draws.normal(size=40))
    np.savetxt(tmp_path / "sept18-generic-predictors-x.txt", draws.normal(size=(50, 12)))
    return tmp_path


def test_the_layout_gives_people_with_values_and_words_on_the_scanners_clock(archive):
    made = open_dataset("alice", archive)
    assert [word.text for word in made.stimuli[0].words] == ["Alice", "was"]
    assert made.stimuli[0].words[0].start_s == pytest.approx(0.5)
    runs = made.runs()
    assert [run.subject for run in runs] == ["s18", "s22"]
    assert {run.video_id for run in runs} == {STORY} and runs[0].outputs == REGIONS and runs[0].tr == TR
    assert runs[0].fmri.shape == (40, 6) and runs[0].given.shape == (40, 13) and len(runs[0].given_names) == 13
    moved = np.loadtxt(archive / "s18-rp_run.txt")[10:]
    assert np.abs((runs[0].fmri.T @ (moved - moved.mean(0))) / 40).max() < 1e-5  # the movement is gone


def test_what_is_missing_is_named(archive):
    (archive / "s22-rp_run.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"0 files s22-rp"):
        open_dataset("alice", archive).runs()
    (archive / "story.TextGrid").unlink()
    with pytest.raises(FileNotFoundError, match="0 TextGrid files"):
        read_alice(archive)
    with pytest.raises(ValueError, match="no reader 'alise'"):
        open_dataset("alise", archive)


def test_rows_hold_the_words_of_a_story_without_a_sound(archive, tmp_path):
    (row,) = stimulus_rows("alice", archive, SyntheticSettings.smoke(), tmp_path / "out")
    assert row["key"] == "alice_alice" and row["modalities"] == "text" and row["path"].endswith(".words.tsv")


def test_the_real_word_rate_is_the_supplied_one_and_reaches_the_known_r(shared_data):
    """Mean r 0.11 over 27 people with the responses, and 0.99 with the predictor that the authors made."""
    folder = shared_data / "fmri_alice"
    if not folder.is_dir():
        pytest.skip("the archive (../shared/data/fmri_alice) is not here")
    made = read_alice(folder)
    words, runs = made.stimuli[0].words, made.runs()
    assert len(words) == 2127 and len(runs) == 27
    low = dict(zip(WORD_NAMES, word_regressors(words, 4 * 362).T, strict=True))
    features = pack_features(STORY, 724.0, np.zeros((4 * 362, 384)), None, None, low=low)
    said = make_stimulus_run(features, TR, fmri=runs[0]).response[:, 0]
    assert np.corrcoef(said, np.loadtxt(folder / "s18-rate.txt"))[0, 1] > 0.97
    said = (said - said.mean()) / said.std()
    r = np.array([(run.fmri * said[:, None]).mean(0).mean() for run in runs])
    assert 0.10 < r.mean() < 0.125 and r.mean() / r.std(ddof=1) * np.sqrt(27) > 9
