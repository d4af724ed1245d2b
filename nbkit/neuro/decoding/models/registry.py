"""Build foundation models by name.

Random weights need no network connection and are always labelled as random. Published weights come from the hub or a
file, and are loaded completely or raise an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.ground.download import local_file
from nbkit.neuro.decoding.models.backbones import Backbone, known_channels, make_network, reve_places
from nbkit.neuro.decoding.models.channels import choose_channels
from nbkit.neuro.decoding.models.foundation import FoundationModel
from nbkit.neuro.decoding.models.table import MODELS, TRAIN_MODES, ModelSpec, spec_of
from nbkit.neuro.decoding.models.weights import fetch, load_weights
from nbkit.neuro.signals.positions import directions, head_places

if TYPE_CHECKING:
    import pandas as pd

TEN_TWENTY = tuple("Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split())


def list_foundation_models() -> pd.DataFrame:
    """Return a table with one row per foundation model: its inputs, size and source of weights."""
    import pandas as pd

    takes = {
        "any": "any",
        "positions": "any with positions",
        "names": "any of {} names",
        "fixed": "{} fixed",
    }
    rows = []
    for key, spec in MODELS.items():
        row = asdict(spec)
        row["channels"] = takes[spec.channels].format(len(known_channels(key)))
        row["train_modes"] = ", ".join(TRAIN_MODES)
        rows.append(row)
    return pd.DataFrame(rows).set_index("key")


def load_model(
    key: str,
    *,
    weights: str | Path = "random",
    ch_names: Sequence[str] = TEN_TWENTY,
    window: float | None = None,
    montage: Sequence[str] | None = None,
    positions: Mapping[str, Sequence[float]] | None = None,
    template: str | None = None,
    strict: bool = True,
    seed: int = 0,
    device: str = "cpu",
    mains: float | None = None,
) -> FoundationModel:
    """Build a foundation model for a recording's channels and window.

    Parameters
    ----------
    key : str
        See `list_foundation_models`.
    weights : "random", "hub", path or URL
        Source of the weights, see `local_file`. "hub" loads the published ones; only this needs a network connection.
    ch_names : sequence of str
        Channel names of the recording.
    window : float, optional
        Length of the recording's windows, in s; by default that of the model's pretraining.
    montage : sequence of str, optional
        Input channels of the model, for models that leave a choice; by default found from the recording's channels.
    positions, template
        Positions of the recording's channels, for names without a known position; see `directions`.
    strict : bool
        Whether to reject weights that are not complete. Otherwise missing ones stay random, and the attribute
        ``weights`` of the model names them.
    seed : int
        Random seed of random weights.
    device : str
    mains : float, optional
        Frequency of the mains in the recordings, 50 or 60 Hz, removed for models whose authors removed it.

    Returns
    -------
    model : FoundationModel

    Raises
    ------
    ValueError
        If the key is unknown, the channels or the window do not fit, or the weights cannot be loaded.
    FileNotFoundError
        If there is no file of weights at the given path.
    """
    spec = spec_of(key)
    published = reve_places() if key == "reve" and str(weights) == "hub" else {}
    targets = _channels(spec, tuple(published) or known_channels(key), ch_names, montage, positions, template)
    n_times = _n_times(spec, spec.window_s if window is None else window)
    laid = directions(targets, positions, template)
    if spec.channels == "positions" and not published and len(laid) < len(targets):
        unknown = [name for name in targets if name not in laid]
        raise ValueError(
            f"{key} uses the positions of channels, and no position is known of {', '.join(unknown[:8])}. Leave out "
            "channels that are not EEG, pass positions=, or template= with the name of one of MNE's montages."
        )
    places = {name: published[name] for name in targets} if published else head_places(laid)
    network = make_network(spec, targets, n_times, places, seed)
    if str(weights) == "random":
        said = f"random, seed {seed}"
    else:
        said = load_weights(spec, network, fetch(spec) if str(weights) == "hub" else _file(weights), strict)
        said = f"{spec.repo}: {said}" if str(weights) == "hub" else said
    backbone = Backbone(key, network, targets)
    return FoundationModel(
        key, backbone, targets, spec.sfreq, n_times, spec.dim, spec.normalisation, said, backbone.lora_targets(),
        positions, template, device, cleaning=spec.cleaning(mains),
    )  # fmt: skip


def check_weights(key: str, weights: str | Path) -> None:
    """Check that a model's weights can be had, before the first of many recordings: the hub's are downloaded once.

    Raises
    ------
    ValueError
        If the key is unknown, or the published weights cannot be loaded.
    FileNotFoundError
        If there is no file of weights at the given path.
    ModuleNotFoundError
        If braindecode, which has the networks, is not installed.
    """
    import braindecode  # noqa: F401

    spec = spec_of(key)
    if str(weights) == "hub":
        fetch(spec)
    elif str(weights) != "random":
        local_file(weights)


def _file(weights: str | Path) -> str | Path:
    """Return a file of weights; only addresses are fetched, so that a missing path gets its own words."""
    return local_file(weights) if "://" in str(weights) else weights


def _channels(
    spec: ModelSpec,
    known: Sequence[str],
    ch_names: Sequence[str],
    montage: Sequence[str] | None,
    positions: Mapping[str, Sequence[float]] | None,
    template: str | None,
) -> list[str]:
    if spec.channels == "fixed":
        if montage is not None:
            raise ValueError(
                f"{spec.key} takes its own {len(known)} channels, not montage={list(montage)[:4]} .... Leave montage= "
                "out."
            )
        return list(known)
    if montage is not None:
        strange = [name for name in montage if known and name.upper() not in map(str.upper, known)]
        if strange or not len(montage):
            raise ValueError(
                f"{spec.key} has no {', '.join(strange[:8]) or 'channels in montage'}; it knows {', '.join(known)}."
            )
        return list(montage)
    if known:
        # Every model with a list of names has these 62; some lists also have a site twice, or bipolar derivations.
        standard = [name for name in known if name.upper() in known_channels("eegpt")]
        return choose_channels(ch_names, known, standard, positions=positions, template=template, model=spec.key)
    return [str(name) for name in ch_names]


def _n_times(spec: ModelSpec, window: float) -> int:
    """Return the number of samples of a window, a multiple of the model's step."""
    if not spec.shortest_s <= window <= spec.longest_s:
        raise ValueError(
            f"Windows of {window:g} s; {spec.key} takes {spec.shortest_s:g} to {spec.longest_s:g} s (pretrained on "
            f"{spec.window_s:g} s). Cut windows of another length, or choose another model."
        )
    return int(window * spec.sfreq + 1e-6) // spec.step * spec.step
