"""Transfer (phase 53): adaptation of a pretrained network to new recordings, units and a new modality.

Three methods use the same windows and the same number of steps: *identified* trains only the embeddings of the new
units, *finetuned* trains all weights from the pretrained ones, *scratch* trains all weights from random ones. A shot is
one labelled window. With 0 shots no behaviour is used: the units are learned from their joint firing, and the score is
the prediction of masked units. Velocity cannot be decoded without labels if the tuning is the same in all directions,
because the pretrained axes could have any rotation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.neurofm.adapt import identify_units
from nbkit.neuro.neurofm.baselines import fit_wiener, r2_score, windows_of
from nbkit.neuro.neurofm.data.batches import SpikeData, hold_out_recordings
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.neurofm.trial import FRACTIONS, one_draw, score, train
from nbkit.neuro.signals.spikes.synthetic import optimal_velocity
from nbkit.neuro.signals.spikes.windows import SpikeShard

WAYS = ("identified", "finetuned", "scratch")
HELD_OUT, OTHER = "held out", "other modality"


@dataclass(frozen=True)
class TransferSettings:
    """Settings of the transfer experiment. The defaults are those of the original plan: 15 and 5 of 20 recordings."""

    recordings: int = 20
    held_share: float = 0.25
    other_recordings: int = 3  # simulated recordings of another modality
    shots: tuple[int, ...] = (0, 1, 2, 5, 10)  # numbers of labelled windows
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 150
    batch_size: int = 8
    lr: float = 1e-3
    identify_lr: float = 1e-2  # training only embeddings allows and needs a higher learning rate
    level: float = 0.9

    @classmethod
    def free(cls) -> TransferSettings:
        """Return settings for one GPU with 16 GB."""
        return cls()

    @classmethod
    def smoke(cls) -> TransferSettings:
        """Return settings for a run of a few seconds on two CPU cores."""
        return cls(recordings=5, held_share=0.4, other_recordings=1, shots=(0, 5), seeds=(0,), steps=20, lr=3e-3)


@dataclass(frozen=True)
class Held:
    """Files of recordings by their use.

    Attributes
    ----------
    pretraining : tuple of Path
        Recordings for pretraining, all of the most frequent modality.
    held : tuple of Path
        Held-out recordings of the same modality.
    other : tuple of Path
        Recordings of other modalities; all are held out.
    """

    pretraining: tuple[Path, ...]
    held: tuple[Path, ...]
    other: tuple[Path, ...]


def hold_out(paths: Sequence[str | Path], settings: TransferSettings, seed: int = 2025) -> Held:
    """Split recordings into those for pretraining, held-out ones, and those of other modalities.

    A fraction ``settings.held_share`` of the recordings of the most frequent modality is held out, and all recordings
    of other modalities.
    """
    modality = {Path(path): SpikeShard(path).modality for path in paths}
    found = list(modality.values())
    most = max(dict.fromkeys(found), key=found.count)
    kept, held = hold_out_recordings([p for p, m in modality.items() if m == most], settings.held_share, seed)
    return Held(tuple(kept), tuple(held), tuple(p for p, m in modality.items() if m != most))


def transfer_rows(held: Held, settings: TransferSettings) -> list[dict[str, Any]]:
    """Return one row for each held-out recording, number of shots and seed; one item runs all three methods."""
    cases = [(HELD_OUT, path) for path in held.held] + [(OTHER, path) for path in held.other]
    return [
        {"key": f"{path.stem}-k{shots}-s{seed}", "kind": kind, "recording": path.stem, "shots": shots, "seed": seed}
        for seed in settings.seeds for kind, path in cases for shots in settings.shots
    ]  # fmt: skip


@dataclass(frozen=True)
class Adaptation:
    """Adapt a pretrained network to a recording by each method and compute the scores; a function of a row.

    Attributes
    ----------
    checkpoint : str
        Path of the pretrained network.
    paths : tuple of str
        Files of windows; a row refers to one by its stem.
    settings : TransferSettings
    accelerator, precision : str
        Arguments of Lightning's Trainer.
    """

    checkpoint: str
    paths: tuple[str, ...]
    settings: TransferSettings
    accelerator: str = "cpu"
    precision: str = "32-true"

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the scores of all methods on the held-out minutes of the recording.

        Parameters
        ----------
        row : mapping
            One of `transfer_rows`.

        Returns
        -------
        result : dict
            The values of the row; ``r2_<method>`` and ``bits_<method>`` (bit/spike); ``r2_wiener`` of a Wiener filter
            fitted to the same labelled windows (NaN without labels); ``r2_possible`` of the optimal decoder (NaN for
            measured recordings); ``bits_untouched`` of the pretrained network before adaptation.
        """
        shots, seed = int(row["shots"]), int(row["seed"])
        path = next(path for path in self.paths if Path(path).stem == row["recording"])
        with one_draw(seed):
            found = {name: row[name] for name in ("key", "kind", "recording")} | {"shots": shots, "seed": seed}
            for way in WAYS:
                module, data = self._begin(way, path, shots, seed)
                if way == WAYS[0]:
                    found["bits_untouched"] = score(module, data.test_dataloader())["bits_per_spike"]
                train(module, data.train_dataloader(), self.accelerator, self.precision)
                scores = score(module, data.test_dataloader())
                found |= {f"r2_{way}": scores["r2"], f"bits_{way}": scores["bits_per_spike"]}
            return found | _rivals(data, shots)

    def _begin(self, way: str, path: str, shots: int, seed: int) -> tuple[Pretrainer, SpikeData]:
        s, pretrained = self.settings, Pretrainer.from_checkpoint(self.checkpoint)
        data = SpikeData(
            [path], s.batch_size, fractions=FRACTIONS, max_units=pretrained.settings.max_units, table=pretrained.table,
            seed=seed,
        )  # fmt: skip
        if shots:
            data.windows[0] = (labelled(data, shots, seed), *data.windows[0][1:])
        lr = s.identify_lr if way == "identified" else s.lr
        settings = replace(
            pretrained.settings, steps=s.steps, warmup_steps=max(1, s.steps // 20), patience_steps=0, accumulate=1,
            batch_size=s.batch_size, lr=lr, min_lr=lr / 10, curriculum_share=0.0,
            behaviour_weight=pretrained.settings.behaviour_weight if shots else 0.0,
        )  # fmt: skip
        if way == "scratch":
            return Pretrainer(settings, data.table), data
        module = Pretrainer(settings, pretrained.table)
        module.load_state_dict(pretrained.state_dict())
        identify_units(module, data)
        if way == "finetuned":
            module.requires_grad_(True)
        return module, data


def labelled(data: SpikeData, shots: int, seed: int) -> np.ndarray:
    """Return the sorted numbers of the labelled windows, drawn at random and the same for every method.

    Raises
    ------
    ValueError
        If the recording has fewer training windows than ``shots``.
    """
    there = data.windows[0][0]
    if shots > len(there):
        raise ValueError(
            f"{shots} shots were requested, but recording {data.shards[0].name} has {len(there)} training windows. Use "
            "fewer shots or longer recordings."
        )
    return np.sort(np.random.default_rng([seed, len(there)]).permutation(there)[:shots])


def _rivals(data: SpikeData, shots: int) -> dict[str, float]:
    shard, (seen, _, asked) = data.shards[0], data.windows[0]
    counts, truth = windows_of(shard, asked)
    wiener = float("nan")
    if shots and shard.task:
        lags = min(shard.n_bins - 1, max(1, round(0.3 / shard.bin_s)))
        wiener = r2_score(truth, fit_wiener(*windows_of(shard, seen), lags=lags)(counts))
    possible = float("nan")
    with np.load(shard.path) as file:
        if not shots and "truth_tuning" in file.files:
            truths = [file[f"truth_{name}"] for name in ("tuning", "base", "tau_s")]
            possible = r2_score(truth, optimal_velocity(counts, shard.bin_s, *truths[:2], float(truths[2])))
    return {"r2_wiener": wiener, "r2_possible": possible}
