"""From a film to the map by ONNX files alone: the same numbers as torch's, backbones included."""

from __future__ import annotations

import pytest

from nbkit.neuro.tribe.scoring.chain import chain_rows
from nbkit.neuro.tribe.stimuli.encoders import EncoderSettings
from nbkit.neuro.tribe.stimuli.stimuli import write_clip
from nbkit.neuro.tribe.student.student import StudentSettings, TinyTribe

pytestmark = pytest.mark.train


def test_a_film_gives_the_same_map(tmp_path, capsys):
    write_clip(tmp_path / "films" / "film.mpg", seconds=6.0)
    (tmp_path / "films" / "film.words.tsv").write_text("word\tstart_s\tend_s\nbright\t0.5\t1.0\nsquare\t1.0\t2.0\n")
    student = TinyTribe(StudentSettings.smoke()).eval()
    film = tmp_path / "films" / "film.mpg"
    rows = {row["name"]: row for row in chain_rows(film, EncoderSettings.smoke(), student, tmp_path / "onnx")}
    said = capsys.readouterr().out
    assert rows["r_chain_onnx"]["value"] > 0.9999 and float(said.split("at most ")[1].split()[0]) < 1e-3
    assert rows["ms_from_film"]["value"] > 0 and rows["ms_from_film"]["baseline"] == 1000.0
    assert {path.name for path in (tmp_path / "onnx").glob("*.onnx")} == {
        "text.onnx", "audio.onnx", "video.onnx", "student.onnx"
    }  # fmt: skip
    assert chain_rows(None, EncoderSettings.smoke(), student, tmp_path) == []
    with pytest.raises(FileNotFoundError, match="no video or sound file here"):
        chain_rows(tmp_path / "films" / "other.mpg", EncoderSettings.smoke(), student, tmp_path)
