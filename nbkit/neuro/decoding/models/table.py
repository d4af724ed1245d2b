"""The eight foundation models: what each was trained on, and so what it has to be given.

One row a model, as its authors' code has it; where the models' own papers and their hub pages differ, the note says so.
"""

from __future__ import annotations

from dataclasses import dataclass

TRAIN_MODES = ("frozen", "head", "full", "lora", "qlora")


@dataclass(frozen=True)
class ModelSpec:
    """What a model is and what it takes.

    Parameters
    ----------
    key : str
    network : str
        Its class in braindecode.models.
    repo, filename : str
        Of the published weights on huggingface.co.
    dim : int
        Length of an embedding.
    sfreq : float
        In Hz.
    channels : {"any", "positions", "names", "fixed"}
        Any channels; any with positions on the head; any of a list of names; exactly a list.
    window_s : float
        Of its pretraining, in s.
    shortest_s, longest_s : float
        That it can take, in s.
    step : int
        Windows are cut to a multiple of this many samples.
    normalisation : str
        See `normalise`.
    l_freq, h_freq : float
        Edges of a filter that leaves what its pretraining data held, in Hz. As published, but for BIOT and EEGPT.
    parameters_m : float
        Millions of weights, without a head.
    licence : str
        Of the weights, where it is known.
    note : str
    """

    key: str
    network: str
    repo: str
    dim: int
    sfreq: float
    channels: str
    window_s: float
    shortest_s: float
    longest_s: float
    step: int
    normalisation: str
    l_freq: float
    h_freq: float
    parameters_m: float
    licence: str
    note: str
    filename: str = "model.safetensors"


_ROWS = (
    ModelSpec(
        "bendr", "BENDR", "braindecode/braindecode-bendr", 512, 256.0, "fixed", 60.0, 2.0, 60.0, 1, "min_max_scale",
        0.1, 100.0, 157.1, "unknown",
        "19 channels of the 10-20 system and SCALE, the window's range against that of the pretraining's data",
    ),
    ModelSpec(
        "biot", "BIOT", "braindecode/biot-pretrained-prest-16chs", 256, 200.0, "fixed", 10.0, 1.0, 30.0, 100,
        "percentile_95", 0.1, 75.0, 3.19, "unknown", "16 bipolar derivations (TCP), taken as differences of channels",
    ),
    ModelSpec(
        "cbramod", "CBraMod", "braindecode/cbramod-pretrained", 200, 200.0, "any", 30.0, 1.0, 60.0, 200, "hundredth",
        0.3, 75.0, 4.92, "bsd-3-clause", "knows channels by their order only; pretrained on 19 of the 10-20 system",
    ),
    ModelSpec(
        "eegpt", "EEGPT", "braindecode/eegpt-pretrained", 2048, 256.0, "names", 4.0, 1.0, 60.0, 32, "average_z",
        0.1, 100.0, 25.3, "unknown", "the seed says 250 Hz, the pretraining and braindecode 256 Hz",
    ),
    ModelSpec(
        "labram", "Labram", "braindecode/labram-pretrained", 200, 200.0, "names", 15.0, 1.0, 15.0, 200, "hundredth",
        0.1, 75.0, 5.82, "unknown", "any of 128 names; time embeddings for 15 s, fewer for a shorter window",
    ),
    ModelSpec(
        "luna", "LUNA", "PulpBio/LUNA", 256, 256.0, "positions", 5.0, 1.0, 60.0, 40, "channel_z", 0.1, 75.0, 6.57,
        "cc-by-nd-4.0",
        "the seed says 200 Hz, its authors resample to 256 Hz; bipolar derivations in its pretraining on TUEG",
        filename="LUNA_base.safetensors",
    ),
    ModelSpec(
        "reve", "REVE", "brain-bzh/reve-base", 512, 200.0, "positions", 10.0, 1.0, 60.0, 20, "channel_z_15", 0.5, 99.5,
        69.2, "gated: its terms are to be accepted on the hub",
        "published positions for its channels' names; patches of 1 s, 0.9 s apart",
    ),
    ModelSpec(
        "signaljepa", "SignalJEPA", "braindecode/signal-jepa", 64, 128.0, "names", 16.0, 1.25, 60.0, 1, "microvolt",
        0.5, 40.0, 2.27, "unknown", "the seed says 200 Hz, it was trained at 128 Hz; any of 62 names",
    ),
)  # fmt: skip

MODELS = {row.key: row for row in _ROWS}


def spec_of(key: str) -> ModelSpec:
    """Return a model's row.

    Raises
    ------
    ValueError
        If there is no such model.
    """
    if key not in MODELS:
        raise ValueError(f"There is no foundation model {key!r}; there are: {', '.join(MODELS)}.")
    return MODELS[key]
