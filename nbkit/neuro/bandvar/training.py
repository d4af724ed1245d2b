"""Band-VAR training.

The model learns every stage of a window at once, each from the true band before it (stage 1 from zeros). Validation is
in uV^2, and never without persistence and zero beside it; its totals are over the stages that have a band before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nbkit.neuro.bandvar.baselines import pooled_scores, stage_scores
from nbkit.neuro.bandvar.model import EEGScaleAutoregressiveModel
from nbkit.neuro.signals.bands import band_names
from nbkit.neuro.training.optimization import ClippedModule
from nbkit.neuro.training.rates import cosine_times_warmup
from nbkit.neuro.training.weights import held, load_strictly, settings_from


@dataclass(frozen=True)
class BandVARSettings:
    """Settings of one training; the defaults are the seed's.

    ``free`` is for one 16 GB card, ``demo`` for two CPU cores and about a minute, ``smoke`` for seconds.
    """

    d_model: int = 256
    nhead: int = 8
    num_layers: int = 4
    dropout: float = 0.1
    residual: bool = False  # predict the increment
    stage_embedding: bool = False  # tell the model which band is to come
    stem_taps: int = 1  # samples the projections see around each step; 1 is the seed's form
    head_taps: int = 1
    balance_stages: bool = False  # weigh each stage's error by its own band's power, not by the whole signal's
    lr: float = 1e-4
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    warmup_steps: int = 0
    cosine: bool = False  # let the rate fall to 2 % of lr at the last step
    batch_size: int = 8
    steps: int = 1000  # optimizer steps, which a cosine is laid over

    @classmethod
    def free(cls) -> BandVARSettings:
        """For 64 channels by 500 samples (5 s at 100 Hz) on one T4-class card."""
        return cls(
            residual=True,
            stage_embedding=True,
            stem_taps=25,
            head_taps=25,
            balance_stages=True,
            lr=3e-4,
            warmup_steps=500,
            cosine=True,
            batch_size=32,
            steps=20_000,
        )

    @classmethod
    def demo(cls) -> BandVARSettings:
        """For 64 channels by 200 samples (2 s at 100 Hz) on two CPU cores."""
        return cls(
            d_model=48,
            nhead=4,
            num_layers=1,
            dropout=0.0,
            residual=True,
            stage_embedding=True,
            stem_taps=15,
            head_taps=15,
            balance_stages=True,
            lr=3e-3,
            warmup_steps=40,
            cosine=True,
            batch_size=8,
            steps=600,
        )

    @classmethod
    def smoke(cls) -> BandVARSettings:
        """For seconds on two CPU cores: the same code, smaller."""
        return cls(
            d_model=32,
            nhead=4,
            num_layers=1,
            dropout=0.0,
            residual=True,
            stage_embedding=True,
            stem_taps=5,
            head_taps=5,
            balance_stages=True,
            lr=3e-3,
            warmup_steps=2,
            cosine=True,
            batch_size=4,
            steps=24,
        )


class BandVAR(ClippedModule):
    """Train a model of the next cumulative band.

    Parameters
    ----------
    settings : BandVARSettings
    channels, time_steps : int
        Size of a window.
    bands : sequence of (l_freq, h_freq)
        Edges in Hz; one stage each.
    scale : sequence of float
        Root mean square of each band in the training data, in uV (see `BandData.scale`).
    """

    def __init__(
        self,
        settings: BandVARSettings,
        channels: int,
        time_steps: int,
        bands: Sequence[tuple[float, float]],
        scale: Sequence[float],
    ) -> None:
        super().__init__()
        if len(scale) != len(bands):
            raise ValueError(f"{len(scale)} scales for {len(bands)} bands; give the RMS of each band in uV.")
        self.settings = settings
        self.bands = tuple((float(low), float(high)) for low, high in bands)
        self.channels, self.time_steps = int(channels), int(time_steps)
        self.model = EEGScaleAutoregressiveModel(
            channels,
            time_steps,
            settings.d_model,
            settings.nhead,
            settings.num_layers,
            settings.dropout,
            residual=settings.residual,
            num_stages=len(self.bands) if settings.stage_embedding else 0,
            stem_taps=settings.stem_taps,
            head_taps=settings.head_taps,
        )
        self.model.set_scale(scale)
        power = torch.as_tensor(scale, dtype=torch.float32) ** 2
        if not settings.balance_stages:
            power = power.sum().expand_as(power)
        self.register_buffer("error_unit", power.clone())  # uV^2 that count as an error of 1, by stage
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        self._sums: Tensor | None = None

    @classmethod
    def for_data(cls, settings: BandVARSettings, data: Any) -> BandVAR:
        """Build the module for a `BandData`: its windows' size, bands and scale."""
        return cls(settings, data.channels, data.time_steps, data.bands, data.scale)

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> BandVAR:
        """Build the module a checkpoint holds, weights and all.

        Raises
        ------
        ValueError
            If the file is not a Band-VAR checkpoint.
        """
        made, weights = held(path, "bandvar", device)
        settings = settings_from(BandVARSettings, made, path)
        module = cls(settings, made["channels"], made["time_steps"], made["bands"], made["scale"])
        load_strictly(module, weights, path)
        return module.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["bandvar"] = self.description()

    def description(self) -> dict[str, Any]:
        """Return what the module was built from, as numbers and text."""
        return {
            "settings": asdict(self.settings),
            "channels": self.channels,
            "time_steps": self.time_steps,
            "bands": [list(band) for band in self.bands],
            "scale": [float(value) for value in self.scale],
        }

    def one_step(self, levels: Tensor) -> Tensor:
        """Predict every stage from the true one before it.

        Parameters
        ----------
        levels : Tensor of shape (batch, stages, channels, time)
            True cumulative bands, in uV.

        Returns
        -------
        predicted : Tensor of that shape
        """
        batch, stages = levels.shape[:2]
        inputs = torch.cat([torch.zeros_like(levels[:, :1]), levels[:, :-1]], dim=1)
        stage = torch.arange(stages, device=levels.device).repeat(batch)
        return self.model(inputs.flatten(0, 1), stage).unflatten(0, (batch, stages))

    def loss(self, levels: Tensor) -> Tensor:
        """Return the mean squared error over all stages, in units of the signal's (or each band's) power."""
        error = (self.one_step(levels) - levels).square().mean(dim=(0, 2, 3))
        return (error / self.error_unit).mean()

    def training_step(self, levels: Tensor, batch_idx: int) -> Tensor:
        loss = self.loss(levels)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = None

    def validation_step(self, levels: Tensor, batch_idx: int) -> None:
        sums = self.validation_sums(levels)
        self._sums = sums if self._sums is None else self._sums + sums

    def on_validation_epoch_end(self) -> None:
        if self._sums is None:
            return
        sums = self.all_gather(self._sums)
        self.log_dict(self.validation_scores(sums.reshape(-1, *self._sums.shape).sum(dim=0)))

    def validation_sums(self, levels: Tensor) -> Tensor:
        """Return what the validation scores are made of, shape (5, stages): sums over windows, so they add up."""
        wide = levels.float()
        inputs = torch.cat([torch.zeros_like(wide[:, :1]), wide[:, :-1]], dim=1)
        increment = wide - inputs
        means = [
            (self.one_step(levels).float() - wide).square(),
            increment.square(),
            increment,
            wide.square(),
            torch.ones_like(wide[..., :1, :1]),
        ]
        return torch.stack([m.mean(dim=(2, 3)).double().sum(dim=0) for m in means])

    def validation_scores(self, sums: Tensor) -> dict[str, float]:
        """Return the scores of summed `validation_sums`.

        ``val_mse`` (uV^2), ``val_skill_persistence``, ``val_skill_zero`` and ``val_increment_r2`` are over stages 2 and
        up, as ``val_mse_persistence`` and ``val_mse_zero`` beside them; ``val_mse_all`` counts stage 1 too (the seed's
        validation loss). Each band has its own ``val_mse_<band>`` and ``val_skill_<band>``.
        """
        mse, power, mean, target = (sums[:4] / sums[4]).tolist()
        rows = [stage_scores(*values) for values in zip(mse, power, mean, target, strict=True)]
        pooled = pooled_scores(rows)
        scores = {
            "val_mse": pooled["mse"],
            "val_mse_persistence": pooled["mse_persistence"],
            "val_mse_zero": pooled["mse_zero"],
            "val_skill_persistence": pooled["skill_persistence"],
            "val_skill_zero": pooled["skill_zero"],
            "val_increment_r2": pooled["increment_r2"],
            "val_mse_all": sum(mse) / len(mse),
        }
        for name, row in zip(band_names(self.bands), rows, strict=True):
            scores[f"val_mse_{name}"] = row["mse"]
            scores[f"val_skill_{name}"] = row["skill_persistence"]
        return scores

    def configure_optimizers(self) -> dict[str, Any]:
        settings = self.settings
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)

        floor = 0.02 if settings.cosine else 1.0

        def factor(step: int) -> float:
            return cosine_times_warmup(step, settings.steps, settings.warmup_steps, floor)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def evaluate(module: BandVAR, batches: Any) -> dict[str, float]:
    """Return a module's validation scores over batches of cumulative bands."""
    was_training = module.training
    module.eval()
    with torch.no_grad():
        sums = sum(module.validation_sums(batch.to(module.device)) for batch in batches)
    module.train(was_training)
    return module.validation_scores(sums)


def score_rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the last validation's scores, each with its unit and its baseline; none before the first validation.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows, ``{"step": step, name: value, ...}``.

    Returns
    -------
    rows : list of dict
        With name, value, unit, baseline and baseline_is. ``val_mse`` and ``increment_r2`` stand beside persistence,
        and once more beside predicting zero.
    """
    logged = [row for row in history if "val_mse" in row]
    if not logged:
        return []
    last = logged[-1]
    mse, persistence, zero = (last[name] for name in ("val_mse", "val_mse_persistence", "val_mse_zero"))
    kept, nothing = "persistence: next band = this one", "zero: predict nothing"
    return [
        {"name": "val_mse", "value": mse, "unit": "uV^2", "baseline": persistence, "baseline_is": kept},
        {"name": "val_mse_against_zero", "value": mse, "unit": "uV^2", "baseline": zero, "baseline_is": nothing},
        {"name": "increment_r2", "value": last["val_increment_r2"], "unit": "1", "baseline": 0.0, "baseline_is": kept},
        {"name": "increment_r2_against_zero", "value": last["val_increment_r2"], "unit": "1",
         "baseline": 1 - zero / persistence, "baseline_is": nothing},
        {"name": "val_skill_persistence", "value": 1 - mse / persistence, "unit": "1", "baseline": 0.0,
         "baseline_is": kept},
        {"name": "val_skill_zero", "value": 1 - mse / zero, "unit": "1", "baseline": 0.0, "baseline_is": nothing},
    ]  # fmt: skip
