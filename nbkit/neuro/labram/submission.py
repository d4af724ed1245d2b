"""Finetuned LaBraM as a part of the challenge's zip.

The class below is the network that the zip holds: trained backbone and head with the scale of the target, without any
training code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nbkit.neuro.challenge.archive import SubmissionPart, check_contract
from nbkit.neuro.labram.backbone import NeuralTransformer
from nbkit.neuro.labram.finetune import FinetuneSettings, Regressor, mean_token
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.brief import train_briefly
from nbkit.neuro.training.window_module import check_challenge


class SubmittedLaBraM(nn.Module):
    """Predict a target in its own unit from windows in uV.

    Parameters
    ----------
    rows : sequence of int
        Rows of the channels in the backbone's table.
    backbone : mapping
        Arguments of `NeuralTransformer`.
    """

    def __init__(self, rows: Sequence[int], **backbone: object) -> None:
        super().__init__()
        self.backbone = NeuralTransformer(**backbone)
        self.head = nn.Linear(self.backbone.dim, 1)
        self.register_buffer("target_mean", torch.zeros(1))
        self.register_buffer("target_deviation", torch.ones(1))
        self.register_buffer("rows", torch.tensor(rows), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Return predictions (batch, 1) for windows (batch, channels, time)."""
        return self.head(mean_token(self.backbone, windows, self.rows)) * self.target_deviation + self.target_mean


def submission_part(checkpoint: str | Path) -> SubmissionPart:
    """Return the part of the challenge's zip for a finetuned model's checkpoint.

    Raises
    ------
    ValueError
        If the file holds no finetuned LaBraM, or its windows are not in the challenge's format.
    """
    module = Regressor.from_checkpoint(checkpoint)
    check_challenge(module, Path(checkpoint).name)
    check_contract(module.ch_names, module.n_times or 0, module.sfreq, Path(checkpoint).name)
    s = module.settings
    arguments = {
        "rows": module.rows.tolist(), "patch": s.patch, "depth": s.depth, "dim": s.dim, "heads": s.heads,
        "mlp_ratio": s.mlp_ratio, "table": module.table, "qkv_bias": s.qkv_bias, "qk_norm": s.qk_norm,
        "layer_scale": s.layer_scale,
    }  # fmt: skip
    says = f"LaBraM of {s.depth} layers by {s.dim}, {sum(p.numel() for p in module.parameters()):,} weights"
    return SubmissionPart(f"{__name__}:SubmittedLaBraM", arguments, module.state_dict(), says)


def load_finetuned(checkpoint: str | Path) -> Regressor:
    """Load the finetuned model of a checkpoint in evaluation mode, to compare with the zip's predictions."""
    return Regressor.from_checkpoint(checkpoint).eval()


def stand_in(challenge: int, windows: Any, path: str | Path, *, steps: int = 30, **split: Any) -> Path:
    """Finetune a tiny network for a few seconds, to try the zip before there is a model.

    Parameters
    ----------
    challenge : {1, 2}
    windows : path or sequence of path
        Shards of windows in the challenge's format.
    path : str or Path
        Where to write the checkpoint.
    steps : int
        Training steps.
    **split
        Arguments of `WindowData`.

    Returns
    -------
    checkpoint : Path
    """
    settings = replace(FinetuneSettings.smoke(), dim=20, heads=2, depth=1, batch_size=8, steps=steps, warmup_steps=3)
    data = WindowData(windows, settings.batch_size, purpose=f"challenge{challenge}", **split)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(challenge)
        return train_briefly(Regressor.for_data(settings, data), data, steps, path)
