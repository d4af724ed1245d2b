"""Uniform modules around braindecode's networks that map each window to one embedding.

Heads are removed, so that a decoder uses all remaining weights. Every projection of the attention is called as a
module, so that wrappers of linear layers (LoRA, 4-bit weights) have an effect. An embedding is the mean of a network's
tokens.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nbkit.ground.quiet import quiet_braindecode
from nbkit.neuro.decoding.models.table import ModelSpec
from nbkit.neuro.nn.fused import attend
from nbkit.neuro.nn.open_attention import open_attention

# Names of the attention modules within each network to which LoRA is applied.
_ATTENTION = {
    "bendr": r"contextualizer\.transformer_layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|out_proj)",
    "biot": r"encoder\.transformer\.layers\.layers\.\d+\.\d+\.fn\.(to_q|to_k|to_v|to_out)",
    "cbramod": r"encoder\.layers\.\d+\.self_attn_[st]\.(q_proj|k_proj|v_proj|out_proj)",
    "eegpt": r"target_encoder\.blocks\.\d+\.attn\.(qkv|proj)",
    "labram": r"blocks\.\d+\.attn\.(qkv|proj)",
    "luna": (
        r"cross_attn\.cross_attention\.(q_proj|k_proj|v_proj|out_proj)|blocks\.\d+\.attn\.(qkv_proj|proj)"
        r"|cross_attn\.query_self_attn\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"
    ),
    "reve": r"transformer\.layers\.\d+\.\d+\.(to_qkv|to_out)",
    "signaljepa": r"transformer\.encoder\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|out_proj)",
}


class Backbone(nn.Module):
    """A network without its head.

    Parameters
    ----------
    key : str
        Key of the model.
    network : torch.nn.Module
        See `make_network`; it is modified here, so load its weights before.
    ch_names : sequence of str
        Channel names of the windows.
    """

    def __init__(self, key: str, network: nn.Module, ch_names: Sequence[str]) -> None:
        super().__init__()
        self.key, self.ch_names = key, tuple(ch_names)
        network.final_layer = nn.Identity()
        if key == "signaljepa":
            network.transformer.decoder = nn.Identity()  # used in pretraining only
        if key == "labram":
            call_qkv(network)
        open_attention(network)
        self.network = network

    def tokens(self, windows: Tensor) -> Tensor:
        """Return a network's tokens, of shape (batch, tokens, dim)."""
        if self.key == "luna":  # without a head, its forward returns the tokens
            return self.network(windows)
        names = {"ch_names": list(self.ch_names)} if self.key == "labram" else {}
        features = self.network(windows, return_features=True, **names)["features"]
        return features.flatten(1, -2) if features.dim() > 2 else features[:, None]

    def forward(self, windows: Tensor) -> Tensor:
        """Return embeddings of shape (batch, dim)."""
        return self.tokens(windows).mean(1)

    def lora_targets(self) -> tuple[str, ...]:
        """Return the names of the layers to which LoRA is applied: the projections of every attention module."""
        pattern = re.compile(r"network\.(?:" + _ATTENTION[self.key] + ")")
        return tuple(name for name, _ in self.named_modules() if pattern.fullmatch(name))


@quiet_braindecode()
def known_channels(key: str) -> tuple[str, ...]:
    """Return the channels for which a model has weights, in its order; empty if it takes any channels."""
    if key == "bendr":
        from braindecode.models.bendr import BENDR_CHANNEL_ORDER

        return tuple(BENDR_CHANNEL_ORDER[:-1])  # without SCALE, which normalisation adds
    if key == "biot":
        from braindecode.models.biot import BIOT_CHANNEL_ORDER

        return tuple(BIOT_CHANNEL_ORDER[:16])  # the other two are from a sleep data set
    if key == "eegpt":
        from braindecode.models.eegpt import EEGPT_CHANNELS

        return tuple(EEGPT_CHANNELS)
    if key == "labram":
        from braindecode.models.labram import LABRAM_CHANNEL_ORDER

        return tuple(LABRAM_CHANNEL_ORDER)
    if key == "signaljepa":
        from braindecode.models.signal_jepa import _PRETRAIN_CHS_INFO  # private, but the only list of these channels

        return tuple(row["ch_name"] for row in _PRETRAIN_CHS_INFO)
    return ()


@quiet_braindecode()
def reve_places() -> dict[str, list[float]]:
    """Return the channel positions that REVE was trained with, from the local cache of the hub or by downloading them.

    Raises
    ------
    ValueError
        If they cannot be loaded.
    """
    from braindecode.models.reve import RevePositionBank

    try:
        bank = RevePositionBank()
    except RuntimeError as error:
        raise ValueError(
            f"REVE's published weights need its published channel positions, which could not be loaded: {error}. Turn "
            "the network on, or pass weights='random'."
        ) from error
    return dict(zip(bank.position_names, bank.embedding.tolist(), strict=True))


@quiet_braindecode()
def make_network(
    spec: ModelSpec, ch_names: Sequence[str], n_times: int, places: Mapping[str, Sequence[float]], seed: int = 0
) -> nn.Module:
    """Return a model's network with random weights; this needs no network connection.

    Parameters
    ----------
    spec : ModelSpec
    ch_names : sequence of str
        Channel names of the windows, without SCALE.
    n_times : int
        Number of samples per window.
    places : mapping of str to (x, y, z)
        Positions of the channels on the head, in m, for models that need them.
    seed : int
        Random seed of the weights.
    """
    import braindecode.models

    cls = getattr(braindecode.models, spec.network)
    common = {"n_outputs": 1, "n_times": n_times, "sfreq": int(spec.sfreq)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.key == "reve":
            with _places_for_reve(places):
                return cls(chs_info=[{"ch_name": name} for name in places], **common)
        if spec.key == "bendr":
            return cls(n_chans=len(ch_names) + 1, **common)
        if spec.key in ("luna", "signaljepa", "eegpt"):
            info = [{"ch_name": name, "loc": list(places.get(name, (0.0, 0.0, 0.0)))} for name in ch_names]
            more = {"eegpt": {"chan_proj_type": "none"}, "signaljepa": {"channel_embedding": "pretrain_aligned"}}
            return cls(chs_info=info, **common, **more.get(spec.key, {}))
        return cls(n_chans=len(ch_names), **common)


def call_qkv(network: nn.Module) -> None:
    """Modify braindecode's Labram in place, so that it calls its query, key and value projection as a module.

    Its own attention multiplies with the projection's weights and never calls the module, so LoRA there would get no
    gradient and 4-bit weights would fail. The output does not change.
    """
    for block in network.blocks:
        block.attn.forward = types.MethodType(_labram_attention, block.attn)


def _labram_attention(self: nn.Module, x: Tensor) -> Tensor:
    qkv = self.qkv(x)
    if self.q_bias is not None:
        qkv = qkv + torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
    q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
    q = q if self.q_norm is None else self.q_norm(q).type_as(v)
    k = k if self.k_norm is None else self.k_norm(k).type_as(v)
    dropout = self.attn_drop.p if self.training else 0.0
    mixed = attend(q, k, v, dropout=dropout, scale=self.scale)
    return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(-2)))


class _places_for_reve:
    """Context in which braindecode's REVE reads positions from disk instead of fetching them from the hub.

    REVE reads them when it is built, from the folder in MNE's setting REVE_POSITIONS_PATH; afterwards they are part of
    the module.
    """

    def __init__(self, places: Mapping[str, Sequence[float]]) -> None:
        self.places = places

    def __enter__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        table = {name: list(place) for name, place in self.places.items()}
        (Path(self.folder.name) / "reve_positions.json").write_text(json.dumps(table))
        self.before = os.environ.get("REVE_POSITIONS_PATH")
        os.environ["REVE_POSITIONS_PATH"] = self.folder.name

    def __exit__(self, *error: object) -> None:
        if self.before is None:
            del os.environ["REVE_POSITIONS_PATH"]
        else:
            os.environ["REVE_POSITIONS_PATH"] = self.before
        self.folder.cleanup()
