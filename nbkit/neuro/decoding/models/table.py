"""Table of the eight foundation models: their pretraining data and the inputs that they expect.

Each row follows the code of the model's authors. If their paper or hub page differs from it, the note says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from nbkit.neuro.signals.intake.cleaning import Cleaning

TRAIN_MODES = ("frozen", "head", "full", "lora", "qlora")


@dataclass(frozen=True)
class ModelSpec:
    """Description of a model and its inputs.

    Parameters
    ----------
    key : str
    network : str
        Class in braindecode.models.
    repo, filename : str
        Repository and file of the published weights on huggingface.co.
    dim : int
        Length of an embedding.
    sfreq : float
        Sampling frequency, in Hz.
    channels : {"any", "positions", "names", "fixed"}
        Any channels; any channels with positions on the head; any from a list of names; or exactly a given list.
    window_s : float
        Length of windows in pretraining, in s.
    shortest_s, longest_s : float
        Shortest and longest window that it accepts, in s.
    step : int
        Windows are cut to a multiple of this number of samples.
    normalisation : str
        See `normalise`.
    l_freq, h_freq : float
        Band edges of its pretraining data, in Hz; as published, except for BIOT and EEGPT.
    notch : bool
        Whether its authors removed the mains with a notch filter.
    parameters_m : float
        Number of weights without a head, in millions.
    licence : str
        Licence of the weights, if known.
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
    notch: bool
    parameters_m: float
    licence: str
    note: str
    filename: str = "model.safetensors"

    def cleaning(self, mains: float | None = None) -> Cleaning:
        """Return the cleaning of the model's authors: rate, band and notch.

        References (BIOT and LUNA: bipolar derivations, EEGPT: the average) are part of channels and normalisation.

        Parameters
        ----------
        mains : float, optional
            Frequency of the mains where the recordings were made, 50 or 60 Hz; None keeps it.
        """
        return Cleaning(self.sfreq, self.l_freq, self.h_freq, mains if self.notch else None)


_ROWS = (
    ModelSpec(
        "bendr", "BENDR", "braindecode/braindecode-bendr", 512, 256.0, "fixed", 60.0, 2.0, 60.0, 1, "min_max_scale",
        0.1, 100.0, False, 157.1, "unknown",
        "19 channels of the 10-20 system and SCALE, the window's range relative to that of the pretraining data",
    ),
    ModelSpec(
        "biot", "BIOT", "braindecode/biot-pretrained-prest-16chs", 256, 200.0, "fixed", 10.0, 1.0, 30.0, 100,
        "percentile_95", 0.1, 75.0, False, 3.19, "unknown", "16 bipolar derivations (TCP), as differences of channels",
    ),
    ModelSpec(
        "cbramod", "CBraMod", "braindecode/cbramod-pretrained", 200, 200.0, "any", 30.0, 1.0, 60.0, 200, "hundredth",
        0.3, 75.0, True, 4.92, "bsd-3-clause", "knows channels only by order; pretrained on 19 of the 10-20 system",
    ),
    ModelSpec(
        "eegpt", "EEGPT", "braindecode/eegpt-pretrained", 2048, 256.0, "names", 4.0, 1.0, 60.0, 32, "average_z",
        0.1, 100.0, False, 25.3, "unknown", "250 Hz in the seed project, 256 Hz in pretraining and braindecode",
    ),
    ModelSpec(
        "labram", "Labram", "braindecode/labram-pretrained", 200, 200.0, "names", 15.0, 1.0, 15.0, 200, "hundredth",
        0.1, 75.0, True, 5.82, "unknown", "any of 128 names; time embeddings for 15 s, fewer for a shorter window",
    ),
    ModelSpec(
        "luna", "LUNA", "PulpBio/LUNA", 256, 256.0, "positions", 5.0, 1.0, 60.0, 40, "channel_z", 0.1, 75.0, True, 6.57,
        "cc-by-nd-4.0",
        "200 Hz in the seed project, but its authors resample to 256 Hz; pretrained on bipolar derivations of TUEG",
        filename="LUNA_base.safetensors",
    ),
    ModelSpec(
        "reve", "REVE", "brain-bzh/reve-base", 512, 200.0, "positions", 10.0, 1.0, 60.0, 20, "channel_z_15", 0.5, 99.5,
        False, 69.2, "gated: accept its terms on the hub",
        "published positions for its channels' names; patches of 1 s, 0.9 s apart",
    ),
    ModelSpec(
        "signaljepa", "SignalJEPA", "braindecode/signal-jepa", 64, 128.0, "names", 16.0, 1.25, 60.0, 1, "microvolt",
        0.5, 40.0, False, 2.27, "unknown", "200 Hz in the seed project, but it was trained at 128 Hz; any of 62 names",
    ),
)  # fmt: skip

MODELS = {row.key: row for row in _ROWS}


def spec_of(key: str) -> ModelSpec:
    """Return the description of a model.

    Raises
    ------
    ValueError
        If the key is unknown.
    """
    if key not in MODELS:
        raise ValueError(f"There is no foundation model {key!r}; there are: {', '.join(MODELS)}.")
    return MODELS[key]
