"""What the EEG Challenge 2025 instantiates, and what it is given: two models of (batch, 129, 200) to (batch, 1).

The source of `Submission` goes into each zip's submission.py (see `archive`), so it rests on torch alone. Weights
are loaded only where their checksum is the one that was written beside the model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

N_CHANS, N_TIMES, RATE_HZ = 129, 200, 100
FOLDERS = ("/app/input/res", "/app/input", "/app/output")  # where scoring may unpack a zip; then beside this file
VOLTS_BELOW = 0.01  # no EEG in uV stays below 0.01 uV, and none in V reaches 10,000 uV
PARTS: dict[int, tuple[type[nn.Module], dict, str]] = {}  # by challenge: network, its arguments, weights' SHA-256


class Submission:
    """Give the two models.

    Parameters
    ----------
    SFREQ : float
        In Hz; 100.
    DEVICE : str or torch.device

    Raises
    ------
    ValueError
        If the sampling frequency is another one.
    """

    def __init__(self, SFREQ, DEVICE):
        if round(float(SFREQ), 3) != RATE_HZ:
            raise ValueError(f"SFREQ={SFREQ}: both models were trained at {RATE_HZ} Hz. Resample to it.")
        self.sfreq, self.device = SFREQ, DEVICE

    def get_model_challenge_1(self):
        """Give the model of response times in s."""
        return self._model(1)

    def get_model_challenge_2(self):
        """Give the model of the externalizing factor."""
        return self._model(2)

    def _model(self, challenge):
        network, arguments, checksum = PARTS[challenge]
        model = ChallengeModel(network(**arguments))
        model.network.load_state_dict(load_weights(challenge, checksum), strict=True)
        return model.to(self.device).eval()


class ChallengeModel(nn.Module):
    """A network behind the contract: its shapes checked, its windows in uV.

    Windows come as the challenge's loader gives them, in V; such in uV are told from them by their size.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, X):
        """Predict, shape (batch, 1), for windows of shape (batch, 129, 200)."""
        if X.ndim != 3 or X.shape[1:] != (N_CHANS, N_TIMES):
            raise ValueError(
                f"Windows of shape {tuple(X.shape)}; this model takes (batch, {N_CHANS}, {N_TIMES}): E1 to E128 and "
                f"Cz, 2 s at {RATE_HZ} Hz."
            )
        X = X.float()
        largest = X.abs().flatten(1).amax(dim=1)[:, None, None]
        return self.network(torch.where(largest < VOLTS_BELOW, 1e6 * X, X)).float()


def load_weights(challenge, checksum):
    """Give a challenge's state dict from the first folder that has its very file.

    Raises
    ------
    FileNotFoundError
        If no folder has it.
    ValueError
        If it is not the file that was written with this submission.
    """
    name = f"weights_challenge_{challenge}.pt"
    folders = [*map(Path, FOLDERS), Path(__file__).resolve().parent]
    there = [folder / name for folder in folders if (folder / name).is_file()]
    if not there:
        raise FileNotFoundError(f"There is no {name} in {', '.join(map(str, folders))}. Unpack the whole zip.")
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in there]
    if checksum not in sums:  # an older submission's file may lie before this one's
        other = [number for number, part in PARTS.items() if part[2] == sums[0]]
        what = f"holds the weights of challenge {other[0]}: the files were swapped" if other else "is damaged"
        raise ValueError(
            f"{there[0]} {what} (SHA-256 {sums[0][:12]}, written was {checksum[:12]}). Unpack the zip again, or write "
            "it anew."
        )
    path = there[sums.index(checksum)]
    return torch.load(path, map_location="cpu", weights_only=True)
