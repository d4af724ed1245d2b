"""braindecode's SignalJEPA as a rival of the finetuned encoder.

SignalJEPA (Guetschel et al. 2024, https://arxiv.org/abs/2403.11772) is a different network in spite of its similar
name, and starts from random weights here. It needs the positions of the electrodes, which come from HBN's net.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nbkit.ground.quiet import quiet_braindecode
from nbkit.neuro.training.regression import WindowRegressor

VARIANTS = {
    "contextual": "SignalJEPA_Contextual",
    "post_local": "SignalJEPA_PostLocal",
    "pre_local": "SignalJEPA_PreLocal",
}
WINDOW_S = 2.0  # length of the challenge's windows
_MONTAGE = "GSN-HydroCel-129"
_UNIT_UV = 10.0  # divides signals in uV, so that they have a size of about 1


class SignalJEPARegressor(WindowRegressor):
    """Lightning module that predicts the scored target with one of braindecode's SignalJEPA networks.

    Parameters
    ----------
    settings : FinetuneSettings
        The settings of the regressor that it is compared with.
    ch_names : sequence of str
        Channels of HBN's net.
    sfreq : float
        Sampling rate, in Hz.
    scale : (float, float)
        Mean and standard deviation of the training targets.
    variant : {"contextual", "post_local", "pre_local"}
    """

    def __init__(
        self, settings: Any, ch_names: Sequence[str], sfreq: float, scale: tuple[float, float], variant: str
    ) -> None:
        super().__init__(settings, ch_names, sfreq, (scale,), ("target",), "target")
        self.network = make_signal_jepa(variant, ch_names, sfreq, round(WINDOW_S * sfreq))

    def outputs(self, windows: Tensor) -> Tensor:
        return self.network(windows / _UNIT_UV).float()


@quiet_braindecode()
def make_signal_jepa(variant: str, ch_names: Sequence[str], sfreq: float, n_times: int) -> torch.nn.Module:
    """Return a new SignalJEPA with one output; needs the extra ``braindecode``.

    Parameters
    ----------
    variant : {"contextual", "post_local", "pre_local"}
    ch_names : sequence of str
        Channels of HBN's net.
    sfreq : float
        Sampling rate, in Hz.
    n_times : int
        Samples of a window.

    Raises
    ------
    ValueError
        If the variant is unknown, or a channel has no position in HBN's net.
    """
    if variant not in VARIANTS:
        raise ValueError(f"Unknown rival={variant!r}; it may be {', '.join(VARIANTS)}, or '' for no rival.")
    import braindecode.models
    import mne

    montage = mne.channels.make_standard_montage(_MONTAGE)
    unknown = [name for name in ch_names if name not in montage.ch_names]
    if unknown:
        raise ValueError(
            f"Channels {', '.join(unknown[:4])} (of {len(ch_names)}) have no position in {_MONTAGE}; SignalJEPA needs "
            "the position of each electrode. Set rival='' or use HBN's channels."
        )
    info = mne.create_info(list(ch_names), sfreq, "eeg").set_montage(montage)
    network = getattr(braindecode.models, VARIANTS[variant])
    return network(n_outputs=1, n_chans=len(ch_names), n_times=n_times, sfreq=sfreq, chs_info=info["chs"])
