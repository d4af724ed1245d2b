"""Training of the next-scale transformer on tokens.

The frozen tokenizer is part of the module, so that generation needs only one checkpoint. Validation computes the
negative log-likelihood per token in nats; its baseline predicts the frequency of each code in each scale.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nbkit.ground.fields import checked
from nbkit.neuro.bandvar.data import file_names
from nbkit.neuro.bandvar.tokens.conditions import Conditions
from nbkit.neuro.bandvar.tokens.generator import NextScaleTransformer
from nbkit.neuro.bandvar.tokens.quantizer import BandQuantizer
from nbkit.neuro.bandvar.tokens.sampling import generate_tokens
from nbkit.neuro.bandvar.tokens.scales import active_scales, scale_weights
from nbkit.neuro.bandvar.tokens.token_data import TokenData, frequencies
from nbkit.neuro.bandvar.tokens.tokenizer_training import TokenizerTraining
from nbkit.neuro.signals.bands import band_names
from nbkit.neuro.training.lamb import Lamb
from nbkit.neuro.training.optimization import ClippedModule
from nbkit.neuro.training.rates import scaled_rate, shaped_rate
from nbkit.neuro.training.weights import held, load_strictly, settings_from


@checked
@dataclass(frozen=True)
class GeneratorSettings:
    """Settings of a training run. ``depth`` is the number of blocks and heads; the width is 64 times ``depth``.

    Presets: ``depth8`` to ``depth36`` are the model sizes of the paper, ``free`` is ``depth8`` for one GPU with 16 GB,
    ``demo`` for some minutes on one CPU core, ``smoke`` for a few seconds.
    """

    depth: int = 8
    drop_path: float = 0.0
    shared_modulation: bool = False
    modulation_init: float = 0.5  # factor on the initial AdaLN scales and shifts
    gate_init: float = 1e-5  # factor on the initial AdaLN gates (--alng in the original code)
    condition_dropout: float = 0.1  # probability of dropping each of class, subject and task
    progressive_until: float = 0.0  # fraction of the training after which all scales are trained; 0: from the start
    lr_at_256: float = 1e-4  # peak learning rate at 256 windows per optimizer step; scaled in proportion
    weight_decay: float = 0.05
    grad_clip: float = 2.0
    warmup_steps: int = 500
    final_lr_ratio: float = 0.01  # last over peak learning rate (--wpe in the original code, which is not a warm-up)
    optimizer: str = "adamw"  # or lamb
    schedule: str = "lin00"  # of the learning rate after the warm-up: cos, lin, lin0, lin00, exp
    final_weight_decay: float = 0.0  # reached as a cosine; 0: that of the beginning
    normed_attention: bool = False  # normalise queries and keys (--anorm in the original code)
    progressive_first: int = 1  # scales trained from the start, if progressive_until is above 0
    progressive_rise: int = 0  # steps over which a new scale gets its weight; 0: half of the time until the next
    batch_size: int = 64  # for each process
    max_steps: int = 30_000

    @classmethod
    def _of_depth(cls, depth: int, **more: Any) -> GeneratorSettings:
        return cls(depth=depth, drop_path=0.1 * depth / 24, **more)

    @classmethod
    def free(cls) -> GeneratorSettings:
        """Return settings for one T4-class GPU: depth 8, 27M weights without the tokenizer."""
        return cls._of_depth(8, lr_at_256=4e-4)

    @classmethod
    def depth8(cls) -> GeneratorSettings:
        """Return settings with depth 8 and width 512."""
        return cls._of_depth(8)

    @classmethod
    def depth12(cls) -> GeneratorSettings:
        """Return settings with depth 12 and width 768."""
        return cls._of_depth(12)

    @classmethod
    def depth16(cls) -> GeneratorSettings:
        """Return settings with depth 16 and width 1024."""
        return cls._of_depth(16)

    @classmethod
    def depth20(cls) -> GeneratorSettings:
        """Return settings with depth 20 and width 1280."""
        return cls._of_depth(20)

    @classmethod
    def depth24(cls) -> GeneratorSettings:
        """Return settings with depth 24 and width 1536."""
        return cls._of_depth(24)

    @classmethod
    def depth30(cls) -> GeneratorSettings:
        """Return settings with depth 30 and width 1920."""
        return cls._of_depth(30)

    @classmethod
    def depth36(cls) -> GeneratorSettings:
        """Return settings with depth 36 and width 2304, and one AdaLN layer for all blocks."""
        return cls._of_depth(36, shared_modulation=True)

    @classmethod
    def demo(cls) -> GeneratorSettings:
        """Return settings for 42 tokens per window on one CPU core, for some minutes."""
        return cls(
            depth=3, drop_path=0.2, gate_init=1e-2, progressive_until=0.2, lr_at_256=2e-3, weight_decay=0.2,
            warmup_steps=30, batch_size=64, max_steps=300,
        )  # fmt: skip

    @classmethod
    def smoke(cls) -> GeneratorSettings:
        """Return settings for a run of a few seconds on a CPU: the same code with a small model."""
        return cls(depth=2, gate_init=1e-2, progressive_until=0.3, lr_at_256=6e-2, warmup_steps=2, batch_size=8,
                   max_steps=20)  # fmt: skip


class GeneratorTraining(ClippedModule):
    """Lightning module that trains a `NextScaleTransformer` on the tokens of a frozen tokenizer.

    Parameters
    ----------
    settings : GeneratorSettings
    tokenizer : TokenizerTraining
        Trained tokenizer; its weights do not change.
    conditions : Conditions
        Names of classes, subjects and tasks.
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
            settings.normed_attention,
        )
        even = torch.full((len(self.quantizer.lengths), self.quantizer.codes), 1 / self.quantizer.codes)
        self.register_buffer("frequency", even)  # of each code in each scale, over the training windows
        self._sums: Tensor | None = None

    @classmethod
    def for_data(cls, settings: GeneratorSettings, tokenizer: TokenizerTraining, data: TokenData) -> GeneratorTraining:
        """Build the module with the condition names and code frequencies of a `TokenData`.

        Raises
        ------
        ValueError
            If the tokenizer was trained on a file that is held out here.
        """
        seen = sorted(set(file_names(data.windows.val_dataset.paths)) & set(tokenizer.trained_on))
        if seen:
            raise ValueError(
                f"{len(seen)} files are held out here, but the tokenizer was trained on them ({seen[0]}), so their "
                "scores would not be scores of unseen windows. Use the val_fraction and seed of the tokenizer training."
            )
        module = cls(settings, tokenizer, data.conditions)
        module.frequency.copy_(frequencies(data.train.tensors[0], module.quantizer.slices, module.quantizer.codes))
        return module

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> GeneratorTraining:
        """Load a module with its tokenizer from a checkpoint, in evaluation mode.

        Raises
        ------
        ValueError
            If the checkpoint has no generator.
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
    def quantizer(self) -> BandQuantizer:
        """The quantizer of the frozen tokenizer."""
        return self.coder.tokenizer.quantizer

    def train(self, mode: bool = True) -> GeneratorTraining:
        super().train(mode)
        self.coder.eval()  # in training mode its codebook would change
        return self

    def losses(self, tokens: Tensor, chosen: Tensor, scales: int | None = None) -> Tensor:
        """Return the negative log-likelihood of each token in nats.

        Parameters
        ----------
        tokens : Tensor of shape (batch, tokens)
        chosen : Tensor of shape (batch, 3)
            Numbers of class, subject and task.
        scales : int, optional
            Use only the first ``scales`` scales.

        Returns
        -------
        losses : Tensor of shape (batch, tokens of these scales)
        """
        end = self.quantizer.slices[(scales or len(self.quantizer.slices)) - 1].stop
        inputs = self.quantizer.next_inputs(tokens)[:, : end - self.quantizer.lengths[0]]
        logits = self.model(inputs, chosen)
        return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, :end].flatten(), reduction="none").view(-1, end)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        tokens, chosen = batch
        settings, lengths = self.settings, self.quantizer.lengths
        said = torch.rand(chosen.shape, device=chosen.device) >= settings.condition_dropout
        more = (settings.progressive_until, settings.progressive_first, settings.progressive_rise)
        count, newest = active_scales(self.global_step, settings.max_steps, len(lengths), *more)
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
        """Return the sums over windows that `validation_scores` needs; those of several batches can be added.

        Returns
        -------
        sums : Tensor of shape (3, tokens)
            Negative log-likelihood of the model, that of the code frequencies, and the number of windows.
        """
        scale = self.model.scale_of[None].expand_as(tokens)
        guess = -self.frequency.log()[scale, tokens]
        ours = self.losses(tokens, chosen)
        return torch.stack([term.double().sum(dim=0) for term in (ours, guess, torch.ones_like(ours))])

    def validation_scores(self, sums: Tensor) -> dict[str, float]:
        """Return the validation scores in nats per token.

        ``val_nll`` is the model, ``val_nll_frequency`` the baseline of code frequencies, ``val_nll_<band>`` the model
        on each scale.
        """
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
            Random numbers, on the device of this module.
        at_once : int
            Windows generated in one batch.
        **options
            Passed to `generate_tokens`: guidance, top_k, top_p, temperature.

        Returns
        -------
        tokens : Tensor of shape (windows, tokens)
        levels : Tensor of shape (windows, scales, channels, time)
            Cumulative bands in uV, as decoded; they have too little power, see `with_missing_power`.
        """
        parts = [
            generate_tokens(self.model, self.quantizer, part, generator=generator, **options)
            for part in chosen.to(self.frequency.device).split(at_once)
        ]
        tokens = torch.cat(parts)
        return tokens, torch.cat([self.coder.tokenizer.decode(part) for part in tokens.split(at_once)])

    def with_missing_power(self, signal: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return decoded windows with added noise that has the power missing in the decoder output.

        ``signal`` and the result have shape (windows, channels, time) and are in uV.
        """
        return signal + self.coder.missing.draw(len(signal), generator)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        settings = self.settings
        if settings.final_weight_decay:  # it depends on the step alone, so a resumed training has the same
            done = min(1.0, self.global_step / max(1, settings.max_steps - 1))
            turn = 0.5 + 0.5 * math.cos(math.pi * done)
            decay = settings.final_weight_decay + (settings.weight_decay - settings.final_weight_decay) * turn
            optimizer.param_groups[0]["weight_decay"] = decay

    def configure_optimizers(self) -> dict[str, Any]:
        settings, trainer = self.settings, self.trainer
        windows = settings.batch_size * trainer.accumulate_grad_batches * trainer.world_size
        decayed = [p for p in self.model.parameters() if p.ndim == 2 and p.requires_grad]
        others = [p for p in self.model.parameters() if p.ndim != 2 and p.requires_grad]
        if settings.optimizer not in ("adamw", "lamb"):
            raise ValueError(f"optimizer={settings.optimizer!r} is unknown; give adamw or lamb.")
        make = torch.optim.AdamW if settings.optimizer == "adamw" else Lamb
        optimizer = make(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=scaled_rate(settings.lr_at_256, windows),
            betas=(0.9, 0.95),
        )

        def share(step: int) -> float:
            shape = (settings.schedule, step, settings.max_steps, settings.warmup_steps, settings.final_lr_ratio)
            return shaped_rate(*shape)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
