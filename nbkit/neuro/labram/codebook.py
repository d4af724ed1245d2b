"""Train LaBraM's tokenizer (phase 1).

Validation covers whole epochs and compares with two trivial baselines. Predicting the mean of each window's spectrum
has an error of 1 in amplitude and in phase. Decoding the codes of another window shows what the decoder knows about any
EEG.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from nbkit.ground.fields import checked
from nbkit.neuro.labram.channels import channel_rows, find_table, rows_of, with_rows
from nbkit.neuro.labram.tokenizer import VQNSP, Tokenized
from nbkit.neuro.nn.vq import perplexity, unused
from nbkit.neuro.signals.seen import seen_of, seen_together
from nbkit.neuro.training.optimization import ClippedModule, Patience, check_batch, make_optimizer
from nbkit.neuro.training.weights import held, load_strictly, settings_from

MONITOR = "val_tok_loss"


@checked
@dataclass(frozen=True)
class CodebookSettings:
    """Settings of the codebook's training; the defaults are those of the seed project.

    `counted` turns lengths in epochs into steps; a length in steps above 0 takes precedence.
    """

    patch: int = 100  # samples: 1 s at 100 Hz
    dim: int = 200
    heads: int = 10
    mlp_ratio: float = 4.0
    encoder_depth: int = 24
    decoder_depth: int = 3
    codebook_size: int = 8192
    code_dim: int = 32
    decay: float = 0.99
    beta: float = 1.0  # weight of the commitment loss
    restart_below: float = 0.0  # codes used less per batch are replaced by a random vector; 0: never, as published
    sincos: bool = False  # sine and cosine of the phase instead of its angle
    lr: float = 1e-4
    min_lr: float = 1e-5
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    grad_clip: float = 1.0
    batch_size: int = 128
    epochs: int = 200
    warmup_epochs: float = 5.0
    patience_epochs: int = 20
    steps: int = 0
    warmup_steps: int = 0
    patience_steps: int = 0

    @classmethod
    def full(cls) -> CodebookSettings:
        """Return the seed project's settings for all ten releases."""
        return cls()

    @classmethod
    def mini(cls) -> CodebookSettings:
        """Return the seed project's settings for release 1 alone: the same network, fewer epochs."""
        return cls(epochs=50, patience_epochs=10, batch_size=64)

    @classmethod
    def published(cls) -> CodebookSettings:
        """Return the depth, code length and optimiser of the published tokenizer, for patches of 1 s at 100 Hz."""
        return cls(
            encoder_depth=12, code_dim=64, lr=5e-5, min_lr=1e-5, weight_decay=1e-4, betas=(0.9, 0.99), grad_clip=0.0,
            epochs=100, warmup_epochs=10.0,
        )  # fmt: skip

    @classmethod
    def labram_hub(cls) -> CodebookSettings:
        """Return the settings of the published tokenizer itself: `published` with patches of 200 samples at 200 Hz."""
        return cls(**{**asdict(cls.published()), "patch": 200})

    @classmethod
    def free(cls) -> CodebookSettings:
        """Return settings for the mini releases on one 16 GB GPU: the published depth, and unused codes are restarted.

        With the seed's slow codes and without restarts, a short training ends with one code for everything (measured on
        eegbci and on the synthetic HBN data), which would waste a night on a free GPU.
        """
        return cls(
            encoder_depth=12, decay=0.95, restart_below=0.1, batch_size=64, epochs=30, warmup_epochs=2.0,
            patience_epochs=10,
        )  # fmt: skip

    @classmethod
    def smoke(cls) -> CodebookSettings:
        """Return small settings for a test of seconds on two CPU cores; the code is the same."""
        return cls(
            dim=40, heads=4, encoder_depth=2, decoder_depth=1, codebook_size=64, code_dim=16, decay=0.9, beta=0.1,
            restart_below=0.5, lr=2e-3, min_lr=2e-4, batch_size=8, steps=200, warmup_steps=20, patience_steps=200,
        )  # fmt: skip


class Codebook(ClippedModule):
    """Lightning module that trains a `VQNSP` tokenizer.

    Parameters
    ----------
    settings : CodebookSettings
        With lengths in steps (see `counted`).
    ch_names : sequence of str
        Channels of the windows, in order.
    sfreq : float
        Sampling rate, in Hz; stored with the weights.
    table : str, optional
        Table of channel names; by default the one that holds all of them.
    """

    def __init__(
        self, settings: CodebookSettings, ch_names: Sequence[str], sfreq: float, table: str | None = None
    ) -> None:
        super().__init__()
        self.settings, self.ch_names, self.sfreq = settings, tuple(ch_names), float(sfreq)
        self.table = table or find_table(ch_names)
        s = settings
        self.tokenizer = VQNSP(
            s.patch, s.encoder_depth, s.decoder_depth, s.codebook_size, s.code_dim, dim=s.dim, heads=s.heads,
            mlp_ratio=s.mlp_ratio, decay=s.decay, beta=s.beta, restart_below=s.restart_below, table=self.table,
            sincos=s.sincos,
        )  # fmt: skip
        self.register_buffer("rows", torch.tensor(channel_rows(ch_names, self.table)), persistent=False)
        self._sums: Tensor | None = None
        self._health: dict[str, Tensor] = {}

    @classmethod
    def for_data(cls, settings: CodebookSettings, data: Any) -> Codebook:
        """Return a module for data with ``ch_names`` and ``sfreq``."""
        module = cls(settings, data.ch_names, data.sfreq)
        module.seen = seen_together(getattr(data, "seen", None))
        return module

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> Codebook:
        """Load the module of a checkpoint, with its weights.

        Raises
        ------
        ValueError
            If the file holds no codebook, or its weights do not match this version.
        """
        made, weights = held(path, "labram_codebook", device)
        module = cls(settings_from(CodebookSettings, made, path), made["ch_names"], made["sfreq"], made["table"])
        load_strictly(module, weights, path)
        module.seen = seen_of(made) or ()
        return module.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["labram_codebook"] = {
            "settings": asdict(self.settings), "ch_names": list(self.ch_names), "sfreq": self.sfreq,
            "table": self.table, "seen": list(self.seen),
        }  # fmt: skip

    def configure_callbacks(self) -> list[lightning.Callback]:
        steps = self.settings.patience_steps
        return [Patience(MONITOR, steps)] if steps else []

    def on_before_batch_transfer(self, batch: Mapping[str, Any], dataloader_idx: int) -> Mapping[str, Any]:
        check_batch(batch)
        return with_rows(batch, self.table)

    def forward(self, windows: Tensor, rows: Tensor | None = None) -> Tokenized:
        """Return losses and codes of windows of shape (batch, channels, time), in uV; rows: by default the module's."""
        return self.tokenizer(windows, self.rows if rows is None else rows)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        out = self(batch["window"], rows_of(batch, self.rows, self.table))
        self.log("tok_loss", out.loss, prog_bar=True)
        self.log_dict({"quant_loss": out.quant, "amplitude_loss": out.amplitude, "phase_loss": out.phase})
        return out.loss

    def on_validation_epoch_start(self) -> None:
        book = self.tokenizer.quantize
        self._health = {
            "unused_codes": unused(book.counts).float(),
            "perplexity": perplexity(book.counts),
        }
        book.reset_counts()
        self._sums = None

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        rows = rows_of(batch, self.rows, self.table)
        out = self(batch["window"], rows)
        swapped = self.tokenizer.amplitude_loss(batch["window"], out.indices.roll(1, dims=0), rows)
        size = len(batch["window"])
        losses = torch.stack([*out[:4], swapped]).double()
        # a window alone in its batch, such as the last of a montage, has no other one to be swapped with
        sizes = losses.new_tensor([size, size if size > 1 else 0])
        sums = torch.cat([losses[:4] * size, losses[4:] * sizes[1:], sizes])
        self._sums = sums if self._sums is None else self._sums + sums

    def on_validation_epoch_end(self) -> None:
        if self._sums is None:
            return
        book = self.tokenizer.quantize
        sums = self.all_gather(self._sums).reshape(-1, len(self._sums)).sum(dim=0)
        loss, quant, amplitude, phase = sums[:4] / sums[5]
        swapped = sums[4] / sums[6] if sums[6] else amplitude  # no window has another one beside it
        self.log_dict(
            {
                MONITOR: loss.float(), "val_quant_loss": quant.float(), "val_amplitude_loss": amplitude.float(),
                "val_phase_loss": phase.float(), "val_amplitude_loss_swapped": swapped.float(),
                "val_unused_codes": unused(book.counts).float(),
                "val_perplexity": perplexity(book.counts), **self._health,
            }
        )  # fmt: skip
        book.reset_counts()

    def configure_optimizers(self) -> dict[str, Any]:
        return make_optimizer(self.tokenizer, self.settings)


@torch.no_grad()
def code_use(module: Any, batches: Any, most: int | None = None) -> Tensor:
    """Count how often each code of a module's ``tokenizer`` occurs in batches.

    Parameters
    ----------
    module : Codebook or MaskedEEG
    batches : iterable of mapping
        Batches with ``window`` in uV, and with ``ch_names`` if there are several montages.
    most : int, optional
        Number of batches to count; by default all.

    Returns
    -------
    counts : Tensor of shape (codes,)
    """
    tokenizer: VQNSP = module.tokenizer.to(module.device)
    counts = torch.zeros(tokenizer.quantize.size)
    for batch in itertools.islice(batches, most):
        rows = rows_of(batch, module.rows, module.table)
        codes = tokenizer.codes(batch["window"].to(module.device), rows)
        counts += torch.bincount(codes.flatten().cpu(), minlength=len(counts))
    return counts


def draw_codes(module: Any, batches: Any, most: int = 64) -> Any:
    """Return the figure of `code_use` over some batches: the codes that a pretraining predicts."""
    from nbkit.neuro.plots.codebook import plot_code_use

    return plot_code_use(code_use(module, batches, most), title="Codes to predict")


def reconstructions(
    module: Codebook, window: Tensor, ch_names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Reconstruct a window from its codes, with the decoded phases and with its own phases.

    Parameters
    ----------
    module : Codebook
    window : Tensor of shape (channels, time)
        In uV.
    ch_names : sequence of str, optional
        Its channels; by default those of the module.

    Returns
    -------
    alone, own_phase : ndarray of shape (channels, time)
        In uV.
    """
    windows = torch.as_tensor(window)[None].to(module.device)
    rows = rows_of({"ch_names": ch_names} if ch_names else {}, module.rows, module.table)
    made = (module.tokenizer.reconstruct(windows, rows, own_phase=own)[0].cpu().numpy() for own in (False, True))
    return next(made), next(made)


def score_rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the result rows of the last validation, each with unit and baseline; empty before the first validation."""
    logged = [row for row in history if MONITOR in row]
    if not logged:
        return []
    last = logged[-1]
    mean = "predicting each window's mean amplitude and phase, with no codes"
    return [
        {"name": MONITOR, "value": last[MONITOR], "unit": "1", "baseline": 2.0, "baseline_is": mean},
        {"name": "val_amplitude_loss", "value": last["val_amplitude_loss"], "unit": "1",
         "baseline": last["val_amplitude_loss_swapped"], "baseline_is": "the codes of another window"},
        {"name": "val_phase_loss", "value": last["val_phase_loss"], "unit": "1", "baseline": 1.0, "baseline_is": mean},
        {"name": "val_perplexity", "value": last["val_perplexity"], "unit": "codes", "baseline": 1.0,
         "baseline_is": "one code for everything"},
    ]  # fmt: skip
