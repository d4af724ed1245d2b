"""Band-VAR training.

The model learns all stages of a window at once, each from the true band before it (stage 1 from zeros). Validation
errors are in uV^2 and always shown beside persistence and zero; their totals are over stages 2 and up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nbkit.ground.fields import checked
from nbkit.neuro.bandvar.baselines import pooled_scores, stage_scores
from nbkit.neuro.bandvar.data import file_names
from nbkit.neuro.bandvar.model import EEGScaleAutoregressiveModel
from nbkit.neuro.signals.bands import band_names
from nbkit.neuro.training.optimization import ClippedModule
from nbkit.neuro.training.rates import cosine_times_warmup
from nbkit.neuro.training.steps.apart import InParts, in_pieces
from nbkit.neuro.training.weights import held, load_strictly, part_of, settings_from


@checked
@dataclass(frozen=True)
class BandVARSettings:
    """Settings of a training run. The defaults are those of the original Band-VAR code.

    Presets: ``free`` for one GPU with 16 GB, ``demo`` for about a minute on two CPU cores, ``smoke`` for a few seconds.
    """

    d_model: int = 256
    nhead: int = 8
    num_layers: int = 4
    dropout: float = 0.1
    residual: bool = False  # predict the increment
    stage_embedding: bool = False  # add an embedding of the band to predict
    stem_taps: int = 1  # kernel sizes of the projections in samples; 1 in the original code
    head_taps: int = 1
    balance_stages: bool = False  # divide the error of each stage by the power of its band, not of the whole signal
    lr: float = 1e-4
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    warmup_steps: int = 0
    cosine: bool = False  # cosine decay of the learning rate to 2 % of lr at the last step
    batch_size: int = 8
    steps: int = 1000  # optimizer steps; the length of the cosine

    @classmethod
    def free(cls) -> BandVARSettings:
        """Return settings for 64 channels by 500 samples (5 s at 100 Hz) on one T4-class GPU."""
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
        """Return settings for 64 channels by 200 samples (2 s at 100 Hz) on two CPU cores."""
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
        """Return settings for a run of a few seconds on two CPU cores: the same code with a small model."""
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


class BandVAR(InParts, ClippedModule):
    """Lightning module that trains `EEGScaleAutoregressiveModel`.

    Parameters
    ----------
    settings : BandVARSettings
    channels, time_steps : int
        Size of a window.
    bands : sequence of (l_freq, h_freq)
        Band edges in Hz; each band is one stage.
    scale : sequence of float
        Root mean square of each band in the training data, in uV (see `BandData.scale`).
    trained_on : sequence of str
        Names of the training files; `check_held_out` compares them.
    """

    def __init__(
        self,
        settings: BandVARSettings,
        channels: int,
        time_steps: int,
        bands: Sequence[tuple[float, float]],
        scale: Sequence[float],
        trained_on: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.trained_on = tuple(trained_on)
        if len(scale) != len(bands):
            raise ValueError(f"Got {len(scale)} scales for {len(bands)} bands; give the RMS of each band in uV.")
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
        self.register_buffer("error_unit", power.clone())  # divisor of the squared error of each stage, in uV^2
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))
        self._sums: Tensor | None = None

    @classmethod
    def for_data(cls, settings: BandVARSettings, data: Any) -> BandVAR:
        """Build the module with the window size, bands and scale of a `BandData`."""
        names = file_names(data.train_dataset.paths)
        return cls(settings, data.channels, data.time_steps, data.bands, data.scale, names)

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> BandVAR:
        """Load a module with its weights from a checkpoint.

        Raises
        ------
        ValueError
            If the file is not a Band-VAR checkpoint, or has settings of another version.
        """
        made, weights = held(path, "bandvar", device)
        settings = settings_from(BandVARSettings, made, path)
        sizes = (made["channels"], made["time_steps"], made["bands"], made["scale"])
        module = cls(settings, *sizes, made.get("trained_on", ()))
        load_strictly(module, part_of(weights, "real.") or weights, path)  # "real.": trained beside a surrogate
        return module.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["bandvar"] = self.description()

    def description(self) -> dict[str, Any]:
        """Return the arguments that rebuild the module, as plain numbers, text, lists and dicts."""
        return {
            "settings": asdict(self.settings),
            "channels": self.channels,
            "time_steps": self.time_steps,
            "bands": [list(band) for band in self.bands],
            "scale": [float(value) for value in self.scale],
            "trained_on": list(self.trained_on),
        }

    def check_held_out(self, data: Any) -> None:
        """Check that no validation window of a `BandData` is of a recording that the model was trained on.

        Raises
        ------
        ValueError
            If one is.
        """
        seen = sorted(set(file_names(data.val_dataset.paths)) & set(self.trained_on))
        if seen:
            raise ValueError(
                f"{len(seen)} recordings are held out here, but the model was trained on them ({seen[0]}), so their "
                "scores would not be scores of unseen windows. Use the VAL_FRACTION of 40_bandvar_train."
            )

    def one_step(self, levels: Tensor) -> Tensor:
        """Predict every stage from the true stage before it.

        Parameters
        ----------
        levels : Tensor of shape (batch, stages, channels, time)
            True cumulative bands, in uV.

        Returns
        -------
        predicted : Tensor of shape (batch, stages, channels, time)
            In uV.
        """
        batch, stages = levels.shape[:2]
        inputs = torch.cat([torch.zeros_like(levels[:, :1]), levels[:, :-1]], dim=1)
        stage = torch.arange(stages, device=levels.device).repeat(batch)
        return self.model(inputs.flatten(0, 1), stage).unflatten(0, (batch, stages))

    def loss(self, levels: Tensor) -> Tensor:
        """Return the mean squared error over all stages, relative to the power of the signal (or of each band)."""
        error = (self.one_step(levels) - levels).square().mean(dim=(0, 2, 3))
        return (error / self.error_unit).mean()

    def step_parts(self, batch: Tensor, batch_idx: int) -> Iterator[tuple[str, Tensor]]:
        parts = in_pieces({"levels": batch}, self.pieces, lambda piece: self.loss(piece["levels"]), _windows)
        yield from (("train_loss", loss) for loss in parts)

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
        """Return the sums over windows that `validation_scores` needs; those of several batches can be added.

        Returns
        -------
        sums : Tensor of shape (5, stages)
            Squared error, squared increment, increment, squared target (uV^2, uV) and the number of windows.
        """
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
        """Return the validation scores for added `validation_sums`.

        ``val_mse``, ``val_mse_persistence`` and ``val_mse_zero`` (uV^2), ``val_skill_persistence``, ``val_skill_zero``
        and ``val_increment_r2`` are over stages 2 and up. ``val_mse_all`` includes stage 1, as the validation loss of
        the original code does. Each band has its own ``val_mse_<band>`` and ``val_skill_<band>``.
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
        return band_schedule(self.model.parameters(), self.settings)


def band_schedule(weights: Iterable[Tensor], settings: BandVARSettings) -> dict[str, Any]:
    """Return AdamW with its learning-rate schedule, as ``configure_optimizers`` returns it."""
    optimizer = torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay)
    floor = 0.02 if settings.cosine else 1.0

    def factor(step: int) -> float:
        return cosine_times_warmup(step, settings.steps, settings.warmup_steps, floor)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def evaluate(module: BandVAR, batches: Any) -> dict[str, float]:
    """Return the validation scores of a module over batches of cumulative bands (see `BandVAR.validation_scores`)."""
    was_training = module.training
    module.eval()
    with torch.no_grad():
        sums = sum(module.validation_sums(batch.to(module.device)) for batch in batches)
    module.train(was_training)
    return module.validation_scores(sums)


def _windows(piece: Mapping[str, Tensor]) -> int:
    return len(piece["levels"])


def score_rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the scores of the last validation as rows, each with its unit and its baseline.

    Parameters
    ----------
    history : sequence of mapping
        Logged rows, ``{"step": step, name: value, ...}``.

    Returns
    -------
    rows : list of dict
        With name, value, unit, baseline and baseline_is; empty before the first validation. The baseline of ``val_mse``
        and ``increment_r2`` is persistence; ``val_mse_against_zero`` and ``increment_r2_against_zero`` repeat them with
        the baseline of predicting zero.
    """
    logged = [row for row in history if "val_mse" in row]
    if not logged:
        return []
    last = logged[-1]
    mse, persistence, zero = (last[name] for name in ("val_mse", "val_mse_persistence", "val_mse_zero"))
    kept, nothing = "persistence: next band = current band", "zero: predict 0"
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
