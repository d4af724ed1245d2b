"""A frozen foundation model for the windows of a recording.

Its weights never change; training uses a copy from `with_head`. The same windows give the same embeddings in batches of
any size, and the model's fingerprint identifies its weights and preparation.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nbkit.neuro.decoding.models.channels import FARTHEST, ChannelPlan, plan_channels
from nbkit.neuro.decoding.models.preparing import Prepared, prepare
from nbkit.neuro.signals.intake.cleaning import Cleaning

PREPARATION = 2  # version of the preparation of windows; a change makes cached embeddings invalid
PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


# Attributes of a model that change no embedding: the network is hashed by itself, the others are for training or words.
_NO_EMBEDDING = ("module", "weights", "seen", "fingerprint", "_plans", "_learnable", "_targets")
_NO_SETTINGS = ("training",)  # of a network's modules


def plain_settings(attributes: Mapping[str, Any], without: Sequence[str] = ()) -> str:
    """Return the plain values among attributes as text: numbers, texts, and what holds only those.

    Other objects count by their class, functions by their name, so that a changed activation is seen; tensors and
    modules do not count.
    """
    found = {name: _plain(value) for name, value in attributes.items() if name not in without}
    return json.dumps({name: value for name, value in found.items() if value is not _NOTHING}, sort_keys=True)


_NOTHING = object()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        if any(isinstance(held, Tensor | nn.Module) for held in value.values()):
            return _NOTHING  # torch's own registers of parameters, buffers and modules
        return [[str(key), part] for key, part in ((k, _plain(v)) for k, v in value.items()) if part is not _NOTHING]
    if isinstance(value, list | tuple | set | frozenset):
        parts = [part for part in map(_plain, value) if part is not _NOTHING]
        return sorted(parts, key=str) if isinstance(value, set | frozenset) else parts
    if isinstance(value, Tensor | nn.Module):
        return _NOTHING
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, _plain(asdict(value))]
    return getattr(value, "__qualname__", type(value).__qualname__)


class Decoder(nn.Module):
    """A backbone with a head that maps embeddings to outputs.

    Parameters
    ----------
    backbone : torch.nn.Module
        Maps windows of shape (batch, channels, time) to embeddings of shape (batch, dim).
    dim, n_outputs : int
    dropout : float
        Dropout before the head.
    """

    def __init__(self, backbone: nn.Module, dim: int, n_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Dropout(dropout), nn.Linear(dim, n_outputs))

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits, or predicted values, of shape (batch, n_outputs)."""
        return self.head(self.backbone(windows))


class FoundationModel:
    """A frozen backbone with the properties of the windows that it takes.

    Parameters
    ----------
    key : str
    backbone : torch.nn.Module
        Maps windows of shape (batch, channels, time) to embeddings of shape (batch, dim).
    ch_names : sequence of str
        Channels that it takes, without a channel that normalisation adds.
    sfreq : float
        Sampling frequency, in Hz.
    n_times : int
        Number of samples per window.
    dim : int
        Length of an embedding.
    normalisation : str
        See `normalise`.
    weights : str
        Description of their source: "random, seed 0", or how many were loaded from which file.
    lora_targets : sequence of str
        Layers of the backbone to which LoRA is applied.
    positions, template
        Positions of the recordings' channels, see `directions`.
    device : str
    farthest : float
        Largest angle between an interpolated channel and the nearest recorded one, in degrees.
    seen : sequence of str, optional
        Subjects of its pretraining, if they are known.
    cleaning : Cleaning, optional
        That of its pretraining data, for recordings; every window is centred. Without it, signals are taken as they
        are.
    """

    def __init__(
        self,
        key: str,
        backbone: nn.Module,
        ch_names: Sequence[str],
        sfreq: float,
        n_times: int,
        dim: int,
        normalisation: str,
        weights: str,
        lora_targets: Sequence[str] = (),
        positions: Mapping[str, Sequence[float]] | None = None,
        template: str | None = None,
        device: str | torch.device = "cpu",
        farthest: float = FARTHEST,
        seen: Sequence[str] | None = None,
        cleaning: Cleaning | None = None,
    ) -> None:
        self.key, self.ch_names, self.sfreq, self.n_times, self.dim = key, tuple(ch_names), sfreq, n_times, dim
        self.normalisation, self.weights, self.cleaning = normalisation, weights, cleaning
        # Parameters that the network itself keeps fixed must stay fixed in a trained copy.
        self._learnable = frozenset(name for name, p in backbone.named_parameters() if p.requires_grad)
        self.module = backbone.requires_grad_(False).eval().to(device)
        self._targets, self._positions, self._template = tuple(lora_targets), positions, template
        self.farthest, self._plans = float(farthest), {}
        self.seen = None if seen is None else tuple(seen)

    def __repr__(self) -> str:
        return (
            f"FoundationModel({self.key}, weights: {self.weights}, {len(self.ch_names)} channels, {self.seconds:g} s "
            f"at {self.sfreq:g} Hz, embeddings of {self.dim})"
        )

    @property
    def seconds(self) -> float:
        """Length of the model's windows, in s."""
        return self.n_times / self.sfreq

    @property
    def random(self) -> bool:
        """Whether the weights are random, so that results show only chance and the network's architecture."""
        return self.weights.startswith("random")

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.module.parameters()).device

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for p in self.module.parameters())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights and of everything that defines the preparation of windows."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        for name, module in self.module.named_modules():
            digest.update(f"{name} {type(module).__qualname__} {plain_settings(vars(module), _NO_SETTINGS)}".encode())
        for name, value in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def settings(self) -> dict[str, object]:
        """Everything that an embedding depends on besides the windows and the network.

        These are all attributes of the model but a few that change no embedding, so one that is added later counts.
        """
        from importlib.metadata import PackageNotFoundError, version

        try:
            network = version("braindecode")
        except PackageNotFoundError:
            network = "none"
        own = {name: value for name, value in vars(self).items() if name not in _NO_EMBEDDING}
        return {"attributes": plain_settings(own), "preparation": PREPARATION, "braindecode": network}

    def plan(
        self,
        ch_names: Sequence[str],
        positions: Mapping[str, Sequence[float]] | None = None,
        template: str | None = None,
    ) -> ChannelPlan:
        """Return the plan that maps a recording's channels to those of the model.

        Parameters
        ----------
        ch_names : sequence of str
        positions, template
            Positions of the recording's channels, see `directions`; by default those given when the model was built.

        Raises
        ------
        ValueError
            If one of the model's channels is neither recorded nor can be interpolated.
        """
        positions = self._positions if positions is None else positions
        template = self._template if template is None else template
        given = tuple((name, *map(float, place)) for name, place in (positions or {}).items())
        asked = (tuple(map(str, ch_names)), given, template)
        if asked not in self._plans:
            self._plans[asked] = plan_channels(
                asked[0],
                self.ch_names,
                positions=positions,
                template=template,
                model=self.key,
                farthest=self.farthest,
            )
        return self._plans[asked]

    def prepare(
        self,
        windows: np.ndarray,
        ch_names: Sequence[str],
        sfreq: float,
        positions: Mapping[str, Sequence[float]] | None = None,
        template: str | None = None,
    ) -> Prepared:
        """Convert a recording's windows to the model's channels, sampling frequency, length and scale.

        Parameters
        ----------
        windows : ndarray of shape (windows, channels, time)
            In uV.
        ch_names : sequence of str
            Channel names of the recording.
        sfreq : float
            Sampling frequency of the recording, in Hz.
        positions, template
            See `plan`.

        Returns
        -------
        prepared : Prepared
            The windows, and a description of each step.

        Raises
        ------
        ValueError
            If a channel is missing and cannot be interpolated, a value is not finite, or windows are too short.
        """
        plan = self.plan(ch_names, positions, template)
        centred = self.cleaning is not None
        return prepare(windows, float(sfreq), plan, self.sfreq, self.n_times, self.normalisation, self.key, centred)

    @torch.no_grad()  # not inference_mode: some networks cache tensors, which training later uses again
    def embed(
        self,
        prepared: Prepared | np.ndarray,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        precision: str = "fp32",
    ) -> np.ndarray:
        """Return the embedding of every window.

        Parameters
        ----------
        prepared : Prepared or float32 ndarray of shape (windows, channels, time)
        batch_size : int
        device : str, optional
            Device to compute on; the model stays there afterwards.
        precision : {"fp32", "fp16", "bf16"}

        Returns
        -------
        embeddings : float32 ndarray of shape (windows, dim)

        Raises
        ------
        ValueError
            If the windows do not have the form that `prepare` returns, or the precision is unknown.
        """
        array = prepared.array if isinstance(prepared, Prepared) else np.asarray(prepared, np.float32)
        if array.ndim != 3 or array.shape[-1] != self.n_times:
            raise ValueError(
                f"Windows have shape {array.shape}; {self.key} takes (windows, channels, {self.n_times}). Call "
                "prepare() first."
            )
        if device is not None:
            self.module.to(device)
        out = np.empty((len(array), self.dim), np.float32)
        with autocast(self.device, precision):
            for begin in range(0, len(array), batch_size):
                batch = torch.from_numpy(array[begin : begin + batch_size]).to(self.device)
                out[begin : begin + batch_size] = self.module(batch).float().cpu().numpy()
        return out

    def with_head(self, n_outputs: int, dropout: float = 0.0, seed: int = 0) -> Decoder:
        """Return a trainable copy of the model with a head on its embeddings.

        Parameters
        ----------
        n_outputs : int
            Number of classes, or of values of a regression.
        dropout : float
            Dropout before the head.
        seed : int
            Random seed of the head's weights.

        Returns
        -------
        decoder : Decoder

        Raises
        ------
        ValueError
            If ``n_outputs`` is below 1.
        """
        if n_outputs < 1:
            raise ValueError(f"Got {n_outputs=}; a head needs 1 or more outputs.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = Decoder(copy.deepcopy(self.module), self.dim, n_outputs, dropout)
        for name, parameter in decoder.backbone.named_parameters():
            parameter.requires_grad_(name in self._learnable)
        return decoder.to(self.device)

    def lora_targets(self) -> tuple[str, ...]:
        """Return the names of the layers of a decoder's backbone to which LoRA is applied, see `add_lora`."""
        return tuple(f"backbone.{name}" for name in self._targets)


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Return a context that computes in half precision if ``precision`` is "fp16" or "bf16".

    Raises
    ------
    ValueError
        If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"The value {precision=} is unknown; choose one of {', '.join(PRECISIONS)}.")
    kind = PRECISIONS[precision]
    with torch.autocast(device.type, kind, enabled=kind is not None):
        yield
