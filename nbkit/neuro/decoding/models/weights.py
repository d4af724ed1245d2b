"""Load published weights into a network, completely or with an error.

A file's head is left out and reported; all its other weights must be the same as the network's. If weights cannot be
loaded, random ones are never used silently in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nbkit.neuro.decoding.models.table import ModelSpec
from nbkit.neuro.training.weights import LoadReport, load_strictly

# Weights in the files that do not belong to the backbone: heads, and parts that only pretraining used.
_LEFT_OUT = {
    "eegpt": ("final_layer.", "chans_id", "chan_proj.", "predictor.", "reconstructor."),
    "luna": ("final_layer.", "decoder_head.", "channel_emb."),
    "reve": ("final_layer.", "cls_query_token"),
}


def weights_for(model: str, weights: str | Path | Mapping[str, str]) -> str:
    """Return the source of one model's weights: that of all, or its own file, or the hub."""
    return str(weights.get(model, "hub")) if isinstance(weights, Mapping) else str(weights)


def load_weights(spec: ModelSpec, network: nn.Module, path: str | Path, strict: bool = True) -> str:
    """Load a file's weights into a network of `make_network`, before its head is removed.

    Parameters
    ----------
    spec : ModelSpec
    network : torch.nn.Module
    path : str or Path
        A .safetensors file, or a torch file that contains only weights.
    strict : bool
        Whether to reject a file that lacks a weight of the backbone; otherwise missing weights stay random and are
        named.

    Returns
    -------
    said : str
        Description of how many of the backbone's weights the file had, and which part of the file was left out.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If any weight of the backbone is missing, left over or of another shape.
    """
    weights = {_renamed(spec, network, name): value for name, value in read_weights(path).items()}
    heads = _LEFT_OUT.get(spec.key, ("final_layer.",))
    left_out = tuple(name for name in weights if name.startswith(heads))
    own = network.state_dict()
    merged = {name: value for name, value in weights.items() if name not in left_out}
    merged |= {name: value for name, value in own.items() if name.startswith(heads)}
    if spec.key == "labram" and "temporal_embedding" in merged:
        # The published table is for 15 s and has one row more; a shorter window uses its first rows.
        rows = own["temporal_embedding"].shape[1]
        merged["temporal_embedding"] = merged["temporal_embedding"][:, :rows]
    lacking = [] if strict else [n for n, v in own.items() if n not in merged or merged[n].shape != v.shape]
    if not strict:
        merged = {name: own[name] if name in lacking else merged[name] for name in own}
    load_strictly(network, merged, path)
    total = sum(not name.startswith(heads) for name in own)
    said = str(LoadReport(total - len(lacking), total, Path(path).name))
    said += f", {len(lacking)} stay random: {', '.join(lacking)}" if lacking else ""
    return said + (f", without {len(left_out)} of its head" if left_out else "")


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """Return the weights in a file, by name.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file of weights {path}; pass the path or URL of a file, weights='hub' or weights='random'."
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    held = torch.load(path, map_location="cpu", weights_only=True)
    for name in ("state_dict", "model"):
        held = held[name] if isinstance(held, dict) and isinstance(held.get(name), Mapping) else held
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(f"{path} holds no weights by name, but {type(held).__name__}; pass a saved state_dict.")
    return held


def fetch(spec: ModelSpec) -> Path:
    """Return the path of a model's published weights, from the local cache of the hub or by downloading them.

    Raises
    ------
    ValueError
        If the file cannot be loaded; there is no fallback.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        try:
            return Path(hf_hub_download(spec.repo, spec.filename))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise
            return Path(hf_hub_download(spec.repo, "pytorch_model.bin"))  # name of the same file in older repositories
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        raise ValueError(
            f"The weights of {spec.key} ({spec.repo}/{spec.filename}, licence: {spec.licence}) could not be loaded: "
            f"{type(error).__name__}: {str(error).splitlines()[0]}. Turn the network on; for a gated repository, "
            "accept its terms and log in; or pass weights=<path of the file> or weights='random'."
        ) from error


def _renamed(spec: ModelSpec, network: nn.Module, name: str) -> str:
    return getattr(network, "mapping", {}).get(name, name) if spec.key == "luna" else name
