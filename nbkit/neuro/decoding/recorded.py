"""Windows together with the recordings that they were cut from, so that each model gets its own cleaning.

A slow filter cannot be applied to a window of some seconds. The whole recording is cleaned instead, stretch by stretch,
and the same windows are cut again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nbkit.neuro.signals.intake.cleaning import Cleaning, clean_again
from nbkit.neuro.signals.intake.facts import Stretch
from nbkit.neuro.signals.intake.recording import Recording
from nbkit.neuro.signals.windows.mapped import map_npy
from nbkit.neuro.signals.windows.shards import WindowShards

_STEP_UV = 2.0**-10  # filters differ in the last bits between machines, which would change the key of a cache
_MOST_BYTES = 2**30  # cleaned windows that are kept in memory


@dataclass
class RecordedWindows:
    """Positions of windows in their recordings.

    Parameters
    ----------
    opened : sequence of callable
        Each returns a recording.
    of : int array of shape (windows,)
        Recording of each window.
    starts : int array of shape (windows,)
        First sample in it.
    n_times : int
        Samples of a window.
    baselines : sequence
        For each recording, the first sample and the end of the span, from a window's start, whose mean is subtracted;
        None for none.
    """

    opened: Sequence[Callable[[], Recording]]
    of: np.ndarray
    starts: np.ndarray
    n_times: int
    baselines: Sequence[tuple[int, int] | None] = ()
    _kept: OrderedDict[tuple[int, Cleaning], tuple[Recording, Recording]] = field(
        default_factory=OrderedDict, repr=False
    )

    def subset(self, rows: np.ndarray) -> RecordedWindows:
        """Return some of the windows."""
        return RecordedWindows(self.opened, self.of[rows], self.starts[rows], self.n_times, self.baselines, self._kept)

    def cleaned(self, cleaning: Cleaning) -> np.ndarray:
        """Return the windows of the cleaned recordings, float32 of shape (windows, channels, time), in uV.

        Their rate is that of the cleaning.
        """
        parts = [(np.flatnonzero(self.of == number), int(number)) for number in np.unique(self.of)]
        made = [self._windows(number, self.starts[rows], cleaning) for rows, number in parts]
        windows = np.empty((len(self.of), *made[0].shape[1:]), np.float32)
        for (rows, _), part in zip(parts, made, strict=True):
            windows[rows] = part
        return windows

    def _windows(self, number: int, starts: np.ndarray, cleaning: Cleaning) -> np.ndarray:
        key = (number, cleaning)
        if key not in self._kept:
            recording = self.opened[number]()
            self._kept[key] = recording, clean_again(recording, cleaning)[0]
            while len(self._kept) > 1 and sum(after.signal.nbytes for _, after in self._kept.values()) > _MOST_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        before, after = self._kept[key]
        ratio = after.sfreq / before.sfreq
        length = int(round(self.n_times * ratio))
        cut = []
        for start in starts.tolist():
            place = next(n for n, one in enumerate(before.stretches) if one.start <= start < one.stop)
            stretch = after.stretches[place]
            first = stretch.start + int(round((start - before.stretches[place].start) * ratio))
            first = max(stretch.start, min(first, stretch.stop - length))  # rounding may end one sample later
            window = after.signal[:, first : first + length]
            if self.baselines and (span := self.baselines[number]) is not None:
                begin, end = (int(round(sample * ratio)) for sample in span)
                window = window - window[:, begin : max(end, begin + 1)].mean(axis=1, keepdims=True)
            cut.append(window)
        return (np.round(np.stack(cut) / _STEP_UV) * _STEP_UV).astype(np.float32)


def recorded_of(shards: WindowShards, rows: np.ndarray) -> RecordedWindows | None:
    """Return where stored windows are in their recordings; None if windows without a recording are stored."""
    if shards.starts is None or (shards.starts < 0).any():
        return None

    def opener(number: int) -> Callable[[], Recording]:
        def opened() -> Recording:
            signal = map_npy(shards.files[number]).T.double().numpy()
            given = shards.facts[number].get("stretches") or [[0, signal.shape[1], 0.0]]
            stretches = tuple(Stretch(int(first), int(stop), float(time)) for first, stop, time in given)
            return Recording(signal, shards.sfreq, tuple(shards.ch_names), stretches=stretches)

        return opened

    return RecordedWindows(
        [opener(number) for number in range(len(shards.files))], shards.shard_of[rows], shards.starts[rows],
        shards.n_times, shards.baselines,
    )  # fmt: skip
