"""Transfer (phase 53): adaptation of a pretrained network to new recordings, units and a new modality.

A new recording is used as people would use it. All its unlabelled training windows identify its units: they are learned
from their joint activity, without behaviour (unsupervised adaptation). Then a few labelled windows, the shots, train
the head that decodes behaviour. The ways differ in what else may change:

- *identified*: the embeddings of the new units; the head is fitted in closed form to the frozen states of the bins.
- *stitched*: the same, and a matrix that maps the tokens of the recording to the space of the others.
- *lora*: the same as identified, but labels train the network's own head and low-rank matrices in all frozen layers.
- *finetuned*: all weights, from the pretrained ones, and with labels the network's own head.
- *scratch*: all weights, from random ones, on the same windows for the same number of steps.

*Untouched* is the pretrained network before any training on the recording: the only score that may be called zero-shot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.neurofm.adapt import add_lora_to, identify_units
from nbkit.neuro.neurofm.data.batches import SpikeData, hold_out_recordings
from nbkit.neuro.neurofm.decoders.probe import fit_probe
from nbkit.neuro.neurofm.decoders.rivals import BAYES, LDA, WIENER, rivals_of, windows_of
from nbkit.neuro.neurofm.decoders.scores import score_decoding
from nbkit.neuro.neurofm.masked_units import Bits, held_out_bits
from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.neurofm.network.units import NO_TASK
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.neurofm.trial import FRACTIONS, one_draw, train
from nbkit.neuro.neurofm.validate import decode, states_of
from nbkit.neuro.signals.spikes.synthetic import optimal_velocity
from nbkit.neuro.signals.spikes.windows import SpikeShard

WAYS = ("identified", "stitched", "lora", "finetuned", "scratch")
PROBED = ("identified", "stitched")  # ways that keep all that was learned and fit a head in closed form
RIVALS = (WIENER, BAYES, LDA)
HELD_OUT, OTHER = "held out", "other modality"


@checked
@dataclass(frozen=True)
class TransferSettings:
    """Settings of the transfer experiment. The defaults are those of the original plan: 15 and 5 of 20 recordings."""

    recordings: int = 20
    held_share: float = 0.25
    each: bool = False  # hold out every recording in turn, each with its own pretraining in its item
    modality: str = ""  # of the pretraining; "": the most frequent one
    other_recordings: int = 3  # simulated recordings of another modality
    ways: tuple[str, ...] = WAYS
    shots: tuple[int, ...] = (1, 2, 5, 10)  # numbers of labelled windows
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 150  # of the adaptation without labels
    shot_steps: int = 100  # with labels
    batch_size: int = 8
    lr: float = 1e-3
    identify_lr: float = 1e-2  # training only embeddings allows and needs a higher learning rate
    lora_rank: int = 8
    fractions: tuple[float, float, float] = FRACTIONS
    level: float = 0.9

    @classmethod
    def free(cls) -> TransferSettings:
        """Return settings for one GPU with 16 GB."""
        return cls()

    @classmethod
    def smoke(cls) -> TransferSettings:
        """Return settings for a run of a few seconds on two CPU cores."""
        return cls(
            recordings=5, held_share=0.4, other_recordings=1, shots=(5,), seeds=(0,), steps=20, shot_steps=10, lr=3e-3,
            ways=("identified", "lora", "scratch"),
        )  # fmt: skip


@dataclass(frozen=True)
class Held:
    """Files of recordings by their use.

    Attributes
    ----------
    pretraining : tuple of Path
        Recordings for pretraining, all of one modality.
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

    A fraction ``settings.held_share`` of the recordings of the chosen modality is held out, or with ``settings.each``
    every one in turn, so that it is in both parts. All recordings of other modalities are held out.

    Raises
    ------
    ValueError
        If no recording has the chosen modality.
    """
    modality = {Path(path): SpikeShard(path).modality for path in paths}
    found = list(modality.values())
    chosen = settings.modality or max(dict.fromkeys(found), key=found.count)
    own = [path for path, its in modality.items() if its == chosen]
    if not own:
        raise ValueError(f"No recording has the modality {chosen!r}; they have {', '.join(sorted(set(found)))}.")
    other = tuple(path for path, its in modality.items() if its != chosen)
    if settings.each:
        return Held(tuple(own), tuple(own), other)
    if settings.held_share == 0:
        return Held(tuple(own), (), other)
    kept, held = hold_out_recordings(own, settings.held_share, seed)
    return Held(tuple(kept), tuple(held), other)


def transfer_rows(held: Held, settings: TransferSettings) -> list[dict[str, Any]]:
    """Return one row for each held-out recording and seed; one item runs all ways and numbers of shots."""
    cases = [(HELD_OUT, path) for path in held.held] + [(OTHER, path) for path in held.other]
    return [
        {"key": f"{path.stem}-s{seed}", "kind": kind, "recording": path.stem, "seed": seed}
        for seed in settings.seeds for kind, path in cases
    ]  # fmt: skip


@dataclass(frozen=True)
class Adaptation:
    """Adapt a pretrained network to a recording in each way and compute the scores; a function of a row.

    Attributes
    ----------
    checkpoint : str
        Path of the pretrained network.
    paths : tuple of str
        Files of windows; a row refers to one by its stem.
    settings : TransferSettings
    accelerator, precision : str
        Arguments of Lightning's Trainer.
    network : NeuroFMSettings, optional
        Of the pretraining in an item.
    pretraining : tuple of str
        A recording among these gets its own pretraining in its item, on all of them but those of its subject.
    """

    checkpoint: str
    paths: tuple[str, ...]
    settings: TransferSettings
    accelerator: str = "cpu"
    precision: str = "32-true"
    network: NeuroFMSettings | None = None
    pretraining: tuple[str, ...] = ()

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the scores of all ways on the held-out minutes of the recording.

        Parameters
        ----------
        row : mapping
            One of `transfer_rows`.

        Returns
        -------
        result : dict
            The values of the row; ``shots``; for each way ``score_<way>`` (R2, or accuracy of classes) for each number
            of shots, ``bits_<way>`` and ``nlb_<way>`` after the adaptation without labels, over means of training and
            of evaluation; ``bits_untouched`` and ``nlb_untouched``; ``score_<rival>`` fitted to the same labelled
            windows; ``possible``, the score of the optimal decoder (NaN for measured recordings); ``unit`` of the bits
            and ``score_is``.
        """
        seed, s = int(row["seed"]), self.settings
        path = next(path for path in self.paths if Path(path).stem == row["recording"])
        found: dict[str, Any] = {name: row[name] for name in ("key", "kind", "recording")} | {"seed": seed}
        with one_draw(seed):
            pretrained = self._pretrained(path, seed)
            data = self._data(path, pretrained, seed)
            known = data.table.recordings[-1].task != NO_TASK  # False if the pretrained network has no such task
            chosen = [labelled(data, shots, seed) for shots in s.shots] if known else []
            for way in s.ways:
                module = self._begin(way, pretrained, data)
                if "bits_untouched" not in found and way != "scratch":
                    found |= _bits("untouched", held_out_bits(module, data.side("test")))
                train(module, data.train_dataloader(), self.accelerator, self.precision)
                found |= _bits(way, held_out_bits(module, data.side("test")))
                state = {name: value.clone() for name, value in module.state_dict().items()}
                scores = []
                for windows in chosen:
                    if way in PROBED:
                        scores.append(_probed(module, data, windows))
                        continue
                    self._learn_labels(module, way, data, windows, state)
                    scores.append(_decoded(module, data))
                    module = self._begin(way, pretrained, data)
                found[f"score_{way}"] = np.array(scores, float)
        shard = data.shards[0]
        found["shots"] = np.array(s.shots if chosen else (), int)
        found["score_is"] = "accuracy" if shard.classes else "R2"
        return found | _rivals(data, chosen)

    def _pretrained(self, path: str, seed: int) -> Pretrainer:
        if path not in self.pretraining:
            return Pretrainer.from_checkpoint(self.checkpoint)
        own = SpikeShard(path)
        whose = own.subject or own.name
        others = [p for p in self.pretraining if (SpikeShard(p).subject or SpikeShard(p).name) != whose]
        network = self.network or NeuroFMSettings()
        data = SpikeData(
            others, network.batch_size, fractions=self.settings.fractions, max_units=network.max_units,
            shift=network.shift, seed=seed,
        )  # fmt: skip
        module = Pretrainer.for_data(replace(network, patience_steps=0, patience_epochs=0), data)
        train(module, data.train_dataloader(), self.accelerator, self.precision)
        return module.cpu()

    def _data(self, path: str, pretrained: Pretrainer, seed: int) -> SpikeData:
        return SpikeData(
            [path], self.settings.batch_size, fractions=self.settings.fractions,
            max_units=pretrained.settings.max_units, table=pretrained.table, seed=seed,
        )  # fmt: skip

    def _settings(self, pretrained: Pretrainer, way: str, steps: int, labels: bool) -> NeuroFMSettings:
        s = self.settings
        lr = s.identify_lr if way in ("identified", "stitched", "lora") and not labels else s.lr
        weight = max(1.0, pretrained.settings.behaviour_weight) if labels else 0.0
        return replace(
            pretrained.settings, steps=steps, warmup_steps=max(1, steps // 20), patience_steps=0, accumulate=1,
            batch_size=s.batch_size, lr=lr, min_lr=lr / 10, curriculum_share=0.0, behaviour_weight=weight,
            stitch=pretrained.settings.stitch or way == "stitched",
        )  # fmt: skip

    def _begin(self, way: str, pretrained: Pretrainer, data: SpikeData) -> Pretrainer:
        """Return the module of a way before its training without labels."""
        settings = self._settings(pretrained, way, self.settings.steps, labels=False)
        if way == "scratch":
            return Pretrainer(settings, data.table)
        module = Pretrainer(settings, pretrained.table)
        missing = module.load_state_dict(pretrained.state_dict(), strict=False).missing_keys
        assert all(name.endswith("stitch_embed") for name in missing), missing  # those start as the identity
        identify_units(module, data)
        if way == "finetuned":
            module.requires_grad_(True)
        return module

    def _learn_labels(self, module: Pretrainer, way: str, data: SpikeData, windows: np.ndarray, state: dict) -> None:
        """Train with the labelled windows, from the state after the training without labels."""
        module.load_state_dict(state)
        module.settings = self._settings(module, way, self.settings.shot_steps, labels=True)
        module.to("cpu" if self.accelerator == "cpu" else module.device)
        module.requires_grad_(way != "lora")
        if way == "lora":
            add_lora_to(module, self.settings.lora_rank, 2.0 * self.settings.lora_rank)
            module.model.behaviour.requires_grad_(True)
        before = data.windows[0]
        data.windows[0] = (windows, *before[1:])
        train(module, data.train_dataloader(), self.accelerator, self.precision)
        data.windows[0] = before


def adaptations(
    checkpoint: str | Path, held: Held, settings: TransferSettings, network: NeuroFMSettings, accelerator: str,
    precision: str,
) -> Adaptation:  # fmt: skip
    """Return the adaptation of all held-out recordings: from one checkpoint, or each from its own pretraining.

    With ``settings.each`` the checkpoint, which has seen all recordings of its modality, serves other modalities only.
    """
    paths = tuple(map(str, (*held.held, *held.other)))
    own = tuple(map(str, held.pretraining)) if settings.each else ()
    return Adaptation(str(checkpoint), paths, settings, accelerator, precision, network, own)


def labelled(data: SpikeData, shots: int, seed: int) -> np.ndarray:
    """Return the sorted numbers of the labelled windows, drawn at random and the same for every way.

    More shots hold all windows of fewer shots. Of classes, one window of each is drawn before the next of any.

    Raises
    ------
    ValueError
        If the recording has fewer training windows with a known behaviour than ``shots``.
    """
    shard, there = data.shards[0], data.windows[0][0]
    known = np.isfinite(shard.behaviour[there]).all(axis=2).any(axis=1) if shard.task else np.ones(len(there), bool)
    there = there[known]
    if shots > len(there):
        raise ValueError(
            f"{shots} shots were requested, but recording {shard.name} has {len(there)} training windows with a known "
            "behaviour. Use fewer shots or longer recordings."
        )
    order = np.random.default_rng([seed, len(there)]).permutation(len(there))
    if shard.classes:
        label = np.nan_to_num(shard.behaviour[there]).sum(axis=1).argmax(axis=1)[order]
        turn = np.array([np.sum(label[:place] == kind) for place, kind in enumerate(label)])
        order = order[np.argsort(turn, kind="stable")]
    return np.sort(there[order[:shots]])


def _bits(way: str, bits: Mapping[str, Bits]) -> dict[str, Any]:
    (found,) = bits.values()
    return {f"bits_{way}": found.over_training, f"nlb_{way}": found.over_evaluated, "unit": found.unit}


def _decoded(module: Pretrainer, data: SpikeData) -> float:
    shard, asked = data.shards[0], data.windows[0][2]
    (answer,) = decode(module, data.side("test")).values()
    return score_decoding(shard, "", windows_of(shard, asked)[1], answer).value


def _probed(module: Pretrainer, data: SpikeData, windows: np.ndarray) -> float:
    """Return the score of a head that is fitted in closed form to the states of the labelled windows."""
    shard, asked = data.shards[0], data.windows[0][2]
    states = {}
    before = data.windows[0]
    for name, chosen in (("labelled", windows), ("asked", asked)):
        data.windows[0] = (*before[:2], chosen)
        states[name] = states_of(module, data.side("test"))
    data.windows[0] = before
    truth = windows_of(shard, asked)[1]
    decoded = fit_probe(states["labelled"], windows_of(shard, windows)[1], states["asked"], truth, bool(shard.classes))
    return score_decoding(shard, "", truth, decoded).value


def _rivals(data: SpikeData, chosen: Sequence[np.ndarray]) -> dict[str, Any]:
    shard, asked = data.shards[0], data.windows[0][2]
    found: dict[str, list[float]] = {}
    for windows in chosen:
        truth = windows_of(shard, asked, windows)[1]
        for name, answer in rivals_of(shard, windows, asked, RIVALS).items():
            found.setdefault(f"score_{name}", []).append(score_decoding(shard, name, truth, answer).value)
    possible = float("nan")
    with np.load(shard.path) as file:
        if "truth_tuning" in file.files:
            truths = [file[f"truth_{name}"] for name in ("tuning", "base", "tau_s")]
            counts, truth = windows_of(shard, asked)
            best = optimal_velocity(counts, shard.bin_s, *truths[:2], float(truths[2]))
            possible = score_decoding(shard, "", truth, best).value
    return {name: np.array(values) for name, values in found.items()} | {"possible": possible}
