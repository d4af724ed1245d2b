"""Published weights into a network: every one of them, or none and a reason.

A file's head is left out and said; what else it holds and what the network has must be the same. There is no way from
weights that cannot be had back to random ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nbkit.neuro.decoding.models.table import ModelSpec
from nbkit.neuro.training.weights import LoadReport, load_strictly

# What files hold beside the backbone: heads, and what pretraining alone used.
_LEFT_OUT = {
    "eegpt": ("final_layer.", "chans_id", "chan_proj.", "predictor.", "reconstructor."),
    "luna": ("final_layer.", "decoder_head.", "channel_emb."),
    "reve": ("final_layer.", "cls_query_token"),
}


def load_weights(spec: ModelSpec, network: nn.Module, path: str | Path, strict: bool = True) -> str:
    """Load a file's weights into a network of `make_network`, before its head is taken off.

    Parameters
    ----------
    spec : ModelSpec
    network : torch.nn.Module
    path : str or Path
        A .safetensors file, or one of torch that holds nothing but weights.
    strict : bool
        Refuse a file that does not hold every weight of the backbone; else what it lacks stays random, and is named.

    Returns
    -------
    said : str
        How many of the backbone's weights the file held, and what of it was left out.

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
        # Published for 15 s and one row more; a shorter window uses the first rows.
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
    """Return the weights in a file by name.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file of weights {path}; give its path, weights='hub' or weights='random'."
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    held = torch.load(path, map_location="cpu", weights_only=True)
    for name in ("state_dict", "model"):
        held = held[name] if isinstance(held, dict) and isinstance(held.get(name), Mapping) else held
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(f"{path} holds no weights by name, but {type(held).__name__}; give a saved state_dict.")
    return held


def fetch(spec: ModelSpec) -> Path:
    """Return the published file of a model's weights, from the hub's cache or the hub.

    Raises
    ------
    ValueError
        If it cannot be had; nothing stands in for it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        try:
            return Path(hf_hub_download(spec.repo, spec.filename))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise
            return Path(hf_hub_download(spec.repo, "pytorch_model.bin"))  # the same weights in older repositories
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        raise ValueError(
            f"The weights of {spec.key} ({spec.repo}/{spec.filename}, licence: {spec.licence}) could not be had: "
            f"{type(error).__name__}: {str(error).splitlines()[0]}. Switch the network on, accept the terms and log in "
            "where the repository is gated, give weights=<path of the file>, or ask for weights='random'."
        ) from error


def _renamed(spec: ModelSpec, network: nn.Module, name: str) -> str:
    return getattr(network, "mapping", {}).get(name, name) if spec.key == "luna" else name
