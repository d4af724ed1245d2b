"""The next cumulative band from the one before it.

Signals go in and come out in the data's own unit (uV): whatever scaling the network needs is a buffer of the model, so
weights and scale cannot be parted. With the defaults the network is the seed's, layer for layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class EEGScaleAutoregressiveModel(nn.Module):
    """A transformer encoder over time that predicts the next cumulative band of an EEG window.

    Autoregressive over bands, after next-scale prediction (Tian et al. 2024, https://arxiv.org/abs/2404.02905);
    within a band attention sees the whole window, backwards and forwards in time.

    Parameters
    ----------
    channels, time_steps : int
        Size of a window.
    d_model, nhead, num_layers, dropout
        Of the encoder; its feed-forward width is ``4 * d_model``, its activation GELU.
    residual : bool
        Predict the increment and add it to the input. Not the seed's form.
    num_stages : int
        Above 0, tell the network its stage (a learned vector each) and scale it by stage. Not the seed's form.
    stem_taps, head_taps : int
        Samples that the input and the output projection see around each time step, odd. 1 is the seed's form; more
        lets a shallow network filter in time, which is what a band's edge asks for.
    """

    def __init__(
        self,
        channels: int,
        time_steps: int,
        d_model: int = 256,
        nhead: int = 8,
        num_layers: int = 4,
        dropout: float = 0.1,
        *,
        residual: bool = False,
        num_stages: int = 0,
        stem_taps: int = 1,
        head_taps: int = 1,
    ) -> None:
        super().__init__()
        if d_model % nhead:
            raise ValueError(f"{d_model=} is not a multiple of {nhead=}; each head takes d_model / nhead of it.")
        if stem_taps % 2 == 0 or head_taps % 2 == 0:
            raise ValueError(f"{stem_taps=} and {head_taps=} must be odd, so that each step is in their middle.")
        self.channels, self.time_steps, self.num_stages, self.residual = channels, time_steps, num_stages, residual
        self.input_projection = _projection(channels, d_model, stem_taps)
        self.position = nn.Parameter(torch.empty(1, time_steps, d_model))
        self.stage = nn.Embedding(num_stages, d_model) if num_stages else None
        layer = nn.TransformerEncoderLayer(
            d_model, nhead, dim_feedforward=4 * d_model, dropout=dropout, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.output_projection = _projection(d_model, channels, head_taps)
        nn.init.normal_(self.position, std=0.02)
        if residual:
            # Begin as persistence: the first step then measures what is left to learn, not a random guess.
            nn.init.zeros_(self.output_projection.weight)
            nn.init.zeros_(self.output_projection.bias)
        self.register_buffer("input_scale", torch.ones(max(num_stages, 1)))
        self.register_buffer("output_scale", torch.ones(max(num_stages, 1)))

    def set_scale(self, scale: Sequence[float]) -> None:
        """Take the root mean square of each stage's increment, in the data's unit.

        The network then sees and gives numbers near 1: by stage where it knows its stage, else by the whole signal's.
        """
        power = torch.as_tensor(scale, dtype=torch.float32) ** 2
        if power.ndim != 1 or not (torch.isfinite(power) & (power > 0)).all():
            raise ValueError(f"{scale=} must be a positive number a stage: the RMS of that band in the training data.")
        total = power.cumsum(0).sqrt()
        if self.num_stages == 0:
            self.input_scale.copy_(total[-1:])
            self.output_scale.copy_(total[-1:])
            return
        if len(power) != self.num_stages:
            raise ValueError(f"{len(power)} scales for {self.num_stages} stages; give one a stage.")
        self.input_scale[0] = 1.0  # stage 1 sees zeros
        self.input_scale[1:] = total[:-1]
        self.output_scale.copy_(power.sqrt() if self.residual else total)

    def forward(self, current: Tensor, stage: Tensor | int | None = None) -> Tensor:
        """Predict the next cumulative band.

        Parameters
        ----------
        current : Tensor of shape (batch, channels, time)
            The cumulative band so far; zeros at stage 0.
        stage : Tensor of shape (batch,) or int, optional
            Which band is to come, from 0. Needed where the model was built with ``num_stages``, else not looked at.

        Returns
        -------
        following : Tensor of shape (batch, channels, time)
        """
        if self.num_stages == 0:
            stage = torch.zeros(len(current), dtype=torch.long, device=current.device)
        elif stage is None:
            raise ValueError(f"This model knows {self.num_stages} stages: say which band is to come (stage=0 to ...).")
        elif isinstance(stage, int):
            stage = torch.full((len(current),), stage, dtype=torch.long, device=current.device)
        hidden = self.input_projection(current / self.input_scale[stage, None, None])  # (batch, time, d_model)
        hidden = hidden + self.position
        if self.stage is not None:
            hidden = hidden + self.stage(stage)[:, None]
        hidden = self.encoder(hidden)
        following = self.output_projection(hidden.transpose(1, 2)).transpose(1, 2)
        following = following * self.output_scale[stage, None, None]
        return current + following if self.residual else following


class _Linear(nn.Linear):
    """(batch, channels, time) to (batch, time, features), a time step at a time."""

    def forward(self, signal: Tensor) -> Tensor:
        return super().forward(signal.transpose(1, 2))


class _Filter(nn.Conv1d):
    """(batch, channels, time) to (batch, time, features), a stretch of time at a time."""

    def forward(self, signal: Tensor) -> Tensor:
        return super().forward(signal).transpose(1, 2)


def _projection(inputs: int, outputs: int, taps: int) -> nn.Module:
    return _Linear(inputs, outputs) if taps == 1 else _Filter(inputs, outputs, taps, padding=taps // 2)
