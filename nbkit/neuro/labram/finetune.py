"""Finetune LaBraM (phase 3): predict one number per window, or its class, from the mean of its tokens.

The network is the pretrained one; loading fails unless every weight matches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.ground.fields import checked
from nbkit.neuro.labram.backbone import NeuralTransformer, cut_patches
from nbkit.neuro.labram.channels import channel_rows, find_table
from nbkit.neuro.labram.pretrain import make_backbone
from nbkit.neuro.signals.seen import exposure, seen_of, seen_together
from nbkit.neuro.training.classification import WindowClassifier
from nbkit.neuro.training.regression import WindowRegressor, begin_at_mean
from nbkit.neuro.training.rivals import WithRivals
from nbkit.neuro.training.weights import LoadReport, held, load_strictly, part_of, settings_from
from nbkit.neuro.training.window_module import WindowModule, check_numbers, column_of, test_subjects_of

KIND = "labram_finetune"
_SHAPE = ("patch", "dim", "heads", "depth", "mlp_ratio", "layer_scale", "qk_norm", "qkv_bias")


@checked
@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of a finetuning; the defaults are those of the seed project with LaBraM's recipe.

    The network's shape is taken from the pretrained checkpoint if there is one. `counted` turns lengths in epochs into
    steps; a length in steps above 0 takes precedence.
    """

    patch: int = 100
    dim: int = 200
    heads: int = 10
    depth: int = 12
    mlp_ratio: float = 4.0
    layer_scale: float = 0.1
    qk_norm: bool = True
    qkv_bias: bool = False
    drop_path: float = 0.1
    dropout: float = 0.0  # of the mean token, before the head
    lr: float = 5e-4
    min_lr: float = 1e-6
    layer_decay: float = 0.65  # factor of the learning rate from each layer to the one below
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0
    batch_size: int = 512
    epochs: int = 100
    warmup_epochs: float = 5.0
    patience_epochs: int = 20
    steps: int = 0
    warmup_steps: int = 0
    patience_steps: int = 0

    @classmethod
    def full(cls) -> FinetuneSettings:
        """Return the seed project's settings for all ten releases."""
        return cls()

    @classmethod
    def mini(cls) -> FinetuneSettings:
        """Return the seed project's settings for release 1 alone: smaller batches, fewer epochs."""
        return cls(batch_size=128, epochs=50, patience_epochs=10)

    @classmethod
    def published(cls) -> FinetuneSettings:
        """Return the published finetuning: 50 epochs in batches of 64."""
        return cls(batch_size=64, epochs=50, patience_epochs=0)

    @classmethod
    def labram_hub(cls) -> FinetuneSettings:
        """Return `published` with patches of 200 samples at 200 Hz."""
        return cls(patch=200, batch_size=64, epochs=50, patience_epochs=0)

    @classmethod
    def free(cls) -> FinetuneSettings:
        """Return settings for the mini releases on one 16 GB GPU."""
        return cls(batch_size=128, epochs=30, warmup_epochs=2.0, patience_epochs=8)

    @classmethod
    def smoke(cls) -> FinetuneSettings:
        """Return small settings for a test of seconds on two CPU cores; the code is the same."""
        return cls(
            dim=40, heads=4, depth=2, drop_path=0.0, lr=3e-3, min_lr=3e-4, layer_decay=0.9, batch_size=16, steps=120,
            warmup_steps=12, patience_steps=120,
        )  # fmt: skip


class _FinetunedLaBraM(WindowModule):
    """The network: the mean of its tokens, and a linear map to the outputs."""

    kind = KIND

    def _build(self, table: str | None, outputs: int) -> None:
        self.table, self.layers = table or find_table(self.ch_names), self.settings.depth + 1
        self.backbone = make_backbone(self.settings, self.table)
        self.head = begin_at_mean(nn.Linear(self.settings.dim, outputs))
        self.register_buffer("rows", torch.tensor(channel_rows(self.ch_names, self.table)), persistent=False)
        self.loaded = LoadReport(0, len(self.backbone.state_dict()), "nothing: random weights")

    @classmethod
    def _begin(cls, settings: FinetuneSettings, data: Any, pretrained: str | Path | None, *learned: Any) -> Any:
        if pretrained is None:
            module = cls(settings, data.ch_names, data.sfreq, *learned)
        else:
            made, weights = held(pretrained, "labram_pretrain")
            settings = replace(settings, **{name: made["settings"][name] for name in _SHAPE})
            module = cls(settings, data.ch_names, data.sfreq, *learned, made["table"])
            report = load_strictly(module.backbone, part_of(weights, "student."), pretrained)
            module.loaded = replace(report, exposure=exposure(seen_of(made), test_subjects_of(data)))
            module.seen = seen_of(made) or ()
        module.seen = seen_together(module.seen, getattr(data, "seen", None))
        module.column = column_of(data)
        return module

    @classmethod
    def _restore(cls, made: Mapping[str, Any], weights: Mapping[str, Tensor], path: str | Path, *learned: Any) -> Any:
        settings = settings_from(FinetuneSettings, made, path)
        module = cls(settings, made["ch_names"], made["sfreq"], *learned, made["target"], made["table"])
        module.loaded, module.n_times = load_strictly(module, weights, path), made.get("n_times")
        module.column, module.seen = made.get("column", ""), seen_of(made) or ()
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KIND] = {
            "settings": asdict(self.settings), "ch_names": list(self.ch_names), "sfreq": self.sfreq,
            "n_times": self.n_times, "table": self.table, "target": self.target, "loaded": str(self.loaded),
            "seen": list(self.seen), **self.learns(),
        }  # fmt: skip

    def outputs(self, windows: Tensor) -> Tensor:
        pooled = mean_token(self.backbone, windows, self.rows)
        return self.head(F.dropout(pooled, self.settings.dropout, self.training)).float()

    def layer_of(self, name: str) -> int:
        return layer_of(name, self.settings.depth)


class Regressor(_FinetunedLaBraM, WindowRegressor):
    """Lightning module that predicts one number per window.

    Parameters
    ----------
    settings : FinetuneSettings
        With lengths in steps (see `counted`).
    ch_names : sequence of str
        Channels of the windows, in order.
    sfreq : float
        Sampling rate, in Hz.
    target_scale : (float, float)
        Mean and standard deviation of the training targets, by which the network's target is standardised.
    target : str
        Column of the batches to predict.
    table : str, optional
        Table of channel names; by default the one that holds all of them.
    """

    def __init__(
        self,
        settings: FinetuneSettings,
        ch_names: Sequence[str],
        sfreq: float,
        target_scale: tuple[float, float] = (0.0, 1.0),
        target: str = "target",
        table: str | None = None,
    ) -> None:
        super().__init__(settings, ch_names, sfreq, (target_scale,), (target,), target)
        self._build(table, 1)

    @classmethod
    def for_data(
        cls, settings: FinetuneSettings, data: Any, pretrained: str | Path | None = None, target: str = "target"
    ) -> Regressor:
        """Return a module for data, with the network of a pretraining checkpoint.

        Parameters
        ----------
        settings : FinetuneSettings
        data : WindowData
            Data with ``ch_names``, ``sfreq`` and ``target_scale``.
        pretrained : str or Path, optional
            The checkpoint; None starts from random weights.
        target : str
            Column of the batches to predict.

        Returns
        -------
        module : Regressor
            Its ``loaded`` reports how many weights matched.

        Raises
        ------
        ValueError
            If a weight of the network is missing in the checkpoint.
        """
        return cls._begin(settings, data, pretrained, data.target_scale(target), target)

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> Regressor:
        """Load the module of a checkpoint, with its weights.

        Raises
        ------
        ValueError
            If the file holds no finetuned model of numbers, or its weights do not match this version.
        """
        made, weights = held(path, KIND, device)
        check_numbers(made, path)
        return cls._restore(made, weights, path, (0.0, 1.0)).to(device)


class Classifier(_FinetunedLaBraM, WindowClassifier):
    """Lightning module that tells the classes of windows apart.

    Parameters
    ----------
    settings : FinetuneSettings
    ch_names : sequence of str
    sfreq : float
    classes : sequence of str
        Names of the classes, by number.
    weights : sequence of float, optional
        Weight of each class in the loss.
    target : str
        Column of the batches with class numbers.
    table : str, optional
        As in `Regressor`.
    """

    def __init__(
        self,
        settings: FinetuneSettings,
        ch_names: Sequence[str],
        sfreq: float,
        classes: Sequence[str],
        weights: Sequence[float] | None = None,
        target: str = "target",
        table: str | None = None,
    ) -> None:
        super().__init__(settings, ch_names, sfreq, classes, weights, target)
        self._build(table, len(self.classes))

    @classmethod
    def for_data(cls, settings: FinetuneSettings, data: Any, pretrained: str | Path | None = None) -> Classifier:
        """Return a module for data with ``classes``, with the network of a pretraining checkpoint."""
        return cls._begin(settings, data, pretrained, data.classes, data.class_weights(), "target")

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> Classifier:
        """Load the module of a checkpoint, with its classes and weights."""
        made, weights = held(path, KIND, device)
        return cls._restore(made, weights, path, made["classes"], None).to(device)


class ComparedRegressor(WithRivals, Regressor):
    """`Regressor` trained next to the same network with random initial weights."""

    alone = Regressor


class ComparedClassifier(WithRivals, Classifier):
    """`Classifier` trained next to the same network with random initial weights."""

    alone = Classifier


def finetuning_for(settings: FinetuneSettings, data: Any, pretrained: str | Path | None = None) -> WithRivals:
    """Return the module for the target of data, classes or numbers, with its rival from random weights."""
    kind = ComparedClassifier if data.classes else ComparedRegressor
    return kind.for_data(settings, data, pretrained)


def load_finetuned(path: str | Path, device: str = "cpu") -> Regressor | Classifier:
    """Load the finetuned model of a checkpoint, whatever it predicts."""
    kind = Classifier if held(path, KIND, device)[0].get("classes") else Regressor
    return kind.from_checkpoint(path, device)


def mean_token(backbone: NeuralTransformer, windows: Tensor, rows: Tensor) -> Tensor:
    """Return the mean of all tokens except the class token, shape (batch, dim), for windows in uV."""
    return backbone(cut_patches(windows, backbone.patch), rows)[:, 1:].mean(dim=1)


def layer_of(name: str, depth: int) -> int:
    """Return the layer of a weight: 0 for embeddings, 1 to ``depth`` for blocks, then final norm and head."""
    block = re.match(r"backbone\.blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return depth + 1 if name.startswith(("head.", "backbone.norm.")) else 0
