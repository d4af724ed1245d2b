"""Finetuning (phase 3): a number a window, from the mean of its tokens.

The network is the pretrained one, every weight of it, or the load is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.labram.backbone import NeuralTransformer, cut_patches
from nbkit.neuro.labram.channels import channel_rows, find_table
from nbkit.neuro.labram.pretrain import make_backbone
from nbkit.neuro.training.regression import WindowRegressor, begin_at_mean
from nbkit.neuro.training.rivals import WithRivals
from nbkit.neuro.training.weights import LoadReport, held, load_strictly, part_of, settings_from

_SHAPE = ("patch", "dim", "heads", "depth", "mlp_ratio", "layer_scale", "qk_norm", "qkv_bias")


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of one finetuning; the defaults are the seed's with LaBraM's recipe.

    The network's shape is taken from the pretrained checkpoint where there is one. Lengths in epochs become steps by
    `counted`; those in steps, where above 0, stand.
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
    dropout: float = 0.0  # before the head
    lr: float = 5e-4
    min_lr: float = 1e-6
    layer_decay: float = 0.65  # of the rate, from each layer to the one below
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
        """The seed's, for all ten releases."""
        return cls()

    @classmethod
    def mini(cls) -> FinetuneSettings:
        """The seed's for release 1 alone: smaller batches, fewer epochs."""
        return cls(batch_size=128, epochs=50, patience_epochs=10)

    @classmethod
    def published(cls) -> FinetuneSettings:
        """The published finetuning: 50 epochs in batches of 64."""
        return cls(batch_size=64, epochs=50, patience_epochs=0)

    @classmethod
    def labram_hub(cls) -> FinetuneSettings:
        """`published` on patches of 200 samples at 200 Hz."""
        return cls(patch=200, batch_size=64, epochs=50, patience_epochs=0)

    @classmethod
    def free(cls) -> FinetuneSettings:
        """For the mini releases on one 16 GB card."""
        return cls(batch_size=128, epochs=30, warmup_epochs=2.0, patience_epochs=8)

    @classmethod
    def smoke(cls) -> FinetuneSettings:
        """For seconds on two CPU cores: the same code, smaller."""
        return cls(
            dim=40, heads=4, depth=2, drop_path=0.0, lr=3e-3, min_lr=3e-4, layer_decay=0.9, batch_size=16, steps=120,
            warmup_steps=12, patience_steps=120,
        )  # fmt: skip


class Regressor(WindowRegressor):
    """Predict one number a window.

    Parameters
    ----------
    settings : FinetuneSettings
        With its steps counted.
    ch_names : sequence of str
    sfreq : float
        In Hz.
    target_scale : (float, float)
        Mean and standard deviation of the training targets; the network learns in units of them.
    target : str
        The batches' column that is to be predicted.
    table : str, optional
        Of channels; the one that knows all names where not given.
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
        self.table, self.layers = table or find_table(ch_names), settings.depth + 1
        self.backbone = make_backbone(settings, self.table)
        self.head = begin_at_mean(nn.Linear(settings.dim, 1))
        self.register_buffer("rows", torch.tensor(channel_rows(ch_names, self.table)), persistent=False)
        self.loaded = LoadReport(0, len(self.backbone.state_dict()), "nothing: random weights")

    @classmethod
    def for_data(
        cls, settings: FinetuneSettings, data: Any, pretrained: str | Path | None = None, target: str = "target"
    ) -> Regressor:
        """Build the module for data, its network from a pretraining's checkpoint.

        With ``pretrained`` None it begins from random weights. ``loaded`` says how many weights were matched.

        Raises
        ------
        ValueError
            If not every weight of the network is in the checkpoint.
        """
        scale = data.target_scale(target)
        if pretrained is None:
            return cls(settings, data.ch_names, data.sfreq, scale, target)
        made, weights = held(pretrained, "labram_pretrain")
        settings = replace(settings, **{name: made["settings"][name] for name in _SHAPE})
        module = cls(settings, data.ch_names, data.sfreq, scale, target, made["table"])
        module.loaded = load_strictly(module.backbone, part_of(weights, "student."), pretrained)
        return module

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> Regressor:
        """Build the module a checkpoint holds, weights and all.

        Raises
        ------
        ValueError
            If the file holds no finetuned model, or one of other weights than this version has.
        """
        made, weights = held(path, "labram_finetune", device)
        settings = settings_from(FinetuneSettings, made, path)
        module = cls(settings, made["ch_names"], made["sfreq"], (0.0, 1.0), made["target"], made["table"])
        module.loaded, module.n_times = load_strictly(module, weights, path), made.get("n_times")
        return module.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["labram_finetune"] = {
            "settings": asdict(self.settings), "ch_names": list(self.ch_names), "sfreq": self.sfreq,
            "n_times": self.n_times, "table": self.table, "target": self.target, "loaded": str(self.loaded),
        }  # fmt: skip

    def outputs(self, windows: Tensor) -> Tensor:
        pooled = mean_token(self.backbone, windows, self.rows)
        return self.head(F.dropout(pooled, self.settings.dropout, self.training)).float()

    def layer_of(self, name: str) -> int:
        return layer_of(name, self.settings.depth)


class ComparedRegressor(WithRivals, Regressor):
    """A `Regressor` beside the same network from random weights."""

    alone = Regressor


def mean_token(backbone: NeuralTransformer, windows: Tensor, rows: Tensor) -> Tensor:
    """Return the mean of all tokens but the class token, shape (batch, dim), of windows in uV."""
    return backbone(cut_patches(windows, backbone.patch), rows)[:, 1:].mean(dim=1)


def layer_of(name: str, depth: int) -> int:
    """Return the layer a weight belongs to: 0 for embeddings, 1 to ``depth`` for the blocks, then norm and head."""
    block = re.match(r"backbone\.blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return depth + 1 if name.startswith(("head.", "backbone.norm.")) else 0
