"""Words with times by speech recognition, for a stimulus whose transcript has none.

A Whisper model of transformers recognises words with their start and end. If there is a transcript without times, its
words are kept and take the times of the recognised words that they match; words between two matches share the time
between them. A table of words with times beside the file is always used as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkit.neuro.tribe.stimuli.decode import AUDIO_PIECE_S, AUDIO_RATE, Word


class Recognizer:
    """Recognise the words of a sound.

    Parameters
    ----------
    name : str
        A Whisper model with its decoder: a name on the hub, such as "openai/whisper-small", or a folder.
    device : str
    language : str
        Language that is spoken, such as "en"; if empty, the model finds out.

    Raises
    ------
    FileNotFoundError
        If there is no such model, or it has no decoder or tokenizer.
    """

    def __init__(self, name: str, device: str = "cpu", language: str = "") -> None:
        from transformers import pipeline

        self.name, self.language = name, language
        try:
            self._pipe = pipeline("automatic-speech-recognition", model=name, device=device)
        except (OSError, ValueError, KeyError) as error:
            raise FileNotFoundError(
                f"Not found: the recogniser {name!r} is neither a folder nor available from the hub "
                f"({type(error).__name__}: {str(error)[:200]}). Give a whole Whisper model with decoder and tokenizer, "
                "write <stem>.words.tsv beside the file, or set SPEECH to None."
            ) from error

    def __call__(self, samples: np.ndarray) -> list[Word]:
        """Return the words of a sound at 16 kHz, with times in s, in the order of time."""
        asked: dict[str, Any] = {"language": self.language} if self.language else {}
        length = len(samples) / AUDIO_RATE
        found = self._pipe(
            {"raw": np.asarray(samples, np.float32), "sampling_rate": AUDIO_RATE}, return_timestamps="word",
            chunk_length_s=AUDIO_PIECE_S, generate_kwargs=asked,
        )  # fmt: skip
        words = []
        for chunk in found["chunks"]:
            text, (start, end) = chunk["text"].strip(), chunk["timestamp"]
            if text and start is not None and start < length:
                stop = length if end is None else min(end, length)  # the last word of a sound may have no end
                words.append(Word(text, float(start), float(max(stop, start))))
        return sorted(words, key=lambda word: word.start_s)


def timed_words(transcript: Sequence[str], recognised: Sequence[Word], duration_s: float) -> list[Word]:
    """Return the words of a transcript with the times of the recognised words that they match.

    Parameters
    ----------
    transcript : sequence of str
    recognised : sequence of Word
    duration_s : float
        Length of the stimulus, in s.

    Returns
    -------
    words : list of Word
        Words without a match share the time between their neighbours evenly. Without a transcript, the recognised
        words.
    """
    if not transcript:
        return list(recognised)
    ours, theirs = ([_plain(text) for text in texts] for texts in (transcript, [word.text for word in recognised]))
    times: list[tuple[float, float] | None] = [None] * len(transcript)
    for match in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        for offset in range(match.size):
            word = recognised[match.b + offset]
            times[match.a + offset] = (word.start_s, word.end_s)
    made: list[Word] = []
    number = 0
    while number < len(transcript):
        known = times[number]
        if known is not None:
            made.append(Word(transcript[number], *known))
            number += 1
            continue
        stop = next((k for k in range(number, len(transcript)) if times[k] is not None), len(transcript))
        after = times[stop] if stop < len(transcript) else None
        begin, end = made[-1].end_s if made else 0.0, after[0] if after else duration_s
        each = max(0.0, end - begin) / (stop - number)
        made.extend(Word(transcript[k], begin + (k - number) * each, begin + (k - number + 1) * each)
                    for k in range(number, stop))  # fmt: skip
        number = stop
    return made


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
