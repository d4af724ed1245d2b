"""Generate windows of every class and compare them with real windows.

Each window is generated with the subject and task of a random training window of its class, so that generated and real
windows have the same mixture of subjects and tasks.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nbkit.neuro.bandvar.data import EEGFrequencyDataset
from nbkit.neuro.bandvar.tokens.generated_scores import PowerClassifier, judge, mean_spectrum, spectrum_gap
from nbkit.neuro.bandvar.tokens.generator_training import GeneratorTraining
from nbkit.neuro.bandvar.tokens.missing_power import MissingPower
from nbkit.neuro.bandvar.tokens.token_data import TokenData


@dataclass(frozen=True)
class Samples:
    """Generated windows.

    Attributes
    ----------
    asked : str array of shape (windows,)
        Class for which each window was generated.
    tokens : array of shape (windows, tokens)
    levels : array of shape (windows, scales, channels, time)
        Cumulative bands as decoded, in uV.
    alone : array of shape (windows, channels, time)
        The last level with the spectrum of training windows, by amplification alone: no noise is added. In uV.
    signal : array of shape (windows, channels, time)
        The last level with the missing power added as noise, in uV.
    """

    asked: np.ndarray
    tokens: np.ndarray
    levels: np.ndarray
    alone: np.ndarray
    signal: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """Return the windows generated for a class, array of shape (windows, channels, time) in uV."""
        return self.signal[self.asked == name]


def draw_samples(
    module: GeneratorTraining,
    data: TokenData,
    each: int = 100,
    seed: int = 2025,
    missing: MeasuredPower | None = None,
    **options: Any,
) -> Samples:
    """Generate ``each`` windows of every class. The same arguments give the same windows.

    Parameters
    ----------
    module : GeneratorTraining
    data : TokenData
        Subjects and tasks are drawn from its training windows.
    each : int
        Windows for each class.
    seed : int
        Seed of the random numbers.
    missing : MeasuredPower, optional
        Missing power of each class. By default the power measured in the tokenizer training, which is the same for all
        classes.
    **options
        Passed to `generate_tokens`: guidance, top_k, top_p, temperature.

    Returns
    -------
    samples : Samples

    Raises
    ------
    ValueError
        If the generator was trained without classes.
    """
    classes, known = module.conditions.classes, data.train.tensors[1]
    if not classes:
        raise ValueError(
            "This generator has no classes: none of its training windows has an event label that class_of names. Train "
            "it again with a class_of for the labels of your windows."
        )
    generator = torch.Generator(module.frequency.device).manual_seed(seed)
    places = torch.Generator().manual_seed(seed)
    chosen = []
    for number in range(1, len(classes) + 1):
        rows = known[known[:, 0] == number]
        chosen.append(rows[torch.randint(len(rows), (each,), generator=places)])
    was_training = module.training
    module.eval()
    tokens, levels = module.generate(torch.cat(chosen), generator=generator, **options)
    whole = module.coder.missing if missing is None else missing.whole.to(levels.device)
    alone = whole.equalised(levels[:, -1]).cpu()
    if missing is None:
        signal = module.with_missing_power(levels[:, -1], generator).cpu()
    else:
        noise = torch.cat([missing.of_class[name].draw(each, places) for name in classes])
        signal = levels[:, -1].cpu() + noise
    module.train(was_training)
    asked = np.repeat(np.array(classes), each)
    return Samples(asked, tokens.cpu().numpy(), levels.cpu().numpy(), alone.numpy(), signal.numpy())


@dataclass(frozen=True)
class MeasuredPower:
    """Missing power of generated windows for each class, and the spectral error before this correction.

    Attributes
    ----------
    of_class : dict of str to MissingPower
        Missing power of each class.
    whole : MissingPower
        That of all classes together; the gain that it gives is the same for all of them.
    gap_before : float
        Largest spectral difference from 1 to 40 Hz with the missing power of the tokenizer training, in dB.
    """

    of_class: dict[str, MissingPower]
    whole: MissingPower
    gap_before: float


def measure_missing_power(
    module: GeneratorTraining, data: TokenData, each: int = 200, seed: int = 0, **options: Any
) -> MeasuredPower:
    """Measure the missing power of generated windows against training windows of the same class.

    Independently drawn codes fit together less well than the codes of a recording, above all for slow waves, so that
    generated windows miss more power than the tokenizer training measured. The missing power may also differ between
    classes. Held-out windows are not used.

    Parameters
    ----------
    module : GeneratorTraining
        Not changed.
    data : TokenData
    each : int
        Windows to generate for each class.
    seed : int
        Seed of the random numbers; must differ from the seed of the windows to be scored.
    **options
        Passed to `draw_samples`.

    Returns
    -------
    measured : MeasuredPower
    """
    samples, real = draw_samples(module, data, each, seed, **options), RealWindows.of(data, limit=2000)
    gap = np.abs(spectrum_gap(samples.signal, real.signal, data.windows.sfreq)[1]).max()
    order = torch.Generator().manual_seed(seed)

    def between(drawn: np.ndarray, true: np.ndarray) -> MissingPower:
        missing = deepcopy(module.coder.missing).cpu()
        missing.reset()
        pair = torch.from_numpy(drawn), torch.from_numpy(true)
        for _ in range(60):  # several updates, because the running averages have a time constant of 100 batches
            ours, theirs = (x[torch.randint(len(x), (32,), generator=order)] for x in pair)
            missing.update(theirs, ours)
        return missing

    known = real.classes != ""
    measured = {
        name: between(samples.levels[samples.asked == name, -1], real.signal[real.classes == name])
        for name in module.conditions.classes
    }
    whole = between(samples.levels[:, -1], real.signal[known])
    for _ in range(
        4
    ):  # tapered spectra hide what leaks into the gaps between bands, so the gains approach them in steps
        alone = whole.equalised(torch.from_numpy(samples.levels[:, -1])).numpy()
        ours, theirs = (mean_spectrum(one, data.windows.sfreq)[1].mean(axis=0) for one in (alone, real.signal[known]))
        step = np.sqrt(theirs / np.maximum(ours, 1e-12)).clip(0.3, 3.0)
        whole.trim.mul_(torch.from_numpy(step).to(whole.trim)).clamp_(0.1, 10.0)
    return MeasuredPower(measured, whole, float(gap))


@dataclass(frozen=True)
class RealWindows:
    """Real windows for comparison with generated ones.

    Attributes
    ----------
    signal : array of shape (windows, channels, time)
        In uV.
    classes : str array of shape (windows,)
        "" where a window has no class.
    tokens : array of shape (windows, tokens)
    """

    signal: np.ndarray
    classes: np.ndarray
    tokens: np.ndarray

    @classmethod
    def of(cls, data: TokenData, held_out: bool = False, limit: int = 1000) -> RealWindows:
        """Return training or held-out windows of a `TokenData`, at most ``limit``, evenly spaced."""
        dataset: EEGFrequencyDataset = data.windows.val_dataset if held_out else data.windows.train_dataset
        tokens, chosen = (data.val if held_out else data.train).tensors
        rows = np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).round().astype(int)
        names = np.array(["", *data.conditions.classes])
        signal = np.stack([dataset[int(row)][-1].numpy() for row in rows])
        return cls(signal, names[chosen[rows, 0].numpy()], tokens[rows].numpy())


def judge_samples(samples: Samples, train: RealWindows, held_out: RealWindows, sfreq: float) -> dict[str, float]:
    """Return the scores of generated windows against real windows (see `judge`)."""
    return judge(
        generated=samples.signal,
        decoder_alone=samples.alone,
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
    """Classify generated windows with a classifier fitted to real training windows.

    Returns
    -------
    predicted : dict of str to array of shape (windows,)
        For each class, the predicted classes of the windows that were generated for it.
    """
    known = train.classes != ""
    classifier = PowerClassifier(sfreq).fit(train.signal[known], train.classes[known])
    return {str(name): classifier.says(samples.of(name)) for name in np.unique(samples.asked)}
