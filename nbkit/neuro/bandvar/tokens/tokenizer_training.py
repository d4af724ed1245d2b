"""Tokenizer training.

The tokenizer is first fitted to training windows in closed form, bases and codebooks (see `transform`); the training
steps then refine codes and patterns by gradient. The error of each band is divided by the power of that band: delta is
fifty times stronger than gamma and would otherwise dominate. Validation scores are fractions of power explained;
predicting zero explains 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nbkit.ground.fields import checked
from nbkit.neuro.bandvar.data import file_names
from nbkit.neuro.bandvar.tokens.missing_power import MissingPower
from nbkit.neuro.bandvar.tokens.scales import token_count
from nbkit.neuro.bandvar.tokens.tokenizer import BandTokenizer, single_bands
from nbkit.neuro.signals.bands import band_names
from nbkit.neuro.training.optimization import ClippedModule
from nbkit.neuro.training.rates import linear_rate
from nbkit.neuro.training.weights import held, load_strictly, settings_from

_MOST_FITTED = 2**27  # numbers in the windows that the bases are fitted to, half a GB


@checked
@dataclass(frozen=True)
class TokenizerSettings:
    """Settings of a tokenizer training. ``free`` is for 64 channels by 500 samples on one GPU with 16 GB."""

    codes: int = 4096
    tokens_a_second: float = 21.0  # over all bands, which share them by their need
    fit_windows: int = 2000  # most training windows that bases and codebooks are fitted to
    fit_samples: int = 20_000  # samples with random signs that each codebook is fitted to
    waveform_weight: float = 0.25  # weight of the error of the whole signal, which is mostly delta
    flips: bool = True  # augmentation: flip windows in sign and in time at random
    lr: float = 3e-4
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    warmup_steps: int = 100
    final_lr_ratio: float = 0.02
    batch_size: int = 64
    max_steps: int = 4000

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
        """Return settings for 64 channels by 200 samples on one CPU core, for a minute or two."""
        return cls(codes=512, fit_samples=8000, lr=5e-4, warmup_steps=20, batch_size=32, max_steps=200)

    @classmethod
    def smoke(cls) -> TokenizerSettings:
        """Return settings for a run of a few seconds on a CPU: the same code with small codebooks."""
        return cls(codes=64, fit_windows=48, fit_samples=2000, warmup_steps=2, batch_size=4, max_steps=20)


class TokenizerTraining(ClippedModule):
    """Lightning module that trains a `BandTokenizer` on batches of cumulative bands.

    Parameters
    ----------
    settings : TokenizerSettings
    tokenizer : BandTokenizer
        Fitted, see `BandTokenizer.fitted`.
    bands : sequence of (l_freq, h_freq)
        Band edges in Hz.
    sfreq : float
        Sampling frequency in Hz.
    trained_on : sequence of str
        Names of the training files; later phases check that they do not hold out one of them.
    """

    def __init__(
        self,
        settings: TokenizerSettings,
        tokenizer: BandTokenizer,
        bands: Sequence[tuple[float, float]],
        sfreq: float,
        trained_on: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.trained_on = tuple(trained_on)
        self.settings, self.tokenizer = settings, tokenizer
        self.bands = tuple((float(low), float(high)) for low, high in bands)
        self.sfreq = float(sfreq)
        self.missing = MissingPower(tokenizer.channels, tokenizer.time_steps, self.bands, sfreq)
        self._sums: Tensor | None = None
        self._counts: Tensor | None = None

    @classmethod
    def for_data(cls, settings: TokenizerSettings, data: Any) -> TokenizerTraining:
        """Fit a tokenizer to the training windows of a `BandData` and build the module."""
        windows = data.train_dataset
        most = max(2, _MOST_FITTED // (windows.num_stages * data.channels * data.time_steps))
        levels = windows.stack(min(settings.fit_windows, most))
        tokens = token_count(data.time_steps / data.sfreq, settings.tokens_a_second, windows.num_stages)
        tokenizer = BandTokenizer.fitted(levels, settings.codes, tokens, data.scale, data.seed, settings.fit_samples)
        return cls(settings, tokenizer, data.bands, data.sfreq, file_names(windows.paths))

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
        sizes = (made["channels"], made["time_steps"], settings.codes, made["lengths"], made["courses"], made["sizes"])
        return cls(settings, BandTokenizer(*sizes), made["bands"], made["sfreq"], made["trained_on"])

    def description(self) -> dict[str, Any]:
        """Return the arguments that rebuild the module, as plain numbers, text, lists and dicts."""
        return {
            "settings": asdict(self.settings),
            "channels": self.tokenizer.channels,
            "time_steps": self.tokenizer.time_steps,
            "lengths": list(self.tokenizer.lengths),
            "courses": list(self.tokenizer.courses),
            "sizes": list(self.tokenizer.quantizer.sizes),
            "bands": [list(band) for band in self.bands],
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
            ``bands`` and ``waveform``.
        decoded : Tensor of shape (batch, channels, time)
            Decoded signal, in uV.
        """
        tokenizer, quantized = self.tokenizer, self.tokenizer.quantize(levels)
        bands = tokenizer.decode_sum(quantized.partial_sums[-1], len(self.bands) - 1)
        error = (bands - single_bands(levels)).square().mean(dim=(0, 2, 3)) / tokenizer.band_rms.square()
        decoded = bands.sum(dim=1)
        waveform = (decoded - levels[:, -1]).square().mean() / tokenizer.rms.square()
        return {"bands": error.mean(), "waveform": waveform}, decoded

    def training_step(self, levels: Tensor, batch_idx: int) -> Tensor:
        if self.settings.flips:
            levels = flipped(levels)
        losses, decoded = self.losses(levels)
        self.missing.update(levels[:, -1], decoded.detach())
        loss = losses["bands"] + self.settings.waveform_weight * losses["waveform"]
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({f"train_{name}": value for name, value in losses.items()})
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
        counts : Tensor of shape (tokens, codes)
            How often each token had each code.
        """
        tokens = self.tokenizer.encode(levels)
        cumulative = self.tokenizer.decode(tokens)
        bands = self.tokenizer.decode_sum(self.tokenizer.quantizer.partial_sums(tokens)[-1], len(self.bands) - 1)
        true = single_bands(levels)
        terms = [bands - true, true, cumulative - levels, levels]
        sums = torch.stack([term.float().square().mean(dim=(2, 3)).double().sum(dim=0) for term in terms])
        return sums, uses_of(tokens, self.settings.codes)

    def validation_scores(self, sums: Tensor, counts: Tensor) -> dict[str, float]:
        """Return the validation scores for added `validation_sums`.

        ``val_r2_<band>`` is the fraction of the power of a band that all tokens explain, ``val_r2_to_<band>`` the
        fraction of the cumulative band that the tokens up to its scale explain, and ``val_r2`` the fraction of the
        whole signal. ``val_bands`` is the mean error over bands in units of their power (1 for predicting zero).
        ``val_perplexity`` and ``val_codes_used`` describe the use of the codebooks, as means over tokens.
        """
        error, power, total_error, total = sums
        by_band, cumulative = (1 - error / power).tolist(), (1 - total_error / total).tolist()
        scores = {"val_bands": float((error / power).mean()), "val_r2": cumulative[-1]}
        for name, band, level in zip(band_names(self.bands), by_band, cumulative, strict=True):
            scores[f"val_r2_{name}"], scores[f"val_r2_to_{name}"] = band, level
        scores["val_perplexity"] = mean_perplexity(counts)
        scores["val_codes_used"] = float((counts > 0).sum(dim=1).float().mean())
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


def uses_of(tokens: Tensor, codes: int) -> Tensor:
    """Return how often each token has each code, (tokens, codes), of windows' tokens (windows, tokens)."""
    return torch.nn.functional.one_hot(tokens, codes).sum(dim=0)


def mean_perplexity(counts: Tensor) -> float:
    """Return the perplexity of a token's codes, the mean over tokens: the number of codes if all are used alike."""
    shares = counts.double() / counts.sum(dim=1, keepdim=True).clamp_min(1)
    return float((-(shares * shares.clamp_min(1e-30).log()).sum(dim=1)).exp().mean())


def flipped(levels: Tensor) -> Tensor:
    """Flip each window of a batch at random in sign, in time, in both or in neither; spectra do not change."""
    sign = torch.randint(2, (len(levels), 1, 1, 1), device=levels.device) * 2 - 1
    back = torch.randint(2, (len(levels), 1, 1, 1), device=levels.device).bool()
    return sign * torch.where(back, levels.flip(-1), levels)
