"""Small networks trained from scratch: EEGNet (Lawhern et al. 2018) and ShallowNet (Schirrmeister et al. 2017).

They are braindecode's networks, trained and tested as foundation models are: same folds, same choice of the best step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nbkit.ground.quiet import quiet_braindecode
from nbkit.neuro.decoding.models.foundation import FoundationModel

SFREQ = 128.0  # of EEGNet's paper, in Hz; ShallowNet's lengths, made for 250 Hz, are scaled to it
WEIGHTS = "none: trained here from scratch"
SCRATCH = ("eegnet", "shallow")


class Features(nn.Module):
    """A network without its last layer, which a decoder's head replaces.

    Parameters
    ----------
    network : torch.nn.Module
        With ``final_layer``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.final_layer = nn.Flatten()
        self.network = network

    def forward(self, windows: Tensor) -> Tensor:
        """Return features of shape (batch, dim)."""
        return self.network(windows)


@quiet_braindecode()
def scratch_model(
    key: str, ch_names: Sequence[str], sfreq: float, n_times: int, seed: int = 0, device: str = "cpu"
) -> FoundationModel:
    """Return a network with random weights for windows of a shape, to be trained fully.

    Parameters
    ----------
    key : {"eegnet", "shallow"}
    ch_names : sequence of str
    sfreq : float
        Sampling frequency of the windows, in Hz.
    n_times : int
        Samples of a window.
    seed : int
        Random seed of the weights.
    device : str

    Raises
    ------
    ValueError
        If the key is unknown.
    """
    from braindecode.models import EEGNet, ShallowFBCSPNet

    if key not in SCRATCH:
        raise ValueError(f"There is no network {key!r} to train from scratch; there are {', '.join(SCRATCH)}.")
    length = int(n_times / sfreq * SFREQ)
    common = {"n_chans": len(ch_names), "n_outputs": 2, "n_times": length}
    scale = SFREQ / 250.0
    lengths = {
        "filter_time_length": round(25 * scale), "pool_time_length": round(75 * scale),
        "pool_time_stride": round(15 * scale),
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # at braindecode's momentum of 0.01, a few hundred steps leave the norms' running variances near their start
        network = EEGNet(batch_norm_momentum=0.1, **common) if key == "eegnet" else ShallowFBCSPNet(**common, **lengths)
    features = Features(network).eval()
    with torch.no_grad():
        dim = features(torch.zeros(1, len(ch_names), length)).shape[1]
    return FoundationModel(key, features, ch_names, SFREQ, length, dim, "hundredth", WEIGHTS, device=device)
