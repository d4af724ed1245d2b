"""The student: features of three small backbones in, a brain map a repetition time out.

Everything between fusion and output lives on the scanner's grid: features come resampled to one step a repetition time,
and a prediction at a step is the response measured at that step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.tribe.student.fusion import MODALITIES, Fusion, GatedPooling, Routed
from nbkit.neuro.tribe.student.projector import Motion, Projector
from nbkit.neuro.tribe.student.response import HRFLayer
from nbkit.neuro.tribe.student.subjects import FiLM


@dataclass(frozen=True)
class StudentSettings:
    """Sizes of the student; the defaults are the seed's on fsaverage4.

    ``free`` has Schaefer's 1000 parcels, which the public fMRI comes in; ``smoke`` 400 and a width of 64.
    """

    n_vertices: int = 5124  # 5124 vertices of fsaverage4 or 20484 of fsaverage5, or 1000 or 400 parcels
    dim: int = 512
    hidden: int = 768  # of the projectors
    heads: int = 8
    layers: int = 4
    local_layers: int = 2  # the first so many prefer near steps
    experts: int = 8
    top_k: int = 2
    expert_hidden: int = 1024
    max_times: int = 2048
    dropout: float = 0.1  # of the projectors
    drop_path: float = 0.2  # of the last block
    hrf_taps: int = 8
    tr: float = 1.49  # s a step
    n_subjects: int = 25
    text_dim: int = 384
    audio_dim: int = 384
    video_dim: int = 640

    @classmethod
    def free(cls) -> StudentSettings:
        """For 1000 parcels on one T4-class card."""
        return cls(n_vertices=1000)

    @classmethod
    def smoke(cls) -> StudentSettings:
        """For seconds on two CPU cores: the same model, smaller."""
        return cls(
            n_vertices=400, dim=64, hidden=96, experts=4, expert_hidden=128, max_times=256, n_subjects=4, dropout=0.0
        )

    def of(self, **sizes: int | float) -> StudentSettings:
        """Return the same with some sizes replaced."""
        return replace(self, **sizes)


class Prediction(NamedTuple):
    """What the student says of a batch.

    Attributes
    ----------
    bold : Tensor of shape (batch, time, vertices)
        Predicted response, in z units.
    pooled : Tensor of shape (batch, time, dim)
        Fused features before the haemodynamic layer.
    gates : Tensor of shape (batch, time, modalities)
    routed : Routed
    """

    bold: Tensor
    pooled: Tensor
    gates: Tensor
    routed: Routed


class Trunk(nn.Module):
    """Projectors, time and modality embeddings, and the fusion transformer: what phase 1 trains.

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
        """Return tokens without embeddings, shape (batch, time, modalities, dim), all on the longest one's steps.

        Parameters
        ----------
        features : mapping of Tensor of shape (batch, time, feature)
            ``text``, ``audio`` and ``video``; their lengths may differ.
        """
        tokens = [self.projectors[name](features[name]) for name in MODALITIES]
        tokens[-1] = self.motion(tokens[-1], causal)
        times = max(token.shape[1] for token in tokens)
        return torch.stack([_stretch(token, times) for token in tokens], dim=2)

    def embed(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """Add time and modality to tokens; a modality that is not there keeps those and loses the rest.

        Parameters
        ----------
        tokens : Tensor of shape (batch, time, modalities, dim)
        present : Tensor of shape (batch, modalities), bool, optional
        """
        times = tokens.shape[1]
        if times > self.settings.max_times:
            raise ValueError(f"{times} steps; this student has embeddings for {self.settings.max_times}. Cut windows.")
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
        """Return fused tokens of shape (batch, time, modalities, dim), and what the routers did."""
        return self.fusion(self.embed(self.project(features, causal), present), causal, temperature)


class TinyTribe(nn.Module):
    """The whole student.

    Parameters
    ----------
    settings : StudentSettings
    """

    def __init__(self, settings: StudentSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.trunk = Trunk(s)
        self.pooling = GatedPooling(s.dim)
        self.hrf = HRFLayer(s.dim, s.hrf_taps, s.tr)
        self.shared = nn.Sequential(nn.LayerNorm(s.dim), nn.Linear(s.dim, s.dim), nn.GELU())
        self.film = FiLM(s.dim, s.n_subjects)
        self.vertices = nn.Linear(s.dim, s.n_vertices, bias=False)

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
            ``text``, ``audio`` and ``video``, a step a repetition time.
        subject : Tensor of shape (batch,), optional
            None, or -1 for a sample, is the mean subject.
        present : Tensor of shape (batch, 3), bool, optional
        n_trs : int, optional
            Repetition times of the output, where it is another number than the steps'.
        temperature : float
            Of the routers.
        """
        fused, routed = self.trunk(features, present, temperature=temperature)
        pooled, gates = self.pooling(fused)
        bold = self.vertices(self.film(self.response(pooled), subject))
        if n_trs is not None and n_trs != bold.shape[1]:
            bold = F.adaptive_avg_pool1d(bold.transpose(1, 2), n_trs).transpose(1, 2)
        return Prediction(bold, pooled, gates, routed)

    def response(self, pooled: Tensor) -> Tensor:
        """Return what FiLM scales, shape (batch, time, dim): delayed and passed through the shared layer."""
        return self.shared(self.hrf(pooled))


def drop_modalities(present: Tensor, rate: float) -> Tensor:
    """Leave each modality out with some probability, never all that a sample has.

    Parameters
    ----------
    present : Tensor of shape (batch, modalities), bool
    rate : float
        0 to 1.

    Returns
    -------
    kept : Tensor of that shape
    """
    draw = torch.rand(present.shape, device=present.device)
    kept = present & (draw >= rate)
    spare = F.one_hot((draw * present).argmax(1), present.shape[1]).bool() & present
    return torch.where(kept.any(1, keepdim=True), kept, spare)


def _stretch(tokens: Tensor, times: int) -> Tensor:
    if tokens.shape[1] == times:
        return tokens
    return F.interpolate(tokens.transpose(1, 2), size=times, mode="linear").transpose(1, 2)
