"""Pretrain the JEPA encoder (phase 1): predict the latents of a window's second half from those of its first.

The optimizer's step decides which batches have the masked term, and the checkpoint holds the weights of the slow
target. A training that was killed at any point therefore continues exactly as if it had not been.
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

from nbkit.ground.fields import checked
from nbkit.neuro.jepa.collapse import LEAST_CONTRAST, LEAST_RANK, LatentMoments, collapsed
from nbkit.neuro.jepa.encoder import BLOCKS, KIND, LATENTS, Encoder, EncoderSettings
from nbkit.neuro.jepa.losses import by_mean, shared_variance, temporal_terms, variance_hinge, weigh
from nbkit.neuro.jepa.predictors import Predictors
from nbkit.neuro.nn.masking import random_mask
from nbkit.neuro.signals.seen import seen_of, seen_together
from nbkit.neuro.signals.windows.montages import largest_montage
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.band_probe import NAME as PROBE
from nbkit.neuro.training.band_probe import BandProbe
from nbkit.neuro.training.optimization import ClippedModule, Patience, check_batch, make_optimizer
from nbkit.neuro.training.weights import held, load_strictly, settings_from

MONITOR = "val_loss"
OBJECTIVES: dict[str, dict[str, float]] = {
    "seed": {"ema": 0.0, "variance_weight": 0.0, "covariance_weight": 0.0},
    "ema_variance": {"ema": 0.996, "variance_weight": 1.0, "covariance_weight": 0.0},
    "ema_vicreg": {"ema": 0.996, "variance_weight": 1.0, "covariance_weight": 0.04},  # the ratio in the VICReg paper
}


@checked
@dataclass(frozen=True)
class PretrainSettings:
    """Settings of the pretraining; the defaults are those of the seed project.

    `counted` turns lengths in epochs into steps; a length in steps above 0 takes precedence.
    """

    encoder: EncoderSettings = field(default_factory=EncoderSettings)  # n_chans and sfreq are replaced by the data's
    crop_s: float = 2.0  # length of random crops from longer windows
    latent_steps: int = 1  # latents per half: 1 pools it (seed project); more give the Mamba predictors a sequence
    ema: float = 0.0  # decay per step of the slow target's weights; 0: the encoder is its own target
    variance_weight: float = 0.0
    covariance_weight: float = 0.0
    state_weight: float = 1.0
    event_weight: float = 0.5
    trait_weight: float = 0.1
    stability_weight: float = 0.5
    mask_weight: float = 0.5
    mask_every: int = 5  # steps between two masked terms
    mask_ratio: float = 0.25  # share of the time points
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
        """Return the seed project's settings for all ten releases."""
        return cls()

    @classmethod
    def ema_variance(cls) -> PretrainSettings:
        """Return the seed project's sizes with a slow target and VICReg's variance term, against collapse."""
        return cls().aimed("ema_variance")

    @classmethod
    def ema_vicreg(cls) -> PretrainSettings:
        """Return `ema_variance` with VICReg's covariance term as well.

        The variance term alone may be met by one direction that all latents share.
        """
        return cls().aimed("ema_vicreg")

    @classmethod
    def mini(cls) -> PretrainSettings:
        """Return the seed project's settings for release 1 alone: the same network, fewer epochs."""
        return cls(epochs=50, warmup_epochs=5.0, patience_epochs=10)

    @classmethod
    def free(cls) -> PretrainSettings:
        """Return settings for the mini releases on one 16 GB GPU."""
        return cls(encoder=EncoderSettings.free(), epochs=35, warmup_epochs=2.0, patience_epochs=10)

    @classmethod
    def smoke(cls) -> PretrainSettings:
        """Return small settings for a test of seconds on two CPU cores; the code is the same."""
        return cls(encoder=EncoderSettings.smoke(), lr=1e-3, batch_size=8, steps=40, warmup_steps=4, patience_steps=40)

    def aimed(self, objective: str) -> PretrainSettings:
        """Return these settings with another objective: ``seed``, ``ema_variance`` or ``ema_vicreg``.

        Raises
        ------
        ValueError
            If the objective is unknown.
        """
        if objective not in OBJECTIVES:
            raise ValueError(f"Unknown {objective=}; it may be {', '.join(OBJECTIVES)}.")
        return replace(self, **OBJECTIVES[objective])

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term, by name."""
        names = ("state", "event", "trait", "stability", "mask", "variance", "covariance")
        return {name: getattr(self, f"{name}_weight") for name in names}


class JEPA(ClippedModule):
    """Lightning module that pretrains an encoder by predicting the latents of a window's second half from its first.

    Parameters
    ----------
    settings : PretrainSettings
        With lengths in steps (see `counted`), and the encoder set for the data's channels.
    ch_names : sequence of str
        Channels of the windows, in order.

    Attributes
    ----------
    encoder : Encoder
        The network that later phases use.
    target : Encoder or None
        Its exponential moving average, if the objective has one.

    Raises
    ------
    ValueError
        If the encoder is for another number of channels.
    """

    def __init__(self, settings: PretrainSettings, ch_names: Sequence[str]) -> None:
        super().__init__()
        if len(ch_names) != settings.encoder.n_chans:
            raise ValueError(
                f"There are {len(ch_names)} ch_names, but the encoder has {settings.encoder.n_chans} channels."
            )
        self.settings, self.ch_names, self.sfreq = settings, tuple(ch_names), settings.encoder.sfreq
        self.encoder, self.predictors = Encoder(settings.encoder), Predictors()
        self.target = copy.deepcopy(self.encoder).requires_grad_(False) if settings.ema else None
        self._warned = False
        self._forget()

    @classmethod
    def for_data(cls, settings: PretrainSettings, data: Any) -> JEPA:
        """Return a module for data with ``ch_names`` and ``sfreq``; the Fourier band ends at ``sfreq / 2`` at most."""
        sfreq = float(data.sfreq)
        fmax = min(settings.encoder.fmax, sfreq / 2)
        encoder = replace(settings.encoder, n_chans=len(data.ch_names), sfreq=sfreq, fmax=fmax)
        module = cls(replace(settings, encoder=encoder), data.ch_names)
        module.seen = seen_together(getattr(data, "seen", None))
        return module

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> JEPA:
        """Load the module of a checkpoint; `pretrained_encoder` loads only its encoder."""
        made, weights = held(path, KIND)
        settings = settings_from(PretrainSettings, made, path)
        encoder = settings_from(EncoderSettings, {"settings": made["encoder"]}, path)
        module = cls(replace(settings, encoder=encoder), made["ch_names"])
        load_strictly(module, weights, path)
        module.seen = seen_of(made) or ()
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        made = asdict(self.settings)
        encoder = made.pop("encoder")
        checkpoint[KIND] = {
            "settings": made, "encoder": encoder, "ch_names": list(self.ch_names), "sfreq": self.sfreq,
            "seen": list(self.seen),
        }  # fmt: skip

    def configure_callbacks(self) -> list[lightning.Callback]:
        steps = self.settings.patience_steps
        return [Patience(MONITOR, steps)] if steps else []

    def on_before_batch_transfer(self, batch: Mapping[str, Any], dataloader_idx: int) -> Mapping[str, Any]:
        check_batch(batch)
        return batch

    def temporal(self, windows: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Compute the temporal terms of windows.

        Parameters
        ----------
        windows : Tensor of shape (batch, channels, time)
            In uV.

        Returns
        -------
        terms : dict
            See `temporal_terms`.
        past, target : Tensor of shape (batch, latent_steps, 96)
            Latents of the first half, and target latents of the second half.
        """
        half = windows.shape[-1] // 2
        if half < self.settings.latent_steps:
            raise ValueError(
                f"Windows have {windows.shape[-1]} samples; half of that is less than "
                f"latent_steps={self.settings.latent_steps}. Use longer windows or fewer latent_steps."
            )
        halves = torch.cat([windows[..., :half], windows[..., half : 2 * half]])
        past, future = self._latents(self.encoder, halves).chunk(2)
        target = future
        if self.target is not None:
            with torch.no_grad():
                target = self._latents(self.target, halves[len(windows) :])
        return temporal_terms(self.predictors(past), target, past, future), past, target.detach()

    def _latents(self, encoder: Encoder, windows: Tensor) -> Tensor:
        """Return latents of shape (batch, latent_steps, 96)."""
        if self.settings.latent_steps == 1:
            return encoder(windows)[:, None]
        sequence = encoder.sequence(windows).transpose(1, 2)
        return F.adaptive_avg_pool1d(sequence, self.settings.latent_steps).transpose(1, 2)

    def masked(self, windows: Tensor) -> Tensor:
        """Return the mean squared difference between latents of windows with masked time points and of full ones."""
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
        if self.target is not None:  # here, so that no checkpoint is saved between the step and the target's update
            with torch.no_grad():
                stays = min(self.settings.ema, self.global_step / (self.global_step + 9))  # follow faster at the start
                for slow, fast in zip(self.target.parameters(), self.encoder.parameters(), strict=True):
                    slow.lerp_(fast, 1 - stays)

    def on_validation_epoch_start(self) -> None:
        self._forget()
        self._moments, self._targets = (LatentMoments(LATENTS, self.device) for _ in range(2))
        self._probe = BandProbe(self.sfreq)

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        windows = batch["window"]
        terms, _, target = self.temporal(windows)
        self._windows += len(windows)
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double() * len(windows)
        self._targets.add(target.flatten(0, 1))
        latents = self.encoder(windows)
        self._moments.add(latents)
        self._probe.add(latents, windows)

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
        probed = self._probe.r2()
        logged |= {} if probed is None else {PROBE: probed}
        self.log_dict({name: torch.as_tensor(value, dtype=torch.float32) for name, value in logged.items()})
        reason = collapsed(rank, contrast)
        if reason and not self._warned and not self.trainer.sanity_checking:
            warnings.warn(reason, stacklevel=2)
            self._warned = True
        self._forget()  # a checkpoint holds no validation

    def _forget(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._windows = 0
        self._moments = self._targets = self._probe = None

    def configure_optimizers(self) -> dict[str, Any]:
        return make_optimizer(self, self.settings)


def pretraining_data(paths: Any, settings: PretrainSettings, **options: Any) -> WindowData:
    """Return the windows for pretraining: those cut for it, without targets, cropped to ``crop_s`` if longer.

    If there are several montages, the one of most windows is used, and the others are named.

    Parameters
    ----------
    paths : path or sequence of path
        Shards of windows.
    settings : PretrainSettings
    **options
        Arguments of `WindowData`.

    Returns
    -------
    data : WindowData
    """
    options = {"columns": (), "purpose": "pretrain", "split": "auto", **options}
    paths = largest_montage(paths, options["purpose"]).paths
    data = WindowData(paths, settings.batch_size, **options)
    crop = round(settings.crop_s * data.sfreq)
    return WindowData(paths, settings.batch_size, crop=crop, **options) if crop < data.n_times else data


def monitors() -> dict[str, Any]:
    """Return the curves for `plot_monitors`: loss terms, validation loss with its baseline, and use of the latents."""
    names = ("state", "event", "trait", "stability", "mask", "variance", "covariance")
    ranks = {"val_effective_rank": "all"} | {f"val_effective_rank_{name}": name for name in BLOCKS}
    return {
        "losses": {f"loss_{name}": name for name in names},
        "panels": [
            ("Validation loss (1)", {MONITOR: "model", "val_loss_by_mean": "always the mean latent"}, {}),
            (f"Effective rank (of {LATENTS})", ranks, {"collapse": LEAST_RANK}),
            ("Band power read out of latents (R2)", {PROBE: "ridge"}, {"mean power": 0.0}),
            ("Spread over windows / size of latents (1)", {"val_latent_contrast": "all"}, {"collapse": LEAST_CONTRAST}),
        ],
    }


def score_rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the result rows of the last validation, each with unit and baseline; empty before the first validation."""
    logged = [row for row in history if MONITOR in row]
    if not logged:
        return []
    first, last = logged[0], logged[-1]
    return [
        {"name": MONITOR, "value": last[MONITOR], "unit": "1", "baseline": last["val_loss_by_mean"],
         "baseline_is": "always the mean latent, traits as different as between windows"},
        {"name": "val_effective_rank", "value": last["val_effective_rank"], "unit": f"of {LATENTS}",
         "baseline": first["val_effective_rank"], "baseline_is": "the first validation"},
        {"name": "val_latent_std", "value": last["val_latent_std"], "unit": "1",
         "baseline": first["val_latent_std"], "baseline_is": "the first validation"},
    ]  # fmt: skip
