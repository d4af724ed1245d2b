"""NeuroFM: one network for the spikes of many recordings.

The tokenizer turns the spikes of any number of units into one token for each bin. Mamba blocks, latents and a
population transformer compute states of bins and units. Heads predict behaviour, the expected counts of every unit, and
the start of the next window. All weights are shared between recordings, except the embeddings and mean rates of units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nbkit.ground.fields import checked
from nbkit.neuro.neurofm.network.encoder import PopulationEncoder
from nbkit.neuro.neurofm.network.heads import BehaviourHead, ContrastHead, CountHead, ForecastHead
from nbkit.neuro.neurofm.network.tokenizer import SpikeTokenizer, UnitBook
from nbkit.neuro.neurofm.network.units import UnitTable


@checked
@dataclass(frozen=True)
class NeuroFMSettings:
    """Settings of the network, its windows and its training. The defaults are `quick_test`.

    `nbkit.neuro.neurofm.pretrain.laid_over` converts lengths in epochs to steps; lengths in steps that are above 0 take
    precedence.
    """

    dim: int = 128
    heads: int = 4
    blocks: int = 4  # Mamba blocks in each stream
    rates: tuple[int, ...] = (1, 4)  # bins per step of each stream
    d_state: int = 16
    latents: int = 32
    perceiver_layers: int = 2
    population_layers: int = 2
    queries: int = 4  # tokenizer queries for each bin
    contrast_dim: int = 64
    forecast_bins: int = 10
    stitch: bool = False  # add a stitch matrix for each recording, see RecordingPage
    bin_s: float = 0.01
    n_bins: int = 100
    shift: bool = True  # start training windows at bins drawn at random
    max_units: int = 384  # units drawn at random for each training window; validation uses all
    mask_ratio: float = 0.15
    masked_weight: float = 1.0
    behaviour_weight: float = 1.0
    contrast_weight: float = 0.1
    forecast_weight: float = 0.1
    temperature: float = 0.1
    snr_easy: float = 0.8  # lowest SNR in the first stage of the curriculum
    snr_hard: float = 0.3  # lowest SNR in its last stage
    curriculum_share: float = 0.3  # fraction of the steps with a curriculum; 0: all recordings from the start
    lr: float = 3e-4
    min_lr: float = 3e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    grad_clip: float = 1.0
    batch_size: int = 8
    accumulate: int = 2
    epochs: int = 10
    warmup_epochs: float = 0.5
    patience_epochs: int = 3
    steps: int = 0
    warmup_steps: int = 0
    patience_steps: int = 0

    @classmethod
    def quick_test(cls) -> NeuroFMSettings:
        """Return settings for the first step of the original plan: 4 recordings."""
        return cls()

    @classmethod
    def small(cls) -> NeuroFMSettings:
        """Return settings with width 64 and 16 latents, the smallest model size."""
        return cls(dim=64, latents=16, epochs=20)

    @classmethod
    def medium(cls) -> NeuroFMSettings:
        """Return settings with width 128 and 32 latents."""
        return cls(dim=128, latents=32, epochs=20)

    @classmethod
    def large(cls) -> NeuroFMSettings:
        """Return settings with width 256 and 64 latents."""
        return cls(dim=256, heads=8, latents=64, epochs=20)

    @classmethod
    def xl(cls) -> NeuroFMSettings:
        """Return settings with width 512 and 128 latents."""
        return cls(dim=512, heads=8, latents=128, epochs=20)

    @classmethod
    def hyperparam_small(cls) -> NeuroFMSettings:
        """Return settings of the search with width 128 and 4 blocks."""
        return cls(epochs=20)

    @classmethod
    def hyperparam_medium(cls) -> NeuroFMSettings:
        """Return settings of the search with width 256 and 4 blocks."""
        return cls(dim=256, heads=8, latents=64, epochs=20)

    @classmethod
    def hyperparam_large(cls) -> NeuroFMSettings:
        """Return settings of the search with width 256 and 8 blocks."""
        return cls(dim=256, heads=8, latents=64, blocks=8, epochs=20)

    @classmethod
    def cloud_aws_a100(cls) -> NeuroFMSettings:
        """Return settings for 50 to 100 recordings on one GPU with 80 GB."""
        return cls(dim=256, heads=8, latents=64, blocks=8, batch_size=32, accumulate=1, epochs=50, patience_epochs=5)

    @classmethod
    def phase_1(cls) -> NeuroFMSettings:
        """Return settings for phase 1 of the original plan, validation: those of `quick_test`."""
        return cls.quick_test()

    @classmethod
    def phase_2(cls) -> NeuroFMSettings:
        """Return settings for phase 2, hyperparameters: those of `hyperparam_medium`; the search varies them."""
        return cls.hyperparam_medium()

    @classmethod
    def phase_3(cls) -> NeuroFMSettings:
        """Return settings for phase 3, one modality: those of `cloud_aws_a100`."""
        return cls.cloud_aws_a100()

    @classmethod
    def phase_4(cls) -> NeuroFMSettings:
        """Return settings for phase 4, many modalities: those of phase 3 with unit stitching between kinds."""
        return replace(cls.cloud_aws_a100(), stitch=True)

    @classmethod
    def phase_5(cls) -> NeuroFMSettings:
        """Return settings for phase 5, across species: those of phase 4."""
        return cls.phase_4()

    @classmethod
    def one_recording(cls) -> NeuroFMSettings:
        """Return settings to decode a short recording on a CPU: a small network that learns behaviour first."""
        return cls(
            dim=32, heads=2, blocks=1, d_state=4, latents=8, perceiver_layers=1, population_layers=1,
            behaviour_weight=4.0, contrast_weight=0.0, forecast_weight=0.0, curriculum_share=0.0, lr=5e-3, min_lr=3e-4,
            accumulate=1, steps=600, warmup_steps=30, patience_steps=600,
        )  # fmt: skip

    @classmethod
    def free(cls) -> NeuroFMSettings:
        """Return settings for 20 to 40 recordings on one GPU with 16 GB, in float16."""
        return cls(batch_size=32, accumulate=1, epochs=20)

    @classmethod
    def smoke(cls) -> NeuroFMSettings:
        """Return settings for a run of a few seconds on two CPU cores: the same code with a small model."""
        return cls(
            dim=32, heads=2, blocks=1, d_state=4, latents=8, perceiver_layers=1, population_layers=1, contrast_dim=16,
            forecast_bins=5, bin_s=0.02, n_bins=50, max_units=64, curriculum_share=0.15, lr=5e-3, min_lr=3e-4,
            batch_size=8, accumulate=1, steps=200, warmup_steps=8, patience_steps=200,
        )  # fmt: skip


class Answer(NamedTuple):
    """Outputs of the network for a batch.

    Attributes
    ----------
    states : Tensor of shape (batch, bins, dim)
    latents : Tensor of shape (batch, latents, dim)
    behaviour : Tensor of shape (batch, bins, dims)
        Standardised behaviour; see `NeuroFM.in_units`.
    log_counts : Tensor of shape (batch, bins, units)
        Log expected counts of every unit, including masked units; for traces the expected standardised value.
    place : Tensor of shape (batch, width)
        Embedding of the window on the unit sphere, for the contrastive loss.
    forecast : Tensor of shape (batch, forecast bins, units)
        Log expected counts in the first bins of the next window.
    """

    states: Tensor
    latents: Tensor
    behaviour: Tensor
    log_counts: Tensor
    place: Tensor
    forecast: Tensor


class NeuroFM(nn.Module):
    """Network for windows of spike counts from any recording of a table.

    Parameters
    ----------
    settings : NeuroFMSettings
    table : UnitTable
        Units, kinds and tasks of the recordings.
    """

    def __init__(self, settings: NeuroFMSettings, table: UnitTable) -> None:
        super().__init__()
        s = settings
        self.settings, self.table = settings, table
        self.book = UnitBook(table.recordings, s.dim, s.stitch)
        self.tokenizer = SpikeTokenizer(s.dim, s.heads, len(table.kinds), s.queries)
        self.kind_embed = nn.Parameter(torch.zeros(len(table.kinds) + 1, s.dim))
        self.task_embed = nn.Parameter(torch.zeros(len(table.tasks) + 1, s.dim))
        self.gap_embed = nn.Parameter(0.02 * torch.randn(s.dim))  # a bin in which no unit was observed
        self.encoder = PopulationEncoder(
            s.dim, s.heads, s.blocks, s.rates, s.latents, s.perceiver_layers, s.population_layers, s.d_state
        )
        self.behaviour = BehaviourHead(s.dim, len(table.tasks), table.most_dims)
        self.counts, self.next_counts = CountHead(s.dim), CountHead(s.dim)
        self.contrast = ContrastHead(s.dim, s.contrast_dim)
        self.forecast = ForecastHead(s.dim, s.forecast_bins)
        width = table.most_dims
        means = [[0.0] * width] + [[*task.mean, *[0.0] * (width - task.dims)] for task in table.tasks]
        scales = [[1.0] * width] + [[*task.scale, *[1.0] * (width - task.dims)] for task in table.tasks]
        self.register_buffer("task_mean", torch.tensor(means))
        self.register_buffer("task_scale", torch.tensor(scales))

    def forward(self, batch: Mapping[str, Tensor], hidden: Tensor | None = None) -> Answer:
        """Apply the network to a batch of a `nbkit.neuro.neurofm.data.batches.SpikeData`.

        Parameters
        ----------
        batch : mapping
            ``counts`` (batch, bins, units), for traces standardised; ``unit`` (batch, units), indices in the table;
            ``present`` (batch, units), False for padding; ``kind``, ``task`` and ``recording`` (batch,). Optional:
            ``observed`` (batch, bins, units or 1), by default all, and ``trace`` (batch,), by default none.
        hidden : bool Tensor of shape (batch, units), optional
            True for masked units, whose counts are not used.

        Returns
        -------
        answer : Answer
        """
        counts, present = batch["counts"].to(self.task_mean.dtype), batch["present"]
        seen = present if hidden is None else present & ~hidden
        shown = seen[:, None] if "observed" not in batch else seen[:, None] & batch["observed"]
        # Set to 0 before any computation, so that counts that are masked or not observed cannot influence an output.
        level = torch.where(shown, counts, 0.0)
        if "trace" in batch:
            level = torch.where(batch["trace"][:, None, None], level, level.clamp(min=0).sqrt())
        else:
            level = level.sqrt()
        units, log_rate = self.book(batch["unit"])
        tokens = self.tokenizer(level, units, shown, batch["kind"])
        activity = level.mean(dim=1)
        if "observed" in batch:
            tokens = tokens + self.gap_embed * ~batch["observed"].any(dim=-1, keepdim=True)
            activity = level.sum(dim=1) / shown.sum(dim=1).clamp(min=1)
        stitches = self.book.stitches(batch["recording"])
        if stitches is not None:
            tokens = tokens + tokens @ stitches
        tokens = tokens + (self.kind_embed[batch["kind"]] + self.task_embed[batch["task"]])[:, None]
        states, latents, units = self.encoder(tokens, activity, units, seen)
        return Answer(
            states, latents, self.behaviour(states, batch["task"]), self.counts(states, units, log_rate),
            self.contrast(latents), self.next_counts(self.forecast(states, latents), units, log_rate),
        )  # fmt: skip

    def standardised(self, behaviour: Tensor, task: Tensor) -> Tensor:
        """Return behaviour (batch, bins, dims) standardised by the mean and scale of its task, as the head predicts."""
        return (behaviour - self.task_mean[task][:, None]) / self.task_scale[task][:, None]

    def in_units(self, decoded: Tensor, task: Tensor) -> Tensor:
        """Return predictions of the head (batch, bins, dims) in the units of the tasks."""
        return decoded * self.task_scale[task][:, None] + self.task_mean[task][:, None]

    def shared(self) -> dict[str, Tensor]:
        """Return all weights by name, except those of single recordings."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("book.")}
