"""Transfer (phase 53): what a pretrained network is worth on recordings, units and a modality it has never seen.

Three ways on the same windows for the same steps: *identified* learns the new units' embeddings and leaves every shared
weight alone, *finetuned* learns all from the pretrained weights, *scratch* learns all from random ones. A shot is one
labelled window. With 0 shots no behaviour is shown, and units are learned from how they fire together; what is scored
then is how well hidden units are foretold. Velocity cannot be decoded without a label where tuning looks the same from
every side: the pretrained axes could lie any way around.
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
    """What is held out, how much is shown, and how long is adapted; the defaults are the seed's 15 and 5 of 20."""

    recordings: int = 20
    held_share: float = 0.25
    other_recordings: int = 3  # of another modality, where they are made up
    shots: tuple[int, ...] = (0, 1, 2, 5, 10)  # labelled windows
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 150
    batch_size: int = 8
    lr: float = 1e-3
    identify_lr: float = 1e-2  # embeddings alone bear, and need, larger steps
    level: float = 0.9

    @classmethod
    def free(cls) -> TransferSettings:
        """For one 16 GB card."""
        return cls()

    @classmethod
    def smoke(cls) -> TransferSettings:
        """For seconds on two CPU cores."""
        return cls(recordings=5, held_share=0.4, other_recordings=1, shots=(0, 5), seeds=(0,), steps=20, lr=3e-3)


@dataclass(frozen=True)
class Held:
    """Recordings by what they are for.

    Attributes
    ----------
    pretraining : tuple of Path
    held : tuple of Path
        Of the same modality.
    other : tuple of Path
        Of another modality than most.
    """

    pretraining: tuple[Path, ...]
    held: tuple[Path, ...]
    other: tuple[Path, ...]


def hold_out(paths: Sequence[str | Path], settings: TransferSettings, seed: int = 2025) -> Held:
    """Keep some recordings of the commonest modality, and all of other ones, from the pretraining."""
    modality = {Path(path): SpikeShard(path).modality for path in paths}
    found = list(modality.values())
    most = max(dict.fromkeys(found), key=found.count)
    kept, held = hold_out_recordings([p for p, m in modality.items() if m == most], settings.held_share, seed)
    return Held(tuple(kept), tuple(held), tuple(p for p, m in modality.items() if m != most))


def transfer_rows(held: Held, settings: TransferSettings) -> list[dict[str, Any]]:
    """Return a row a recording, number of shots and seed; all ways of it are one item."""
    cases = [(HELD_OUT, path) for path in held.held] + [(OTHER, path) for path in held.other]
    return [
        {"key": f"{path.stem}-k{shots}-s{seed}", "kind": kind, "recording": path.stem, "shots": shots, "seed": seed}
        for seed in settings.seeds for kind, path in cases for shots in settings.shots
    ]  # fmt: skip


@dataclass(frozen=True)
class Adaptation:
    """Adapt a pretrained network to a recording in every way, and score it there: a plain function of a row.

    Attributes
    ----------
    checkpoint : str
        Of the pretrained network.
    paths : tuple of str
        Files of windows; a row names one by its stem.
    settings : TransferSettings
    accelerator, precision : str
        As Lightning names them.
    """

    checkpoint: str
    paths: tuple[str, ...]
    settings: TransferSettings
    accelerator: str = "cpu"
    precision: str = "32-true"

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the scores of every way on the recording's later minutes.

        Returns
        -------
        result : dict
            The row's own values; ``r2_<way>``, ``bits_<way>``; ``r2_wiener`` fitted on the same labelled windows (not
            a number without any) and ``r2_possible``, the best decoder's (not a number for measured recordings);
            ``bits_untouched``, of the pretrained network before any learning.
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
    """Draw the windows that are shown with their labels, the same for every way.

    Raises
    ------
    ValueError
        Where the recording has fewer.
    """
    there = data.windows[0][0]
    if shots > len(there):
        raise ValueError(
            f"Recording {data.shards[0].name} has {len(there)} training windows, and {shots} shots are asked for. Take "
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
