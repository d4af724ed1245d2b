"""Entry point of a submission: the class that the EEG Challenge 2025 instantiates, with its two models.

The source of `Submission` is copied into submission.py of each zip (see `archive`), so it needs only torch. Weights are
loaded only if their checksum equals the one written with the model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

N_CHANS, N_TIMES, RATE_HZ = 129, 200, 100
FOLDERS = ("/app/input/res", "/app/input", "/app/output")  # where scoring may unpack a zip, besides this folder
VOLTS_BELOW = 0.01  # separates V from uV: EEG in uV exceeds 0.01, and EEG in V (10,000 uV) does not
# By challenge: the networks, the arguments of each, and the SHA-256 of their weights; several networks are an ensemble.
PARTS: dict[int, tuple[tuple[type[nn.Module], ...], tuple[dict, ...], str]] = {}


class Submission:
    """Models of both challenges.

    Parameters
    ----------
    SFREQ : float
        Sampling rate, 100 Hz.
    DEVICE : str or torch.device

    Raises
    ------
    ValueError
        If the sampling rate is not 100 Hz.
    """

    def __init__(self, SFREQ, DEVICE):
        if round(float(SFREQ), 3) != RATE_HZ:
            raise ValueError(
                f"The rate SFREQ={SFREQ} is not supported: both models were trained at {RATE_HZ} Hz. Resample to it."
            )
        self.sfreq, self.device = SFREQ, DEVICE

    def get_model_challenge_1(self):
        """Return the model that predicts response times, in s."""
        return self._model(1)

    def get_model_challenge_2(self):
        """Return the model that predicts the externalizing factor."""
        return self._model(2)

    def _model(self, challenge):
        networks, arguments, checksum = PARTS[challenge]
        members = [network(**arguments[place]) for place, network in enumerate(networks)]
        model = ChallengeModel(members[0] if len(members) == 1 else Ensemble(members))
        model.network.load_state_dict(load_weights(challenge, checksum), strict=True)
        return model.to(self.device).eval()


class Ensemble(nn.Module):
    """Networks whose predictions are averaged."""

    def __init__(self, members):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, windows):
        """Return the mean prediction, shape (batch, 1)."""
        return torch.stack([member(windows).float() for member in self.members]).mean(0)


class ChallengeModel(nn.Module):
    """Network with the challenge's input and output: it checks the shape and converts windows to uV.

    The challenge's loader returns windows in V. Windows in uV are recognised by their largest amplitude.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, X):
        """Return predictions of shape (batch, 1) for windows of shape (batch, 129, 200)."""
        if X.ndim != 3 or X.shape[1:] != (N_CHANS, N_TIMES):
            raise ValueError(
                f"Windows have the shape {tuple(X.shape)}; this model takes (batch, {N_CHANS}, {N_TIMES}): E1 to E128 "
                f"and Cz, 2 s at {RATE_HZ} Hz."
            )
        X = X.float()
        largest = X.abs().flatten(1).amax(dim=1)[:, None, None]
        return self.network(torch.where(largest < VOLTS_BELOW, 1e6 * X, X)).float()


def load_weights(challenge, checksum):
    """Return the state dict of a challenge, from the first folder that holds the file with this checksum.

    Raises
    ------
    FileNotFoundError
        If no folder has the file.
    ValueError
        If no such file is the one that was written with this submission.
    """
    name = f"weights_challenge_{challenge}.pt"
    folders = [*map(Path, FOLDERS), Path(__file__).resolve().parent]
    there = [folder / name for folder in folders if (folder / name).is_file()]
    if not there:
        raise FileNotFoundError(f"There is no {name} in {', '.join(map(str, folders))}. Unpack the whole zip.")
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in there]
    if checksum not in sums:  # an earlier folder may hold the file of an older submission
        other = [number for number, part in PARTS.items() if part[2] == sums[0]]
        what = f"holds the weights of challenge {other[0]}: the files were swapped" if other else "is damaged"
        raise ValueError(
            f"{there[0]} {what} (SHA-256 {sums[0][:12]}, expected {checksum[:12]}). Unpack the zip again, or write a "
            "new one."
        )
    path = there[sums.index(checksum)]
    return torch.load(path, map_location="cpu", weights_only=True)
