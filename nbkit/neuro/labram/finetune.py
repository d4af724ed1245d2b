"""Finetuning (phase 3): a number a window, from the mean of its tokens.

`val_nrmse` is over the whole validation set at once, as the challenge scores it, never a mean over batches; predicting
the mean scores 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.labram.backbone import cut_patches
from nbkit.neuro.labram.channels import channel_rows, find_table
from nbkit.neuro.nn.weights import LoadReport, held, load_strictly, part_of, settings_from
from nbkit.neuro.labram.pretrain import make_backbone
from nbkit.neuro.nn.schedule import Patience, check_batch, make_optimizer

MONITOR = "val_nrmse"
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


class Regressor(lightning.LightningModule):
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
        super().__init__()
        mean, deviation = target_scale
        if not deviation > 0:
            raise ValueError(f"{target_scale=}: the training targets do not differ, so there is nothing to predict.")
        self.settings, self.ch_names, self.sfreq = settings, tuple(ch_names), float(sfreq)
        self.table, self.target = table or find_table(ch_names), target
        self.backbone = make_backbone(settings, self.table)
        self.head = nn.Linear(settings.dim, 1)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)  # begin at the mean, which scores 1.0
        nn.init.zeros_(self.head.bias)
        self.register_buffer("target_mean", torch.tensor(float(mean)))
        self.register_buffer("target_deviation", torch.tensor(float(deviation)))
        self.register_buffer("rows", torch.tensor(channel_rows(ch_names, self.table)), persistent=False)
        self.loaded = LoadReport(0, len(self.backbone.state_dict()), "nothing: random weights")
        self._sums: Tensor | None = None

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
        module.loaded = load_strictly(module, weights, path)
        return module.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["labram_finetune"] = {
            "settings": asdict(self.settings), "ch_names": list(self.ch_names), "sfreq": self.sfreq,
            "table": self.table, "target": self.target, "loaded": str(self.loaded),
        }  # fmt: skip

    def configure_callbacks(self) -> list[lightning.Callback]:
        steps = self.settings.patience_steps
        return [Patience(MONITOR, steps)] if steps else []

    def on_before_batch_transfer(self, batch: Mapping[str, Any], dataloader_idx: int) -> Mapping[str, Any]:
        check_batch(batch, (self.target,))
        return batch

    def forward(self, windows: Tensor) -> Tensor:
        """Predict the target, shape (batch, 1) in its own unit, of windows of shape (batch, channels, time) in uV."""
        return self._standard(windows) * self.target_deviation + self.target_mean

    def _standard(self, windows: Tensor) -> Tensor:
        tokens = self.backbone(cut_patches(windows, self.settings.patch), self.rows)[:, 1:]
        return self.head(F.dropout(tokens.mean(dim=1), self.settings.dropout, self.training)).float()

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        target = batch[self.target].float()
        loss = F.mse_loss(self._standard(batch["window"])[:, 0], (target - self.target_mean) / self.target_deviation)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = None

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        true = batch[self.target].double() - self.target_mean
        error = self(batch["window"])[:, 0].double() - self.target_mean - true
        sums = torch.stack([torch.ones_like(true), error.square(), true, true.square()]).sum(dim=1)
        self._sums = sums if self._sums is None else self._sums + sums

    def on_validation_epoch_end(self) -> None:
        if self._sums is None:
            return
        count, error, first, second = self.all_gather(self._sums).reshape(-1, 4).sum(dim=0)
        spread = (second / count - (first / count).square()).sqrt()  # of the population, as the challenge has it
        rmse = (error / count).sqrt()
        self.log_dict(
            {
                MONITOR: (rmse / spread).float(),
                "val_rmse": rmse.float(),
                "val_nrmse_training_mean": ((second / count).sqrt() / spread).float(),
            }
        )

    def configure_optimizers(self) -> dict[str, Any]:
        depth = self.settings.depth
        return make_optimizer(self, self.settings, lambda name: layer_of(name, depth), depth + 1)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        clip = gradient_clip_val or self.settings.grad_clip
        if clip:
            self.clip_gradients(optimizer, clip, gradient_clip_algorithm or "norm")


def layer_of(name: str, depth: int) -> int:
    """Give the layer a weight belongs to: 0 for embeddings, 1 to ``depth`` for the blocks, then norm and head."""
    block = re.match(r"backbone\.blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return depth + 1 if name.startswith(("head.", "backbone.norm.")) else 0


@torch.no_grad()
def predict(module: Regressor, batches: Any) -> tuple[Tensor, Tensor]:
    """Give predictions and truth of all windows, shape (windows,) each, in the target's unit."""
    was = module.training
    module.eval()
    pairs = [(module(b["window"].to(module.device))[:, 0].cpu(), b[module.target].float()) for b in batches]
    module.train(was)
    predicted, true = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return predicted, true


def score_rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give the last validation's scores, each with its unit and its baseline; none before the first validation."""
    logged = [row for row in history if MONITOR in row]
    if not logged:
        return []
    best = min(logged, key=lambda row: row[MONITOR])
    constant = "constant: the validation targets' own mean"
    return [
        {"name": MONITOR, "value": logged[-1][MONITOR], "unit": "1", "baseline": 1.0, "baseline_is": constant},
        {"name": "best_val_nrmse", "value": best[MONITOR], "unit": "1", "baseline": best["val_nrmse_training_mean"],
         "baseline_is": "constant: the training targets' mean; the best of many validations is no held-out score"},
    ]  # fmt: skip
