"""Transformer that predicts the next cumulative band from the one before it.

Inputs and outputs are in the unit of the data (uV). The scaling that the network needs is a buffer of the model, so
that a checkpoint always has weights and scale together. With the default arguments the layers are those of the original
Band-VAR code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class EEGScaleAutoregressiveModel(nn.Module):
    """A transformer encoder over time that predicts the next cumulative band of an EEG window.

    The model is autoregressive over bands, after next-scale prediction (Tian et al. 2024,
    https://arxiv.org/abs/2404.02905). Within a band, attention covers the whole window, both backwards and forwards in
    time.

    Parameters
    ----------
    channels, time_steps : int
        Size of a window.
    d_model : int
        Width of the encoder. Its feed-forward layers are ``4 * d_model`` wide, with GELU activation.
    nhead : int
        Attention heads.
    num_layers : int
        Encoder layers.
    dropout : float
        Dropout probability.
    residual : bool
        Predict the increment and add it to the input. The original code does not.
    num_stages : int
        If above 0, add a learned stage embedding to the input and scale each stage separately. The original code has
        neither.
    stem_taps, head_taps : int
        Odd kernel sizes of the input and output projections, in samples. 1, as in the original code, projects each time
        step on its own; larger kernels let a shallow network filter in time, which sharp band edges need.
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
            raise ValueError(f"{d_model=} is not a multiple of {nhead=}; each head gets d_model / nhead features.")
        if stem_taps % 2 == 0 or head_taps % 2 == 0:
            raise ValueError(f"{stem_taps=} and {head_taps=} must be odd, so that each kernel has a central sample.")
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
            # Zero weights start the model as persistence: the first loss is then the baseline, not a random guess.
            nn.init.zeros_(self.output_projection.weight)
            nn.init.zeros_(self.output_projection.bias)
        self.register_buffer("input_scale", torch.ones(max(num_stages, 1)))
        self.register_buffer("output_scale", torch.ones(max(num_stages, 1)))

    def set_scale(self, scale: Sequence[float]) -> None:
        """Set the scaling, so that the network works on numbers near 1.

        A model with ``num_stages`` is scaled for each stage, any other model by the whole signal.

        Parameters
        ----------
        scale : sequence of float
            Root mean square of the increment of each stage, in the unit of the data (uV).
        """
        power = torch.as_tensor(scale, dtype=torch.float32) ** 2
        if power.ndim != 1 or not (torch.isfinite(power) & (power > 0)).all():
            raise ValueError(
                f"{scale=} must be a positive number for each stage: the RMS of that band in the training data."
            )
        total = power.cumsum(0).sqrt()
        if self.num_stages == 0:
            self.input_scale.copy_(total[-1:])
            self.output_scale.copy_(total[-1:])
            return
        if len(power) != self.num_stages:
            raise ValueError(f"Got {len(power)} scales for {self.num_stages} stages; give one for each stage.")
        self.input_scale[0] = 1.0  # the input of stage 1 is zero
        self.input_scale[1:] = total[:-1]
        self.output_scale.copy_(power.sqrt() if self.residual else total)

    def forward(self, current: Tensor, stage: Tensor | int | None = None) -> Tensor:
        """Predict the next cumulative band.

        Parameters
        ----------
        current : Tensor of shape (batch, channels, time)
            The cumulative band before, in uV; zeros at stage 0.
        stage : Tensor of shape (batch,) or int, optional
            Index of the band to predict, from 0. Required if the model was built with ``num_stages``, otherwise
            ignored.

        Returns
        -------
        following : Tensor of shape (batch, channels, time)
            The next cumulative band, in uV.
        """
        if self.num_stages == 0:
            stage = torch.zeros(len(current), dtype=torch.long, device=current.device)
        elif stage is None:
            raise ValueError(
                f"stage is None, but this model has {self.num_stages} stages: give the index of the band to predict "
                f"(stage=0 to {self.num_stages - 1})."
            )
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
    """Project (batch, channels, time) to (batch, time, features), each time step on its own."""

    def forward(self, signal: Tensor) -> Tensor:
        return super().forward(signal.transpose(1, 2))


class _Filter(nn.Conv1d):
    """Project (batch, channels, time) to (batch, time, features) by a convolution over time."""

    def forward(self, signal: Tensor) -> Tensor:
        return super().forward(signal).transpose(1, 2)


def _projection(inputs: int, outputs: int, taps: int) -> nn.Module:
    return _Linear(inputs, outputs) if taps == 1 else _Filter(inputs, outputs, taps, padding=taps // 2)
