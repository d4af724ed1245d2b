"""Tokenizer training.

Partial sums of codes are decoded into the bands up to their scale, and the error of each band is divided by the power
of that band: delta is fifty times stronger than gamma and would otherwise dominate. Validation scores are fractions of
power explained; predicting zero explains 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nbkit.neuro.bandvar.data import file_names
from nbkit.neuro.bandvar.tokens.missing_power import MissingPower
from nbkit.neuro.bandvar.tokens.spectral_loss import spectral_loss
from nbkit.neuro.bandvar.tokens.tokenizer import BandTokenizer, single_bands
from nbkit.neuro.nn.vq import code_counts, perplexity
from nbkit.neuro.signals.bands import band_names
from nbkit.neuro.training.optimization import ClippedModule
from nbkit.neuro.training.rates import linear_rate
from nbkit.neuro.training.weights import held, load_strictly, settings_from


@dataclass(frozen=True)
class TokenizerSettings:
    """Settings of a tokenizer training. ``free`` is for 64 channels by 500 samples on one GPU with 16 GB."""

    codes: int = 4096
    latent_width: int = 32
    width: int = 384
    blocks: int = 3
    rank: int = 32  # number of sources mixed into the channels of each band
    beta: float = 0.25  # weight of the commitment loss
    quantizer_weight: float = 0.5
    partial_weight: float = 0.25  # weight of the partial sums before the last
    waveform_weight: float = 0.25  # weight of the error of the whole signal, which is mostly delta
    spectral_weight: float = 0.02
    flips: bool = True  # augmentation: flip windows in sign and in time at random
    restart_below: float = 0.05  # a code used less than this fraction of an equal share is dead
    lr: float = 3e-4
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    warmup_steps: int = 500
    final_lr_ratio: float = 0.02
    batch_size: int = 64
    max_steps: int = 40_000

    @classmethod
    def free(cls) -> TokenizerSettings:
        """Return settings for one T4-class GPU."""
        return cls()

    @classmethod
    def small_codebook(cls) -> TokenizerSettings:
        """Return ``free`` with 512 codes, for a few hours of recordings."""
        return cls(codes=512)

    @classmethod
    def demo(cls) -> TokenizerSettings:
        """Return settings for 64 channels by 200 samples on one CPU core, for some minutes."""
        return cls(
            codes=512, latent_width=16, width=128, blocks=2, rank=16, quantizer_weight=1.0, lr=2e-3, warmup_steps=50,
            batch_size=32, max_steps=1200,
        )  # fmt: skip

    @classmethod
    def smoke(cls) -> TokenizerSettings:
        """Return settings for a run of a few seconds on a CPU: the same code with a small model."""
        return cls(
            codes=64, latent_width=8, width=32, blocks=1, rank=8, lr=2e-3, warmup_steps=2, batch_size=4, max_steps=20
        )


class TokenizerTraining(ClippedModule):
    """Lightning module that trains a `BandTokenizer` on batches of cumulative bands.

    Parameters
    ----------
    settings : TokenizerSettings
    channels, time_steps : int
        Size of a window.
    bands : sequence of (l_freq, h_freq)
        Band edges in Hz.
    scale : sequence of float
        Root mean square of each band in the training windows, in uV (see `BandData.scale`).
    sfreq : float
        Sampling frequency in Hz.
    trained_on : sequence of str
        Names of the training files; later phases check that they do not hold out one of them.
    """

    def __init__(
        self,
        settings: TokenizerSettings,
        channels: int,
        time_steps: int,
        bands: Sequence[tuple[float, float]],
        scale: Sequence[float],
        sfreq: float,
        trained_on: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.trained_on = tuple(trained_on)
        self.settings = settings
        self.bands = tuple((float(low), float(high)) for low, high in bands)
        self.sfreq = float(sfreq)
        self.tokenizer = BandTokenizer(
            channels,
            time_steps,
            self.bands,
            settings.codes,
            settings.latent_width,
            settings.width,
            settings.blocks,
            settings.rank,
            settings.beta,
            settings.restart_below,
        )
        power = torch.as_tensor(scale, dtype=torch.float32) ** 2
        self.tokenizer.set_scale(scale)
        self.missing = MissingPower(channels, time_steps, self.bands, sfreq)
        self.register_buffer("band_power", power)  # uV^2
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    @classmethod
    def for_data(cls, settings: TokenizerSettings, data: Any) -> TokenizerTraining:
        """Build the module with the window size, bands and scale of a `BandData`."""
        names = file_names(data.train_dataset.paths)
        return cls(settings, data.channels, data.time_steps, data.bands, data.scale, data.sfreq, names)

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> TokenizerTraining:
        """Load a module with its weights from a checkpoint, in evaluation mode.

        Raises
        ------
        ValueError
            If the checkpoint has no tokenizer.
        """
        made, weights = held(path, "band_tokenizer", device)
        module = cls.from_description(made, path)
        load_strictly(module, weights, path)
        return module.to(device).eval()

    @classmethod
    def from_description(cls, made: dict[str, Any], path: str | Path) -> TokenizerTraining:
        """Build an untrained module from a `description`.

        Parameters
        ----------
        made : dict
            As returned by `description`.
        path : path
            Checkpoint that has the description; named in error messages.
        """
        settings = settings_from(TokenizerSettings, made, path)
        return cls(settings, **{k: v for k, v in made.items() if k != "settings"})

    def description(self) -> dict[str, Any]:
        """Return the arguments that rebuild the module, as plain numbers, text, lists and dicts."""
        return {
            "settings": asdict(self.settings),
            "channels": self.tokenizer.channels,
            "time_steps": self.tokenizer.time_steps,
            "bands": [list(band) for band in self.bands],
            "scale": [float(value) for value in self.band_power.sqrt()],
            "sfreq": self.sfreq,
            "trained_on": list(self.trained_on),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["band_tokenizer"] = self.description()

    def losses(self, levels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the training losses.

        Parameters
        ----------
        levels : Tensor of shape (batch, bands, channels, time)
            True cumulative bands, in uV.

        Returns
        -------
        losses : dict of str to Tensor
            ``bands``, ``partial``, ``waveform``, ``spectral`` and ``quantizer``.
        decoded : Tensor of shape (batch, channels, time)
            Decoded signal, in uV.
        """
        tokenizer, quantized = self.tokenizer, self.tokenizer.quantize(levels)
        true, last = single_bands(levels), len(self.bands) - 1
        # One random earlier scale in each step: decoding all of them would double the cost of the step.
        earlier = int(torch.randint(max(1, last), ())) if last else 0
        errors = {}
        for scale in sorted({earlier, last}):
            bands = tokenizer.decode_sum(quantized.partial_sums[scale], scale)
            error = (bands - true[:, : scale + 1]).square().mean(dim=(0, 2, 3)) / self.band_power[: scale + 1]
            errors[scale] = error.mean()
        decoded, rms = bands.sum(dim=1), tokenizer.rms
        losses = {
            "bands": errors[last],
            "partial": errors[earlier],
            "waveform": (decoded - levels[:, -1]).square().mean() / rms.square(),
            "spectral": spectral_loss(decoded / rms, levels[:, -1] / rms),
            "quantizer": quantized.loss,
        }
        return losses, decoded

    def training_step(self, levels: Tensor, batch_idx: int) -> Tensor:
        if self.settings.flips:
            levels = flipped(levels)
        losses, decoded = self.losses(levels)
        settings = self.settings
        self.missing.update(levels[:, -1], decoded.detach())
        loss = losses["bands"] + settings.partial_weight * losses["partial"]
        loss = loss + settings.waveform_weight * losses["waveform"]
        loss = loss + settings.spectral_weight * losses["spectral"] + settings.quantizer_weight * losses["quantizer"]
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({f"train_{name}": value for name, value in losses.items()})
        self.log("train_restarted", self.tokenizer.quantizer.restarted.float())
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = self._counts = None

    def validation_step(self, levels: Tensor, batch_idx: int) -> None:
        sums, counts = self.validation_sums(levels)
        self._sums = sums if self._sums is None else self._sums + sums
        self._counts = counts if self._counts is None else self._counts + counts

    def on_validation_epoch_end(self) -> None:
        if self._sums is None:
            return
        sums = self.all_gather(self._sums).reshape(-1, *self._sums.shape).sum(dim=0)
        counts = self.all_gather(self._counts).reshape(-1, *self._counts.shape).sum(dim=0)
        self.log_dict(self.validation_scores(sums, counts))

    @torch.no_grad()
    def validation_sums(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums over windows that `validation_scores` needs; those of several batches can be added.

        Returns
        -------
        sums : Tensor of shape (4, scales)
            Squared error and power of each band, then of each cumulative band, in uV^2.
        counts : Tensor of shape (codes,)
            How often each code was used.
        """
        tokens = self.tokenizer.encode(levels)
        cumulative = self.tokenizer.decode(tokens)
        bands = self.tokenizer.decode_sum(self.tokenizer.quantizer.partial_sums(tokens)[-1], len(self.bands) - 1)
        true = single_bands(levels)
        terms = [bands - true, true, cumulative - levels, levels]
        sums = torch.stack([term.float().square().mean(dim=(2, 3)).double().sum(dim=0) for term in terms])
        return sums, code_counts(tokens, self.settings.codes)

    def validation_scores(self, sums: Tensor, counts: Tensor) -> dict[str, float]:
        """Return the validation scores for added `validation_sums`.

        ``val_r2_<band>`` is the fraction of the power of a band that all tokens explain, ``val_r2_to_<band>`` the
        fraction of the cumulative band that the tokens up to its scale explain, and ``val_r2`` the fraction of the
        whole signal. ``val_bands`` is the mean error over bands in units of their power (1 for predicting zero).
        ``val_perplexity`` and ``val_codes_used`` describe the use of the codebook.
        """
        error, power, total_error, total = sums
        by_band, cumulative = (1 - error / power).tolist(), (1 - total_error / total).tolist()
        scores = {"val_bands": float((error / power).mean()), "val_r2": cumulative[-1]}
        for name, band, level in zip(band_names(self.bands), by_band, cumulative, strict=True):
            scores[f"val_r2_{name}"], scores[f"val_r2_to_{name}"] = band, level
        scores["val_perplexity"] = float(perplexity(counts))
        scores["val_codes_used"] = float((counts > 0).sum())
        return scores

    def configure_optimizers(self) -> dict[str, Any]:
        settings = self.settings
        optimizer = torch.optim.AdamW(
            self.tokenizer.parameters(), lr=settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay
        )

        def share(step: int) -> float:
            return linear_rate(step, settings.max_steps, settings.warmup_steps, settings.final_lr_ratio)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def tokenizer_scores(module: TokenizerTraining, batches: Any) -> dict[str, float]:
    """Return the validation scores of a module over batches of cumulative bands (see `validation_scores`)."""
    was_training = module.training
    module.eval()
    pairs = [module.validation_sums(batch.to(module.device)) for batch in batches]
    module.train(was_training)
    return module.validation_scores(sum(s for s, _ in pairs), sum(c for _, c in pairs))


def flipped(levels: Tensor) -> Tensor:
    """Flip each window of a batch at random in sign, in time, in both or in neither; spectra do not change."""
    sign = torch.randint(2, (len(levels), 1, 1, 1), device=levels.device) * 2 - 1
    back = torch.randint(2, (len(levels), 1, 1, 1), device=levels.device).bool()
    return sign * torch.where(back, levels.flip(-1), levels)
