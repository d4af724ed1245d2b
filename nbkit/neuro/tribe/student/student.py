"""The student: from the features of three small backbones to a brain map per repetition time.

Everything uses the scanner's time grid: features are resampled to one step per repetition time, and the prediction at a
step is the response measured at that step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.ground.fields import checked
from nbkit.neuro.tribe.student.fusion import MODALITIES, Fusion, GatedPooling, Routed
from nbkit.neuro.tribe.student.projector import Motion, Projector
from nbkit.neuro.tribe.student.response import HRFLayer
from nbkit.neuro.tribe.student.subjects import FiLM


@checked
@dataclass(frozen=True)
class StudentSettings:
    """Sizes of the student; the defaults are those of the seed project on fsaverage4.

    ``free`` has Schaefer's 1000 parcels, the resolution of the public fMRI; ``smoke`` has 400 and a width of 64.
    """

    n_vertices: int = 5124  # 5124 vertices of fsaverage4 or 20484 of fsaverage5, or 1000 or 400 parcels
    dim: int = 512
    hidden: int = 768  # hidden width of the projectors
    heads: int = 8
    layers: int = 4
    local_layers: int = 2  # number of first layers with a decay over time
    experts: int = 8
    top_k: int = 2
    expert_hidden: int = 1024
    max_times: int = 2048
    dropout: float = 0.1  # dropout rate of the projectors
    drop_path: float = 0.2  # drop-path rate of the last block
    hrf_taps: int = 16  # steps of the haemodynamic layer; at the TR they should reach 20 s, past the undershoot
    tr: float = 1.49  # s per step
    n_subjects: int = 25
    gate_networks: int = 1  # networks with gates of their own (see `TinyTribe.set_networks`); 1: all outputs share them
    text_dim: int = 384
    audio_dim: int = 384
    video_dim: int = 640

    @classmethod
    def free(cls) -> StudentSettings:
        """Return sizes for 1000 parcels on one T4-class GPU."""
        return cls(n_vertices=1000)

    @classmethod
    def smoke(cls) -> StudentSettings:
        """Return small sizes for a test of seconds on two CPU cores; the model is the same."""
        return cls(
            n_vertices=400,
            dim=64,
            hidden=96,
            experts=4,
            expert_hidden=128,
            max_times=256,
            n_subjects=4,
            dropout=0.0,
            hrf_taps=8,
        )

    def of(self, **sizes: int | float) -> StudentSettings:
        """Return a copy with some sizes replaced."""
        return replace(self, **sizes)


class Prediction(NamedTuple):
    """Output of the student for a batch.

    Attributes
    ----------
    bold : Tensor of shape (batch, time, vertices)
        Predicted response, in z units.
    pooled : Tensor of shape (batch, time, dim)
        Fused features before the haemodynamic layer, mean over networks.
    gates : Tensor of shape (batch, time, modalities)
        Weights of the modalities, mean over networks.
    routed : Routed
    """

    bold: Tensor
    pooled: Tensor
    gates: Tensor
    routed: Routed


class Trunk(nn.Module):
    """Projectors, time and modality embeddings, and the fusion transformer: the part that phase 1 trains.

    Parameters
    ----------
    settings : StudentSettings
    """

    def __init__(self, settings: StudentSettings) -> None:
        super().__init__()
        s = self.settings = settings
        dims = (s.text_dim, s.audio_dim, s.video_dim)
        self.projectors = nn.ModuleDict(
            {name: Projector(size, s.hidden, s.dim, s.dropout) for name, size in zip(MODALITIES, dims, strict=True)}
        )
        self.motion = Motion(s.dim)
        self.times = nn.Parameter(0.02 * torch.randn(len(MODALITIES), s.max_times, s.dim))
        self.modality = nn.Parameter(0.02 * torch.randn(len(MODALITIES), s.dim))
        self.fusion = Fusion(s.dim, s.heads, s.expert_hidden, s.experts, s.top_k, s.layers, s.local_layers, s.drop_path)

    def project(self, features: Mapping[str, Tensor], causal: bool = False) -> Tensor:
        """Return tokens without embeddings; shorter modalities are interpolated to the length of the longest.

        Parameters
        ----------
        features : mapping of Tensor of shape (batch, time, feature)
            ``text``, ``audio`` and ``video``; their lengths may differ.
        causal : bool
            Leave out the next frame in the motion filter.

        Returns
        -------
        tokens : Tensor of shape (batch, time, modalities, dim)
        """
        tokens = [self.projectors[name](features[name]) for name in MODALITIES]
        tokens[-1] = self.motion(tokens[-1], causal)
        times = max(token.shape[1] for token in tokens)
        return torch.stack([_stretch(token, times) for token in tokens], dim=2)

    def embed(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """Add time and modality embeddings; a missing modality consists of these only.

        Parameters
        ----------
        tokens : Tensor of shape (batch, time, modalities, dim)
        present : Tensor of shape (batch, modalities), bool, optional
            Modalities that each sample has; by default all.

        Returns
        -------
        tokens : Tensor of shape (batch, time, modalities, dim)

        Raises
        ------
        ValueError
            If there are more steps than time embeddings.
        """
        times = tokens.shape[1]
        if times > self.settings.max_times:
            raise ValueError(
                f"Windows have {times} steps; this student has embeddings for {self.settings.max_times}. Cut them."
            )
        if present is not None:
            tokens = tokens * present[:, None, :, None].to(tokens.dtype)
        return tokens + self.times[:, :times].transpose(0, 1) + self.modality

    def forward(
        self,
        features: Mapping[str, Tensor],
        present: Tensor | None = None,
        *,
        causal: bool = False,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Routed]:
        """Return fused tokens of shape (batch, time, modalities, dim), and the routers' statistics."""
        return self.fusion(self.embed(self.project(features, causal), present), causal, temperature)


class TinyTribe(nn.Module):
    """The complete student.

    Parameters
    ----------
    settings : StudentSettings
    """

    def __init__(self, settings: StudentSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.trunk = Trunk(s)
        self.pooling = GatedPooling(s.dim, networks=s.gate_networks)
        self.hrf = HRFLayer(s.dim, s.hrf_taps, s.tr)
        self.shared = nn.Sequential(nn.LayerNorm(s.dim), nn.Linear(s.dim, s.dim), nn.GELU())
        self.film = FiLM(s.dim, s.n_subjects)
        self.vertices = nn.Linear(s.dim, s.n_vertices, bias=False)
        if s.gate_networks > 1:
            self.register_buffer("network", torch.arange(s.n_vertices) % s.gate_networks)

    def set_networks(self, network: Tensor | np.ndarray) -> None:
        """Say which network's gates each output has; without this, outputs are dealt out in turn.

        Parameters
        ----------
        network : int array of shape (outputs,)
            Numbers from 0; outputs of no network (below 0) share the gates of network 0.

        Raises
        ------
        ValueError
            If there are more networks than gates, or not one number for each output.
        """
        found = torch.as_tensor(network).long().clamp_min(0)
        count = self.settings.gate_networks
        if len(found) != self.settings.n_vertices or int(found.max()) >= max(count, 1):
            raise ValueError(
                f"There are {len(found)} network numbers up to {int(found.max())} for {self.settings.n_vertices} "
                f"outputs and {count} networks with gates; set gate_networks to {int(found.max()) + 1}."
            )
        if count > 1:
            self.network.copy_(found)

    def forward(
        self,
        features: Mapping[str, Tensor],
        subject: Tensor | None = None,
        present: Tensor | None = None,
        n_trs: int | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict the response to a stimulus.

        Parameters
        ----------
        features : mapping of Tensor of shape (batch, time, feature)
            ``text``, ``audio`` and ``video``, one step per repetition time.
        subject : Tensor of shape (batch,), optional
            Subject numbers; -1, or None for the batch, is the mean subject.
        present : Tensor of shape (batch, 3), bool, optional
            Modalities that each sample has; by default all.
        n_trs : int, optional
            Number of repetition times of the output, if it differs from the number of steps.
        temperature : float
            Temperature of the routers.

        Returns
        -------
        prediction : Prediction
        """
        fused, routed = self.trunk(features, present, temperature=temperature)
        pooled, gates = self.pooling(fused)
        bold = self._outputs(pooled, subject)
        pooled, gates = pooled.mean(2), gates.mean(2)
        if n_trs is not None and n_trs != bold.shape[1]:
            bold = F.adaptive_avg_pool1d(bold.transpose(1, 2), n_trs).transpose(1, 2)
        return Prediction(bold, pooled, gates, routed)

    def _outputs(self, pooled: Tensor, subject: Tensor | None) -> Tensor:
        """Return the prediction from pooled features of shape (batch, time, networks, dim)."""
        each = [self.film(self.response(pooled[:, :, number]), subject) for number in range(pooled.shape[2])]
        if len(each) == 1:
            return self.vertices(each[0])
        order = torch.argsort(self.network, stable=True)
        weight = self.vertices.weight
        parts = [own @ weight[self.network == number].T for number, own in enumerate(each)]
        return torch.cat(parts, dim=-1)[..., torch.argsort(order)]

    def response(self, pooled: Tensor) -> Tensor:
        """Return the input of FiLM, shape (batch, time, dim): pooled features after haemodynamic and shared layer."""
        return self.shared(self.hrf(pooled))


def drop_modalities(present: Tensor, rate: float) -> Tensor:
    """Drop each modality of each sample with some probability, but keep at least one.

    Parameters
    ----------
    present : Tensor of shape (batch, modalities), bool
    rate : float
        Probability, from 0 to 1.

    Returns
    -------
    kept : Tensor of shape (batch, modalities), bool
    """
    draw = torch.rand(present.shape, device=present.device)
    kept = present & (draw >= rate)
    spare = F.one_hot((draw * present).argmax(1), present.shape[1]).bool() & present
    return torch.where(kept.any(1, keepdim=True), kept, spare)


def _stretch(tokens: Tensor, times: int) -> Tensor:
    if tokens.shape[1] == times:
        return tokens
    return F.interpolate(tokens.transpose(1, 2), size=times, mode="linear").transpose(1, 2)
