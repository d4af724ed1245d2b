"""Finetuned JEPA encoder as a part of the challenge's zip.

The class below is the network that the zip holds: trained encoder and head with the scales of the targets, without any
training code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nbkit.neuro.challenge.archive import SubmissionPart, check_contract
from nbkit.neuro.jepa.encoder import Encoder, EncoderSettings
from nbkit.neuro.jepa.finetune import (
    CHALLENGES,
    Challenge2Settings,
    FinetuneSettings,
    Regressor,
    make_head,
    predict_targets,
)
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.brief import train_briefly
from nbkit.neuro.training.window_module import check_challenge


class SubmittedJEPA(nn.Module):
    """Predict the scored target of a challenge in its own unit from windows in uV.

    Parameters
    ----------
    challenge : {1, 2}
    encoder : mapping
        Fields of `EncoderSettings`.
    """

    def __init__(self, challenge: int, encoder: Mapping[str, float]) -> None:
        super().__init__()
        self.encoder, self.head = Encoder(EncoderSettings(**encoder)), make_head(challenge)
        self.what = CHALLENGES[challenge]
        self.register_buffer("target_mean", torch.zeros(len(self.what.targets)))
        self.register_buffer("target_deviation", torch.ones(len(self.what.targets)))

    def forward(self, windows: Tensor) -> Tensor:
        """Return predictions (batch, 1) for windows (batch, channels, time)."""
        every = predict_targets(self.encoder, self.head, self.what.latents, windows)
        scored = self.what.targets.index("target")
        return (every * self.target_deviation + self.target_mean)[:, scored : scored + 1]


def submission_part(checkpoint: str | Path) -> SubmissionPart:
    """Return the part of the challenge's zip for a finetuned model's checkpoint.

    Raises
    ------
    ValueError
        If the file holds no finetuned JEPA, or its windows are not in the challenge's format.
    """
    module = Regressor.from_checkpoint(checkpoint)
    check_challenge(module, Path(checkpoint).name)
    check_contract(module.ch_names, module.n_times or 0, module.sfreq, Path(checkpoint).name)
    arguments = {"challenge": module.settings.challenge, "encoder": asdict(module.encoder.settings)}
    says = f"JEPA's encoder and head, {sum(p.numel() for p in module.parameters()):,} weights"
    return SubmissionPart(f"{__name__}:SubmittedJEPA", arguments, module.state_dict(), says)


def load_finetuned(checkpoint: str | Path) -> Regressor:
    """Load the finetuned model of a checkpoint in evaluation mode, to compare with the zip's predictions."""
    return Regressor.from_checkpoint(checkpoint).eval()


def stand_in(challenge: int, windows: Any, path: str | Path, *, steps: int = 15, **split: Any) -> Path:
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
    cls = FinetuneSettings if challenge == 1 else Challenge2Settings
    settings = replace(cls.smoke(), batch_size=8, steps=steps, warmup_steps=2)
    others = CHALLENGES[challenge].others
    data = WindowData(windows, settings.batch_size, purpose=f"challenge{challenge}", may_miss=others, **split)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(challenge)
        return train_briefly(Regressor.for_data(settings, data), data, steps, path)
