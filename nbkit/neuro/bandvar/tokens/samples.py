"""Windows generated for every class, and what is to be said of them.

Each is asked for with the subject and task of a training window of its class, so that generated and real windows are
of the same mixture.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nbkit.neuro.bandvar.data import EEGFrequencyDataset
from nbkit.neuro.bandvar.tokens.generated_scores import PowerClassifier, judge, spectrum_gap
from nbkit.neuro.bandvar.tokens.generator_training import GeneratorTraining
from nbkit.neuro.bandvar.tokens.missing_power import MissingPower
from nbkit.neuro.bandvar.tokens.token_data import TokenData


@dataclass(frozen=True)
class Samples:
    """Generated windows.

    Attributes
    ----------
    asked : str array of shape (windows,)
        The class each was asked to be.
    tokens : array of shape (windows, tokens)
    levels : array of shape (windows, scales, channels, time)
        Cumulative bands, the decoder's mean, in uV.
    signal : array of shape (windows, channels, time)
        The last level with the power that decoders leave out, in uV.
    """

    asked: np.ndarray
    tokens: np.ndarray
    levels: np.ndarray
    signal: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """Return the windows that were asked to be of a class."""
        return self.signal[self.asked == name]


def draw_samples(
    module: GeneratorTraining,
    data: TokenData,
    each: int = 100,
    seed: int = 2025,
    missing: MeasuredPower | None = None,
    **options: Any,
) -> Samples:
    """Generate ``each`` windows of every class; the same call gives the same windows.

    Parameters
    ----------
    module : GeneratorTraining
    data : TokenData
        Its training windows give subjects and tasks.
    each, seed : int
    missing : MeasuredPower, optional
        By class; what the tokenizer's training measured, alike for all classes, where not given.
    **options
        Of `generate_tokens`: guidance, top_k, top_p, temperature.

    Raises
    ------
    ValueError
        If training knew no class.
    """
    classes, known = module.conditions.classes, data.train.tensors[1]
    if not classes:
        raise ValueError("This generator knows no class: its windows had no event that class_of names.")
    generator = torch.Generator(module.frequency.device).manual_seed(seed)
    places = torch.Generator().manual_seed(seed)
    chosen = []
    for number in range(1, len(classes) + 1):
        rows = known[known[:, 0] == number]
        chosen.append(rows[torch.randint(len(rows), (each,), generator=places)])
    was_training = module.training
    module.eval()
    tokens, levels = module.generate(torch.cat(chosen), generator=generator, **options)
    if missing is None:
        signal = module.with_missing_power(levels[:, -1], generator).cpu()
    else:
        noise = torch.cat([missing.of_class[name].draw(each, places) for name in classes])
        signal = levels[:, -1].cpu() + noise
    module.train(was_training)
    asked = np.repeat(np.array(classes), each)
    return Samples(asked, tokens.cpu().numpy(), levels.cpu().numpy(), signal.numpy())


@dataclass(frozen=True)
class MeasuredPower:
    """The power that a generator's windows miss, by class, and how far off they were without it.

    Attributes
    ----------
    of_class : dict
        Class to `MissingPower`.
    gap_before : float
        Largest difference of spectra from 1 to 40 Hz with what the tokenizer's training had measured, in dB.
    """

    of_class: dict[str, MissingPower]
    gap_before: float


def measure_missing_power(
    module: GeneratorTraining, data: TokenData, each: int = 200, seed: int = 0, **options: Any
) -> MeasuredPower:
    """Measure the missing power on windows that the generator draws, against training windows of the same class.

    Codes drawn one by one fit together less well than those of a recording, slow waves above all, so that more power
    is missing than the tokenizer's training saw; and what tokens cannot hold may differ between classes. Held-out
    windows are not looked at.

    Parameters
    ----------
    module : GeneratorTraining
        Stays as it is.
    data : TokenData
    each : int
        Windows to draw of every class.
    seed : int
        Another than that of the windows that are judged.
    **options
        As for `draw_samples`.
    """
    samples, real = draw_samples(module, data, each, seed, **options), RealWindows.of(data, limit=2000)
    gap = np.abs(spectrum_gap(samples.signal, real.signal, data.windows.sfreq)[1]).max()
    order = torch.Generator().manual_seed(seed)
    measured = {}
    for name in module.conditions.classes:
        drawn = torch.from_numpy(samples.levels[samples.asked == name, -1])
        true = torch.from_numpy(real.signal[real.classes == name])
        missing = deepcopy(module.coder.missing).cpu()
        missing.reset()
        for _ in range(60):  # the averages run over some hundred batches
            ours, theirs = (x[torch.randint(len(x), (32,), generator=order)] for x in (drawn, true))
            missing.update(theirs, ours)
        measured[name] = missing
    return MeasuredPower(measured, float(gap))


@dataclass(frozen=True)
class RealWindows:
    """Real windows beside the generated ones: signal (windows, channels, time) in uV, classes and tokens."""

    signal: np.ndarray
    classes: np.ndarray
    tokens: np.ndarray

    @classmethod
    def of(cls, data: TokenData, held_out: bool = False, limit: int = 1000) -> RealWindows:
        """Take training or held-out windows of a `TokenData`, evenly spaced where there are more than ``limit``."""
        dataset: EEGFrequencyDataset = data.windows.val_dataset if held_out else data.windows.train_dataset
        tokens, chosen = (data.val if held_out else data.train).tensors
        rows = np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).round().astype(int)
        names = np.array(["", *data.conditions.classes])
        signal = np.stack([dataset[int(row)][-1].numpy() for row in rows])
        return cls(signal, names[chosen[rows, 0].numpy()], tokens[rows].numpy())


def judge_samples(samples: Samples, train: RealWindows, held_out: RealWindows, sfreq: float) -> dict[str, float]:
    """Score generated windows against real ones, as `judge` does."""
    return judge(
        generated=samples.signal,
        decoder_alone=samples.levels[:, -1],
        asked=samples.asked,
        tokens=samples.tokens,
        train=train.signal,
        train_classes=train.classes,
        train_tokens=train.tokens,
        held_out=held_out.signal,
        held_out_classes=held_out.classes,
        held_out_tokens=held_out.tokens,
        sfreq=sfreq,
    )


def verdicts(samples: Samples, train: RealWindows, sfreq: float) -> dict[str, np.ndarray]:
    """Give, for each class that was asked for, what a classifier of real training windows takes each window for."""
    known = train.classes != ""
    classifier = PowerClassifier(sfreq).fit(train.signal[known], train.classes[known])
    return {str(name): classifier.says(samples.of(name)) for name in np.unique(samples.asked)}
