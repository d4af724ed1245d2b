"""Pretrain LaBraM by masked EEG modelling (phase 2): predict the codes of masked patches.

The tokenizer is not a submodule: its weights are not in the parameters, the optimizer or the checkpoint, and `train()`
does not reach it. Its fingerprint is in each checkpoint, so that training never continues with different labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.ground.fields import checked
from nbkit.neuro.labram.backbone import NeuralTransformer, cut_patches
from nbkit.neuro.labram.channels import channel_rows, rows_of, with_rows
from nbkit.neuro.labram.codebook import Codebook
from nbkit.neuro.labram.tokenizer import VQNSP
from nbkit.neuro.nn.masking import random_mask
from nbkit.neuro.nn.vq import code_counts
from nbkit.neuro.signals.seen import seen_of, seen_together
from nbkit.neuro.training.band_probe import NAME as PROBE
from nbkit.neuro.training.band_probe import BandProbe
from nbkit.neuro.training.optimization import ClippedModule, Patience, check_batch, make_optimizer
from nbkit.neuro.training.steps.apart import InParts, in_pieces
from nbkit.neuro.training.weights import held, load_strictly, settings_from

MONITOR = "val_mem_loss"
_SCORED_EVERY = 10  # training steps between two accuracies, which cost a pass over all logits


@checked
@dataclass(frozen=True)
class PretrainSettings:
    """Settings of masked pretraining; the defaults are those of the seed project.

    `counted` turns lengths in epochs into steps; a length in steps above 0 takes precedence.
    """

    patch: int = 100  # samples: 1 s at 100 Hz; must equal the tokenizer's
    dim: int = 200
    heads: int = 10
    depth: int = 12
    mlp_ratio: float = 4.0
    layer_scale: float = 0.1
    qk_norm: bool = True
    qkv_bias: bool = False
    drop_path: float = 0.0
    mask_ratio: float = 0.5
    compile: bool = False  # compile the blocks with torch.compile: faster from the second minute on
    lr: float = 5e-4
    min_lr: float = 1e-5
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    grad_clip: float = 3.0
    batch_size: int = 64
    epochs: int = 300
    warmup_epochs: float = 5.0
    patience_epochs: int = 30
    steps: int = 0
    warmup_steps: int = 0
    patience_steps: int = 0

    @classmethod
    def full(cls) -> PretrainSettings:
        """Return the seed project's settings for all ten releases."""
        return cls()

    @classmethod
    def mini(cls) -> PretrainSettings:
        """Return the seed project's settings for release 1 alone: the same network, fewer epochs."""
        return cls(epochs=75, patience_epochs=15)

    @classmethod
    def published(cls) -> PretrainSettings:
        """Return the published training length, for patches of 1 s at 100 Hz."""
        return cls(epochs=50, patience_epochs=0)

    @classmethod
    def labram_hub(cls) -> PretrainSettings:
        """Return the settings of the published network itself: patches of 200 samples at 200 Hz."""
        return cls(patch=200, epochs=50, patience_epochs=0)

    @classmethod
    def free(cls) -> PretrainSettings:
        """Return settings for the mini releases on one 16 GB GPU."""
        return cls(epochs=60, patience_epochs=15)

    @classmethod
    def smoke(cls) -> PretrainSettings:
        """Return small settings for a test of seconds on two CPU cores; the code is the same."""
        return cls(
            dim=40, heads=4, depth=2, lr=2e-3, min_lr=2e-4, batch_size=8, steps=60, warmup_steps=6, patience_steps=60
        )


class Guess(NamedTuple):
    """Predictions of the student for a batch.

    Attributes
    ----------
    logits : Tensor of shape (batch, tokens, codes)
        Logits of each token, from the pass in which it was masked.
    mask : Tensor of shape (batch, tokens)
        True for tokens that were masked in the first pass.
    """

    logits: Tensor
    mask: Tensor


class MaskedEEG(InParts, ClippedModule):
    """Lightning module that pretrains a student on the codes of a frozen tokenizer, with symmetric masking.

    Jiang et al. (2024), section 2.4. The student sees each window twice: a random half of the tokens is masked in the
    first pass, and the other half in the second. The loss is the sum of both cross-entropies, so each token is
    predicted once.

    Parameters
    ----------
    settings : PretrainSettings
        With lengths in steps (see `counted`).
    tokenizer : VQNSP
        Will be frozen.
    ch_names : sequence of str
        Channels of the windows, in order.
    sfreq : float
        Sampling rate, in Hz.

    Raises
    ------
    ValueError
        If the tokenizer has another patch length than the settings.
    """

    def __init__(self, settings: PretrainSettings, tokenizer: VQNSP, ch_names: Sequence[str], sfreq: float) -> None:
        super().__init__()
        if tokenizer.patch != settings.patch:
            raise ValueError(
                f"The tokenizer's patches have {tokenizer.patch} samples, the settings' {settings.patch}: each token "
                f"needs one code. Set patch to {tokenizer.patch}."
            )
        self.settings, self.ch_names, self.sfreq = settings, tuple(ch_names), float(sfreq)
        self.table, self.codes = tokenizer.encoder.table, tokenizer.quantize.size
        self.student = make_backbone(settings, self.table)
        self.mask_token = nn.Parameter(torch.empty(1, 1, settings.dim))
        self.lm_head = nn.Linear(settings.dim, self.codes)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.lm_head.weight, std=0.02)
        nn.init.zeros_(self.lm_head.bias)
        self.register_buffer("rows", torch.tensor(channel_rows(ch_names, self.table)), persistent=False)
        # Bypass nn.Module's registration: a submodule would be trained, saved and set to training mode.
        self.__dict__["tokenizer"] = tokenizer.freeze()
        self._fingerprint = tokenizer.fingerprint()
        self._sums: Tensor | None = None
        self._probe: BandProbe | None = None
        if settings.compile:
            for block in self.student.blocks:
                block.compile()

    @classmethod
    def for_data(cls, settings: PretrainSettings, data: Any, tokenizer: str | Path) -> MaskedEEG:
        """Return a module for data, with the tokenizer of a codebook checkpoint."""
        book = Codebook.from_checkpoint(tokenizer)
        module = cls(settings, book.tokenizer, data.ch_names, data.sfreq)
        module.seen = seen_together(book.seen, getattr(data, "seen", None))
        return module

    @classmethod
    def from_checkpoint(cls, path: str | Path, tokenizer: str | Path) -> MaskedEEG:
        """Load the module of a checkpoint, with the tokenizer of another checkpoint.

        Raises
        ------
        ValueError
            If a file holds something else, or the module was trained with another tokenizer.
        """
        made, weights = held(path, "labram_pretrain")
        book = Codebook.from_checkpoint(tokenizer)
        module = cls(settings_from(PretrainSettings, made, path), book.tokenizer, made["ch_names"], made["sfreq"])
        module._check_tokenizer(made, Path(path).name)
        load_strictly(module, weights, path)
        module.seen = seen_of(made) or ()
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["labram_pretrain"] = {
            "settings": asdict(self.settings), "ch_names": list(self.ch_names), "sfreq": self.sfreq,
            "table": self.table, "codes": self.codes, "tokenizer": self._fingerprint,
            "seen": list(self.seen),
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._check_tokenizer(checkpoint.get("labram_pretrain", {}), "The checkpoint")

    def _check_tokenizer(self, made: Mapping[str, Any], whose: str) -> None:
        if made.get("tokenizer") != self._fingerprint:
            raise ValueError(
                f"{whose} was trained on the codes of the tokenizer {str(made.get('tokenizer'))[:12]}; this one is "
                f"{self._fingerprint[:12]}: its codes mean something else. Nothing was loaded. Use the same "
                "tokenizer, or start a new training."
            )

    def configure_callbacks(self) -> list[lightning.Callback]:
        steps = self.settings.patience_steps
        return [Patience(MONITOR, steps)] if steps else []

    def on_before_batch_transfer(self, batch: Mapping[str, Any], dataloader_idx: int) -> Mapping[str, Any]:
        check_batch(batch)
        return with_rows(batch, self.table)

    def labels(self, windows: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the tokenizer's codes of windows in uV, int64 of shape (batch, tokens); see `forward`."""
        tokenizer: VQNSP = self.tokenizer
        if tokenizer.quantize.weight.device != windows.device:
            tokenizer.to(windows.device)
        return tokenizer.codes(windows, self.rows if rows is None else rows)

    def forward(self, windows: Tensor, rows: Tensor | None = None) -> Guess:
        """Predict the code of each masked token from the visible ones.

        Parameters
        ----------
        windows : Tensor of shape (batch, channels, time)
            In uV.
        rows : Tensor of shape (channels,), optional
            Rows of the channels in the table; by default those of the module's ``ch_names``.

        Returns
        -------
        guess : Guess
        """
        tokens = self.student.patch_embed(cut_patches(windows, self.settings.patch))
        mask = random_mask(*tokens.shape[:2], self.settings.mask_ratio, tokens.device)
        hidden = self.mask_token.to(tokens.dtype)
        both = torch.cat([torch.where(m[..., None], hidden, tokens) for m in (mask, ~mask)])
        first, second = self.student.trunk(both, self.rows if rows is None else rows)[:, 1:].chunk(2)
        return Guess(self.lm_head(torch.where(mask[..., None], first, second)), mask)

    def loss(self, guess: Guess, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy over the first pass's masked tokens plus that over the second's."""
        each = F.cross_entropy(guess.logits.flatten(0, 1).float(), labels.flatten(), reduction="none")
        return sum(_mean_where(each, m.flatten()) for m in (guess.mask, ~guess.mask))

    def step_parts(self, batch: Mapping[str, Any], batch_idx: int) -> Iterator[tuple[str, Tensor]]:
        count = len(batch["window"])

        def loss(piece: Mapping[str, Tensor]) -> Tensor:
            windows, rows = piece["window"], rows_of(piece, self.rows, self.table)
            labels, guess = self.labels(windows, rows), self(windows, rows)
            if batch_idx % _SCORED_EVERY == 0:
                right = (guess.logits.detach().argmax(-1) == labels).float() * (len(windows) / count)
                self.note("mlm_acc", _mean_where(right, guess.mask))
                self.note("mlm_acc_sym", _mean_where(right, ~guess.mask))
            return self.loss(guess, labels)

        # every window has as many masked tokens, so a mean over windows is one over tokens
        for part in in_pieces(batch, self.pieces, loss, lambda piece: len(piece["window"])):
            yield "mem_loss", part

    def on_validation_epoch_start(self) -> None:
        self._sums, self._probe = None, BandProbe(self.sfreq)

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        windows, rows = batch["window"], rows_of(batch, self.rows, self.table)
        labels = self.labels(windows, rows)
        guess = self(windows, rows)
        right = (guess.logits.argmax(-1) == labels).double().sum()
        totals = torch.stack([self.loss(guess, labels).double() * len(windows), right])
        size = totals.new_tensor([len(windows), labels.numel()])
        sums = torch.cat([totals, size, code_counts(labels, self.codes).double()])
        self._sums = sums if self._sums is None else self._sums + sums
        if self._probe is not None and not self._probe.full:
            tokens = self.student(cut_patches(windows, self.settings.patch), rows)[:, 1:]
            self._probe.add(tokens.mean(dim=1), windows)

    def on_validation_epoch_end(self) -> None:
        probed, self._probe = self._probe and self._probe.r2(), None  # a checkpoint holds no validation
        if probed is not None:
            self.log(PROBE, probed)
        if self._sums is None:
            return
        sums = self.all_gather(self._sums).reshape(-1, len(self._sums)).sum(dim=0)
        loss, right, windows, tokens = sums[:4]
        share = sums[4:] / tokens
        self.log_dict(
            {
                MONITOR: (loss / windows).float(),
                "val_mlm_acc": (right / tokens).float(),
                "val_commonest_code": share.max().float(),
                # Twice the entropy of the codes: the loss of a model that knows only how often each code occurs.
                "val_mem_loss_by_frequency": (-2 * torch.xlogy(share, share).sum()).float(),
            }
        )

    def configure_optimizers(self) -> dict[str, Any]:
        return make_optimizer(self, self.settings)


def make_backbone(settings: Any, table: str) -> NeuralTransformer:
    """Return a new network of the student, which finetuning reuses."""
    s = settings
    return NeuralTransformer(
        s.patch, s.depth, s.dim, s.heads, mlp_ratio=s.mlp_ratio, table=table, qkv_bias=s.qkv_bias, qk_norm=s.qk_norm,
        layer_scale=s.layer_scale, drop_path=s.drop_path,
    )  # fmt: skip


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over masked tokens, without waiting for the GPU."""
    return (values * mask).sum() / mask.sum()


def score_rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the result rows of the last validation, each with unit and baseline; empty before the first validation."""
    logged = [row for row in history if MONITOR in row]
    if not logged:
        return []
    last = logged[-1]
    return [
        {"name": MONITOR, "value": last[MONITOR], "unit": "nat", "baseline": last["val_mem_loss_by_frequency"],
         "baseline_is": "knowing only how often each code occurs"},
        {"name": "val_mlm_acc", "value": last["val_mlm_acc"], "unit": "1", "baseline": last["val_commonest_code"],
         "baseline_is": "always the most frequent code"},
    ]  # fmt: skip
