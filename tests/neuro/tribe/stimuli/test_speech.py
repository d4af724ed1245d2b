"""Recognised words: a stand-in Whisper goes through the real pipeline; a transcript's words take matched times."""

from __future__ import annotations

import wave

import numpy as np
import pytest

from nbkit.neuro.tribe.stimuli.decode import AUDIO_RATE, Word
from nbkit.neuro.tribe.stimuli.encoders import EncoderSettings
from nbkit.neuro.tribe.stimuli.extract import Extractor
from nbkit.neuro.tribe.stimuli.speech import Recognizer, timed_words
from nbkit.neuro.tribe.stimuli.stimuli import clip_rows

SAID = (" alice", " rabbit")
LAST = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
        "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")  # fmt: skip


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A tiny Whisper with random weights that can say two words alone: its times are not a listener's."""
    from tokenizers import pre_tokenizers
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    folder = tmp_path_factory.mktemp("whisper")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(word.replace(" ", "Ġ") for word in SAID)]
    plain = {word: number for number, word in enumerate(words)} | {LAST[0]: len(words)}
    tokenizer = WhisperTokenizer(vocab=plain, merges=[])
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    tokenizer.add_special_tokens({"additional_special_tokens": list(LAST[1:])})
    tokenizer.add_tokens(times, special_tokens=False)
    number = {word: tokenizer.convert_tokens_to_ids(word) for word in LAST}
    total, said = len(tokenizer), [plain[word.replace(" ", "Ġ")] for word in SAID]
    config = WhisperConfig(
        vocab_size=total, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_target_positions=64,
        pad_token_id=number[LAST[0]], bos_token_id=number[LAST[0]], eos_token_id=number[LAST[0]],
        decoder_start_token_id=number[LAST[1]],
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=number[LAST[1]], eos_token_id=number[LAST[0]], pad_token_id=number[LAST[0]],
        no_timestamps_token_id=number["<|notimestamps|>"], alignment_heads=[[0, 0], [0, 1]], is_multilingual=True,
        lang_to_id={"<|en|>": number["<|en|>"]}, task_to_id={"transcribe": number["<|transcribe|>"]}, max_length=20,
        max_initial_timestamp_index=50, begin_suppress_tokens=[number[LAST[0]]],
        suppress_tokens=[one for one in range(total - 1501) if one not in said and one != number[LAST[0]]],
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def tone(path, seconds=4.0):
    samples = 0.3 * np.sin(2 * np.pi * 220 * np.arange(int(seconds * AUDIO_RATE)) / AUDIO_RATE)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(AUDIO_RATE)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    return samples


def test_words_come_with_times_within_the_sound(stand_in, tmp_path):
    words = Recognizer(str(stand_in), language="en")(tone(tmp_path / "a.wav"))
    assert words and {word.text for word in words} <= {"alice", "rabbit", "alicealice", "rabbitrabbit"}
    assert all(0 <= word.start_s <= word.end_s <= 4.0 for word in words)


def test_a_users_own_table_wins_and_without_one_the_sound_is_listened_to(stand_in, tmp_path):
    tone(tmp_path / "a.wav")
    (row,) = clip_rows(tmp_path)
    extract = Extractor(EncoderSettings.smoke(), "cpu", speech=str(stand_in))
    made = extract(row)
    assert made["present"].tolist() == [True, True, False] and np.abs(made["text"]).sum() > 0
    assert f"times of words: {stand_in}" in str(made["weights"]) and extract.asked()["speech"] == str(stand_in)
    (tmp_path / "a.words.tsv").write_text("word\tstart_s\tend_s\nhello\t1.0\t1.5\n")
    own = extract(row)
    assert "times of words" not in str(own["weights"])
    rate = list(own["low_names"]).index("word rate")
    assert np.flatnonzero(own["low"][:, rate]).tolist() == [2]
    assert "speech" not in Extractor(EncoderSettings.smoke(), "cpu").asked()


def test_a_transcript_keeps_its_words_and_takes_matched_times():
    heard = [Word("The", 0.5, 0.7), Word("write", 0.8, 1.0), Word("rabbit,", 1.0, 1.4), Word("hole", 2.0, 2.4)]
    found = timed_words("The White Rabbit fell in the hole today".split(), heard, 4.0)
    assert [word.text for word in found] == "The White Rabbit fell in the hole today".split()
    assert found[0] == ("The", 0.5, 0.7) and found[2] == ("Rabbit", 1.0, 1.4) and found[6] == ("hole", 2.0, 2.4)
    assert found[1] == ("White", 0.7, 1.0)  # between its neighbours
    assert [round(word.start_s, 2) for word in found[3:6]] == [1.4, 1.6, 1.8] and found[7][1:] == (2.4, 4.0)
    assert timed_words([], heard, 4.0) == heard
    assert [word.start_s for word in timed_words(["a", "b"], [], 4.0)] == [0.0, 2.0]


def test_a_model_without_a_decoder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="(?s)The recogniser|recogniser '.*neither a folder nor available"):
        Recognizer(str(tmp_path))
