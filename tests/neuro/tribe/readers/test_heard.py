"""Stimuli of phase 1 in small folders of each public layout, and what is said where there is none."""

from __future__ import annotations

import json
import wave

import numpy as np
import pytest

from nbkit.neuro.tribe.readers.datasets import ABOUT, open_dataset, stimulus_rows
from nbkit.neuro.tribe.stimuli.decode import read_words, words_of
from nbkit.neuro.tribe.stimuli.encoders import EncoderSettings
from nbkit.neuro.tribe.stimuli.extract import Extractor
from nbkit.neuro.tribe.stimuli.stimuli import write_clip
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings


def rows_of(reader, folder, tmp_path):
    return stimulus_rows(reader, folder, SyntheticSettings.smoke(), tmp_path / "own")


def test_librispeech_is_an_item_an_utterance_with_its_words(tmp_path, capsys):
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121123"
    chapter.mkdir(parents=True)
    for name in ("84-121123-0000", "84-121123-0001"):
        (chapter / f"{name}.flac").touch()
    (chapter / "84-121123.trans.txt").write_text(
        "84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT\n84-121123-0002 NOT HERE\n"
    )
    rows = rows_of("librispeech", tmp_path / "LibriSpeech", tmp_path)
    assert [row["video_id"] for row in rows] == ["84-121123-0000", "84-121123-0001"]
    assert rows[0]["modalities"] == "audio+text" and rows[0]["transcript"] == "GO DO YOU HEAR"
    assert [word.start_s for word in words_of(rows[0], 2.0)] == [0.0, 0.5, 1.0, 1.5]
    assert "2 stimuli; LibriSpeech: 960 h, about 60 GB, CC BY 4.0" in capsys.readouterr().out


def test_a_talk_of_tedlium_has_the_times_of_its_segments(tmp_path):
    for part in ("sph", "stm"):
        (tmp_path / "TED" / part).mkdir(parents=True)
    with wave.open(str(tmp_path / "TED/sph/Talk_2012.wav"), "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        out.writeframes(np.zeros(32000, "<i2").tobytes())
    (tmp_path / "TED/stm/Talk_2012.stm").write_text(
        "Talk_2012 1 Talk_2012 0.0 0.5 <NA> ignore_time_segment_in_scoring\n"
        "Talk_2012 1 Talk_2012 0.5 1.5 <o,f0,male> a b\n"
    )
    (row,) = rows_of("tedlium", tmp_path / "TED", tmp_path)
    words = read_words(tmp_path / "own/tedlium/Talk_2012.words.tsv")
    assert [(w.text, w.start_s, w.end_s) for w in words] == [("a", 0.5, 1.0), ("b", 1.0, 1.5)]
    made = Extractor(EncoderSettings.smoke(), "cpu")(row)  # a real file, by the real extractor
    assert made["present"].tolist() == [True, True, False] and len(made["text"]) == 4
    (tmp_path / "TED/stm/Talk_2012.stm").write_text("Talk_2012 1 Talk_2012 zero 0.5 <NA> a\n")
    with pytest.raises(ValueError, match=r"Talk_2012.stm, line 1, has no times"):
        open_dataset("tedlium", tmp_path / "TED")


def test_clips_of_a_list_are_taken_where_they_are_here(tmp_path, capsys):
    write_clip(tmp_path / "v" / "abc_000030.mpg", seconds=1.0)
    (tmp_path / "v" / "vggsound.csv").write_text('abc,30,"dog, barking",train\ngone,10,bell,test\n')
    (row,) = rows_of("vggsound", tmp_path / "v", tmp_path)
    assert (row["video_id"], row["modalities"]) == ("abc_000030", "audio+video")
    assert "1 of 2 listed clips are here" in capsys.readouterr().out
    write_clip(tmp_path / "h" / "xyz.mpg", seconds=1.0)
    (tmp_path / "h" / "HowTo100M_v1.csv").write_text("video_id,category_1,rank,task_id\nxyz,Food,1,2\ngone,Food,1,2\n")
    (tmp_path / "h" / "raw_caption.json").write_text(
        json.dumps({"xyz": {"text": ["cut it", "now"], "start": [0.0, 0.6], "end": [0.5, 0.9]}})
    )
    (row,) = rows_of("howto100m", tmp_path / "h", tmp_path)
    assert row["modalities"] == "audio+text+video" and row["path"].endswith("own/howto100m/xyz.mpg")
    assert [(w.text, w.start_s) for w in words_of(row, 1.0)] == [("cut", 0.0), ("it", 0.25), ("now", 0.6)]


@pytest.mark.parametrize("reader", list(ABOUT))
def test_size_and_licence_are_said_before_anything_is_fetched(reader, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"holds no clip of {reader}.*h.*GB.*Nothing was fetched"):
        open_dataset(reader, tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder.*GB"):
        open_dataset(reader, tmp_path / "none")
