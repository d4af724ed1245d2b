"""Training of the next-scale transformer on tokens.

The tokenizer is frozen and part of the module: one checkpoint is all that generating needs. Validation is the negative
log-likelihood a token in nats, beside that of guessing each scale's codes by how frequent they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nbkit.neuro.bandvar.tokens.conditions import Conditions
from nbkit.neuro.bandvar.tokens.generator import NextScaleTransformer
from nbkit.neuro.bandvar.tokens.quantizer import MultiScaleQuantizer
from nbkit.neuro.bandvar.tokens.sampling import generate_tokens
from nbkit.neuro.bandvar.tokens.scales import active_scales, scale_weights
from nbkit.neuro.bandvar.tokens.token_data import TokenData, frequencies
from nbkit.neuro.bandvar.tokens.tokenizer_training import TokenizerTraining, file_names
from nbkit.neuro.signals.bands import band_names
from nbkit.neuro.training.optimization import ClippedModule
from nbkit.neuro.training.rates import linear_rate, scaled_rate
from nbkit.neuro.training.weights import held, load_strictly, settings_from


@dataclass(frozen=True)
class GeneratorSettings:
    """Settings of one training; ``depth`` sets the width (64 times it) and the heads (one each).

    Presets ``depth8`` to ``depth36`` are the sizes of the paper's family; ``free`` is ``depth8`` on one 16 GB card.
    """

    depth: int = 8
    drop_path: float = 0.0
    shared_modulation: bool = False
    modulation_init: float = 0.5  # factor of AdaLN's first scales and shifts
    gate_init: float = 1e-5  # factor of AdaLN's first gates (the seed's --alng)
    condition_dropout: float = 0.1  # how often class, subject and task are each left unsaid
    progressive_until: float = 0.0  # share of the training by which all scales have come in; 0: from the start
    lr_at_256: float = 1e-4  # highest rate at 256 windows an optimizer step; in proportion for others
    weight_decay: float = 0.05
    grad_clip: float = 2.0
    warmup_steps: int = 500
    final_lr_ratio: float = 0.01  # last rate over highest (the seed's --wpe, which is no warm-up)
    batch_size: int = 64  # of a process
    max_steps: int = 30_000

    @classmethod
    def _of_depth(cls, depth: int, **more: Any) -> GeneratorSettings:
        return cls(depth=depth, drop_path=0.1 * depth / 24, **more)

    @classmethod
    def free(cls) -> GeneratorSettings:
        """For one T4-class card: depth 8, 27M weights without the tokenizer's."""
        return cls._of_depth(8, lr_at_256=4e-4)

    @classmethod
    def depth8(cls) -> GeneratorSettings:
        """Width 512."""
        return cls._of_depth(8)

    @classmethod
    def depth12(cls) -> GeneratorSettings:
        """Width 768."""
        return cls._of_depth(12)

    @classmethod
    def depth16(cls) -> GeneratorSettings:
        """Width 1024."""
        return cls._of_depth(16)

    @classmethod
    def depth20(cls) -> GeneratorSettings:
        """Width 1280."""
        return cls._of_depth(20)

    @classmethod
    def depth24(cls) -> GeneratorSettings:
        """Width 1536."""
        return cls._of_depth(24)

    @classmethod
    def depth30(cls) -> GeneratorSettings:
        """Width 1920."""
        return cls._of_depth(30)

    @classmethod
    def depth36(cls) -> GeneratorSettings:
        """Width 2304, one AdaLN layer for all blocks."""
        return cls._of_depth(36, shared_modulation=True)

    @classmethod
    def demo(cls) -> GeneratorSettings:
        """For 42 tokens a window on one CPU core, some minutes."""
        return cls(
            depth=3, drop_path=0.2, gate_init=1e-2, progressive_until=0.2, lr_at_256=2e-3, weight_decay=0.2,
            warmup_steps=30, batch_size=64, max_steps=300,
        )  # fmt: skip

    @classmethod
    def smoke(cls) -> GeneratorSettings:
        """For seconds on a CPU: the same code, smaller."""
        return cls(depth=2, gate_init=1e-2, progressive_until=0.3, lr_at_256=6e-2, warmup_steps=2, batch_size=8,
                   max_steps=20)  # fmt: skip


class GeneratorTraining(ClippedModule):
    """Train a `NextScaleTransformer` on the tokens of a frozen tokenizer.

    Parameters
    ----------
    settings : GeneratorSettings
    tokenizer : TokenizerTraining
        Trained; kept as it is.
    conditions : Conditions
        The names of classes, subjects and tasks.
    """

    def __init__(self, settings: GeneratorSettings, tokenizer: TokenizerTraining, conditions: Conditions) -> None:
        super().__init__()
        self.settings, self.conditions = settings, conditions
        self.coder = tokenizer.requires_grad_(False).eval()
        self.model = NextScaleTransformer(
            self.quantizer.lengths,
            self.quantizer.codes,
            self.quantizer.width,
            conditions.counts,
            settings.depth,
            settings.drop_path,
            settings.shared_modulation,
            settings.modulation_init,
            settings.gate_init,
        )
        even = torch.full((len(self.quantizer.lengths), self.quantizer.codes), 1 / self.quantizer.codes)
        self.register_buffer("frequency", even)  # of each code in each scale of the training windows
        self._sums: Tensor | None = None

    @classmethod
    def for_data(cls, settings: GeneratorSettings, tokenizer: TokenizerTraining, data: TokenData) -> GeneratorTraining:
        """Build the module for a `TokenData`: its names, and how frequent each code is.

        Raises
        ------
        ValueError
            If the tokenizer was trained on a file that is held out here.
        """
        seen = sorted(set(file_names(data.windows.val_dataset.paths)) & set(tokenizer.trained_on))
        if seen:
            raise ValueError(
                f"{len(seen)} files are held out here and the tokenizer was trained on them ({seen[0]}): no score of "
                "them would be one of unseen windows. Give the val_fraction and seed of the tokenizer's training."
            )
        module = cls(settings, tokenizer, data.conditions)
        module.frequency.copy_(frequencies(data.train.tensors[0], module.quantizer.slices, module.quantizer.codes))
        return module

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> GeneratorTraining:
        """Build the module a checkpoint holds, tokenizer and all, in evaluation mode.

        Raises
        ------
        ValueError
            If the file holds no generator.
        """
        made, weights = held(path, "band_generator", device)
        names = Conditions(**{key: tuple(value) for key, value in made["conditions"].items()})
        tokenizer = TokenizerTraining.from_description(made["tokenizer"], path)
        module = cls(settings_from(GeneratorSettings, made, path), tokenizer, names)
        load_strictly(module, weights, path)
        return module.to(device).eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["band_generator"] = {
            "settings": asdict(self.settings),
            "conditions": self.conditions.description(),
            "tokenizer": self.coder.description(),
        }

    @property
    def quantizer(self) -> MultiScaleQuantizer:
        """The tokenizer's, frozen."""
        return self.coder.tokenizer.quantizer

    def train(self, mode: bool = True) -> GeneratorTraining:
        super().train(mode)
        self.coder.eval()  # its codebook must not move
        return self

    def losses(self, tokens: Tensor, chosen: Tensor, scales: int | None = None) -> Tensor:
        """Return each token's negative log-likelihood, (batch, tokens of the first ``scales`` scales), in nats."""
        end = self.quantizer.slices[(scales or len(self.quantizer.slices)) - 1].stop
        inputs = self.quantizer.next_inputs(tokens)[:, : end - self.quantizer.lengths[0]]
        logits = self.model(inputs, chosen)
        return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, :end].flatten(), reduction="none").view(-1, end)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        tokens, chosen = batch
        settings, lengths = self.settings, self.quantizer.lengths
        said = torch.rand(chosen.shape, device=chosen.device) >= settings.condition_dropout
        count, newest = active_scales(self.global_step, settings.max_steps, len(lengths), settings.progressive_until)
        weights = scale_weights(lengths, count, newest).to(tokens.device)
        loss = (self.losses(tokens, chosen * said, count) * weights).mean()
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_scales", float(count))
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = None

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        sums = self.validation_sums(*batch)
        self._sums = sums if self._sums is None else self._sums + sums

    def on_validation_epoch_end(self) -> None:
        if self._sums is None:
            return
        sums = self.all_gather(self._sums)
        self.log_dict(self.validation_scores(sums.reshape(-1, *self._sums.shape).sum(dim=0)))

    @torch.no_grad()
    def validation_sums(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        """Return sums over windows, (3, tokens): of the likelihoods, of those of the codes' frequency, and ones."""
        scale = self.model.scale_of[None].expand_as(tokens)
        guess = -self.frequency.log()[scale, tokens]
        ours = self.losses(tokens, chosen)
        return torch.stack([term.double().sum(dim=0) for term in (ours, guess, torch.ones_like(ours))])

    def validation_scores(self, sums: Tensor) -> dict[str, float]:
        """Return ``val_nll`` and, beside it, ``val_nll_frequency``, in nats a token; ``val_nll_<band>`` is by scale."""
        ours, guess, count = sums
        scores = {
            "val_nll": float(ours.sum() / count.sum()),
            "val_nll_frequency": float(guess.sum() / count.sum()),
        }
        for name, place in zip(band_names(self.coder.bands), self.quantizer.slices, strict=True):
            scores[f"val_nll_{name}"] = float(ours[place].sum() / count[place].sum())
        return scores

    @torch.no_grad()
    def generate(
        self, chosen: Tensor, *, generator: torch.Generator | None = None, at_once: int = 64, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Generate windows.

        Parameters
        ----------
        chosen : Tensor of shape (windows, 3)
            See `Conditions.asked`.
        generator : torch.Generator, optional
            On this module's device.
        at_once : int
            Windows generated together.
        **options
            Of `generate_tokens`: guidance, top_k, top_p, temperature.

        Returns
        -------
        tokens : Tensor of shape (windows, tokens)
        levels : Tensor of shape (windows, scales, channels, time)
            Cumulative bands in uV, as the decoder's mean has them; see `with_missing_power`.
        """
        parts = [
            generate_tokens(self.model, self.quantizer, part, generator=generator, **options)
            for part in chosen.to(self.frequency.device).split(at_once)
        ]
        tokens = torch.cat(parts)
        return tokens, torch.cat([self.coder.tokenizer.decode(part) for part in tokens.split(at_once)])

    def with_missing_power(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return decoded windows (windows, channels, time) in uV, with noise of the power that a decoder leaves out."""
        return signal + self.coder.missing.draw(len(signal), generator)

    def configure_optimizers(self) -> dict[str, Any]:
        settings, trainer = self.settings, self.trainer
        windows = settings.batch_size * trainer.accumulate_grad_batches * trainer.world_size
        decayed = [p for p in self.model.parameters() if p.ndim == 2 and p.requires_grad]
        others = [p for p in self.model.parameters() if p.ndim != 2 and p.requires_grad]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=scaled_rate(settings.lr_at_256, windows),
            betas=(0.9, 0.95),
        )

        def share(step: int) -> float:
            return linear_rate(step, settings.max_steps, settings.warmup_steps, settings.final_lr_ratio)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
