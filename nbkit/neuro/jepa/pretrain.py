"""Pretraining (phase 1): tell the latents of a window's second half from those of its first.

Which batches have the masked term follows from the optimizer's step, and the slow target's weights are part of the
checkpoint, so a training that was killed anywhere goes on as if it had not been.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from nbkit.neuro.jepa.collapse import LEAST_CONTRAST, LEAST_RANK, LatentMoments, collapsed
from nbkit.neuro.jepa.encoder import BLOCKS, KIND, LATENTS, Encoder, EncoderSettings
from nbkit.neuro.jepa.losses import by_mean, shared_variance, temporal_terms, variance_hinge, weigh
from nbkit.neuro.jepa.predictors import Predictors
from nbkit.neuro.nn.masking import random_mask
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.optimization import ClippedModule, Patience, check_batch, make_optimizer
from nbkit.neuro.training.weights import held, load_strictly, settings_from

MONITOR = "val_loss"
OBJECTIVES: dict[str, dict[str, float]] = {
    "seed": {"ema": 0.0, "variance_weight": 0.0, "covariance_weight": 0.0},
    "ema_variance": {"ema": 0.996, "variance_weight": 1.0, "covariance_weight": 0.0},
    "ema_vicreg": {"ema": 0.996, "variance_weight": 1.0, "covariance_weight": 0.04},  # VICReg's own proportion
}


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of the pretraining; the defaults are the seed's.

    Lengths in epochs become steps by `counted`; those in steps, where above 0, stand.
    """

    encoder: EncoderSettings = field(default_factory=EncoderSettings)  # channels and sfreq become the data's
    crop_s: float = 2.0  # of longer windows, at a random place
    latent_steps: int = 1  # latents a half: 1 pools it (the seed's), more give the Mamba predictors a sequence
    ema: float = 0.0  # share of the slow target's weights that stays a step; 0: the encoder is its own target
    variance_weight: float = 0.0
    covariance_weight: float = 0.0
    state_weight: float = 1.0
    event_weight: float = 0.5
    trait_weight: float = 0.1
    stability_weight: float = 0.5
    mask_weight: float = 0.5
    mask_every: int = 5  # steps
    mask_ratio: float = 0.25  # of the time points
    lr: float = 1e-4
    min_lr: float = 0.0
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0
    batch_size: int = 64
    epochs: int = 200
    warmup_epochs: float = 10.0
    patience_epochs: int = 25
    steps: int = 0
    warmup_steps: int = 0
    patience_steps: int = 0

    @classmethod
    def full(cls) -> PretrainSettings:
        """The seed's, for all ten releases."""
        return cls()

    @classmethod
    def ema_variance(cls) -> PretrainSettings:
        """The seed's sizes with a slow target and VICReg's variance term, against collapse."""
        return cls().aimed("ema_variance")

    @classmethod
    def ema_vicreg(cls) -> PretrainSettings:
        """The same with VICReg's covariance term too: variance alone may be one direction in all latents."""
        return cls().aimed("ema_vicreg")

    @classmethod
    def free(cls) -> PretrainSettings:
        """For the mini releases on one 16 GB card."""
        return cls(encoder=EncoderSettings.free(), epochs=35, warmup_epochs=2.0, patience_epochs=10)

    @classmethod
    def smoke(cls) -> PretrainSettings:
        """For seconds on two CPU cores: the same code, smaller."""
        return cls(encoder=EncoderSettings.smoke(), lr=1e-3, batch_size=8, steps=40, warmup_steps=4, patience_steps=40)

    def aimed(self, objective: str) -> PretrainSettings:
        """Return these settings with another objective: ``seed``, ``ema_variance`` or ``ema_vicreg``."""
        if objective not in OBJECTIVES:
            raise ValueError(f"{objective=} is unknown; it may be {', '.join(OBJECTIVES)}.")
        return replace(self, **OBJECTIVES[objective])

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term by its name."""
        names = ("state", "event", "trait", "stability", "mask", "variance", "covariance")
        return {name: getattr(self, f"{name}_weight") for name in names}


class JEPA(ClippedModule):
    """Pretrain an encoder by guessing, in its own latents, a window's future from its past.

    Parameters
    ----------
    settings : PretrainSettings
        With its steps counted, and the encoder for the data's channels.
    ch_names : sequence of str

    Attributes
    ----------
    encoder : Encoder
        What later phases take over.
    target : Encoder or None
        Its slow average, where the objective has one.
    """

    def __init__(self, settings: PretrainSettings, ch_names: Sequence[str]) -> None:
        super().__init__()
        if len(ch_names) != settings.encoder.n_chans:
            raise ValueError(f"{len(ch_names)} ch_names for an encoder of {settings.encoder.n_chans} channels.")
        self.settings, self.ch_names, self.sfreq = settings, tuple(ch_names), settings.encoder.sfreq
        self.encoder, self.predictors = Encoder(settings.encoder), Predictors()
        self.target = copy.deepcopy(self.encoder).requires_grad_(False) if settings.ema else None
        self._warned = False

    @classmethod
    def for_data(cls, settings: PretrainSettings, data: Any) -> JEPA:
        """Build the module for data with ``ch_names`` and ``sfreq``; the Fourier band ends at half of that at most."""
        sfreq = float(data.sfreq)
        fmax = min(settings.encoder.fmax, sfreq / 2)
        encoder = replace(settings.encoder, n_chans=len(data.ch_names), sfreq=sfreq, fmax=fmax)
        return cls(replace(settings, encoder=encoder), data.ch_names)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> JEPA:
        """Build the module a checkpoint holds; `pretrained_encoder` gives its encoder alone."""
        made, weights = held(path, KIND)
        settings = settings_from(PretrainSettings, made, path)
        encoder = settings_from(EncoderSettings, {"settings": made["encoder"]}, path)
        module = cls(replace(settings, encoder=encoder), made["ch_names"])
        load_strictly(module, weights, path)
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        made = asdict(self.settings)
        encoder = made.pop("encoder")
        checkpoint[KIND] = {
            "settings": made, "encoder": encoder, "ch_names": list(self.ch_names), "sfreq": self.sfreq,
        }  # fmt: skip

    def configure_callbacks(self) -> list[lightning.Callback]:
        steps = self.settings.patience_steps
        return [Patience(MONITOR, steps)] if steps else []

    def on_before_batch_transfer(self, batch: Mapping[str, Any], dataloader_idx: int) -> Mapping[str, Any]:
        check_batch(batch)
        return batch

    def temporal(self, windows: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return the temporal terms of windows of shape (batch, channels, time), the past's latents and the targets."""
        half = windows.shape[-1] // 2
        if half < self.settings.latent_steps:
            raise ValueError(f"Windows of {windows.shape[-1]} samples have no halves of {self.settings.latent_steps}.")
        halves = torch.cat([windows[..., :half], windows[..., half : 2 * half]])
        past, future = self._latents(self.encoder, halves).chunk(2)
        target = future
        if self.target is not None:
            with torch.no_grad():
                target = self._latents(self.target, halves[len(windows) :])
        return temporal_terms(self.predictors(past), target, past, future), past, target.detach()

    def _latents(self, encoder: Encoder, windows: Tensor) -> Tensor:
        """Of shape (batch, latent_steps, 96)."""
        if self.settings.latent_steps == 1:
            return encoder(windows)[:, None]
        sequence = encoder.sequence(windows).transpose(1, 2)
        return F.adaptive_avg_pool1d(sequence, self.settings.latent_steps).transpose(1, 2)

    def masked(self, windows: Tensor) -> Tensor:
        """Return how far latents of windows with a share of their time points zeroed are from the whole windows'."""
        hidden = random_mask(len(windows), windows.shape[-1], self.settings.mask_ratio, windows.device)
        with torch.no_grad():
            whole = (self.encoder if self.target is None else self.target)(windows)
        return F.mse_loss(self.encoder(windows.masked_fill(hidden[:, None], 0.0)), whole)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        s, windows = self.settings, batch["window"]
        terms, past, _ = self.temporal(windows)
        if self.global_step % s.mask_every == 0:
            terms["mask"] = self.masked(windows)
        if s.variance_weight:
            terms["variance"] = variance_hinge(past.mean(dim=1))
        if s.covariance_weight:
            terms["covariance"] = shared_variance(past.mean(dim=1))
        loss = weigh(terms, s.weights)
        self.log("loss", loss, prog_bar=True)
        self.log_dict({f"loss_{name}": value for name, value in terms.items()})
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.target is not None:  # here, so that no checkpoint comes between the step and its target
            with torch.no_grad():
                stays = min(self.settings.ema, self.global_step / (self.global_step + 9))  # faster at the start
                for slow, fast in zip(self.target.parameters(), self.encoder.parameters(), strict=True):
                    slow.lerp_(fast, 1 - stays)

    def on_validation_epoch_start(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._windows = 0
        self._moments, self._targets = (LatentMoments(LATENTS, self.device) for _ in range(2))

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        windows = batch["window"]
        terms, _, target = self.temporal(windows)
        self._windows += len(windows)
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double() * len(windows)
        self._targets.add(target.flatten(0, 1))
        self._moments.add(self.encoder(windows))

    def on_validation_epoch_end(self) -> None:
        if not self._windows:
            return
        means = {name: total / self._windows for name, total in self._sums.items()}
        rank, contrast = self._moments.effective_rank(), self._moments.contrast
        logged = {
            MONITOR: weigh(means, self.settings.weights),
            "val_loss_by_mean": by_mean(self._targets.variance, self.settings.weights),
            **{f"val_{name}": value for name, value in means.items()},
            "val_effective_rank": rank,
            **{f"val_effective_rank_{name}": self._moments.effective_rank(block) for name, block in BLOCKS.items()},
            "val_latent_std": self._moments.spread,
            "val_latent_contrast": contrast,
        }
        self.log_dict({name: torch.as_tensor(value, dtype=torch.float32) for name, value in logged.items()})
        reason = collapsed(rank, contrast)
        if reason and not self._warned and not self.trainer.sanity_checking:
            warnings.warn(reason, stacklevel=2)
            self._warned = True

    def configure_optimizers(self) -> dict[str, Any]:
        return make_optimizer(self, self.settings)


def pretraining_data(paths: Any, settings: PretrainSettings, **options: Any) -> WindowData:
    """Return a pretraining's windows: those cut for it, no target asked, longer ones cropped to ``crop_s``.

    ``options`` go to `WindowData`.
    """
    options = {"columns": (), "purpose": "pretrain", "split": "auto", "fractions": (0.9, 0.1, 0.0), **options}
    data = WindowData(paths, settings.batch_size, **options)
    crop = round(settings.crop_s * data.sfreq)
    return WindowData(paths, settings.batch_size, crop=crop, **options) if crop < data.n_times else data


def monitors() -> dict[str, Any]:
    """Return what `plot_monitors` is to draw of a history: the terms, the loss beside its baseline, latents in use."""
    names = ("state", "event", "trait", "stability", "mask", "variance", "covariance")
    ranks = {"val_effective_rank": "all"} | {f"val_effective_rank_{name}": name for name in BLOCKS}
    return {
        "losses": {f"loss_{name}": name for name in names},
        "panels": [
            ("Validation loss (1)", {MONITOR: "model", "val_loss_by_mean": "always the mean latent"}, {}),
            (f"Effective rank (of {LATENTS})", ranks, {"collapse": LEAST_RANK}),
            ("Windows' spread / latents' size (1)", {"val_latent_contrast": "all"}, {"collapse": LEAST_CONTRAST}),
        ],
    }


def score_rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the last validation's scores, each with its unit and its baseline; none before the first validation."""
    logged = [row for row in history if MONITOR in row]
    if not logged:
        return []
    first, last = logged[0], logged[-1]
    return [
        {"name": MONITOR, "value": last[MONITOR], "unit": "1", "baseline": last["val_loss_by_mean"],
         "baseline_is": "always the mean latent, with traits of strangers"},
        {"name": "val_effective_rank", "value": last["val_effective_rank"], "unit": f"of {LATENTS}",
         "baseline": first["val_effective_rank"], "baseline_is": "the first validation"},
        {"name": "val_latent_std", "value": last["val_latent_std"], "unit": "1",
         "baseline": first["val_latent_std"], "baseline_is": "the first validation"},
    ]  # fmt: skip
