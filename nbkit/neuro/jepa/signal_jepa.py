"""braindecode's SignalJEPA as a rival of the finetuned encoder.

Guetschel et al. (2024, https://arxiv.org/abs/2403.11772): another network of nearly the same name, here from random
weights. Its convolutions and positions are made for the places of electrodes, which come from HBN's net.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nbkit.neuro.training.regression import WindowRegressor

VARIANTS = {
    "contextual": "SignalJEPA_Contextual",
    "post_local": "SignalJEPA_PostLocal",
    "pre_local": "SignalJEPA_PreLocal",
}
WINDOW_S = 2.0  # of the challenge's windows
_MONTAGE = "GSN-HydroCel-129"
_UNIT_UV = 10.0  # signals come in at about 1


class SignalJEPARegressor(WindowRegressor):
    """Predict the scored target with one of braindecode's SignalJEPA networks.

    Parameters
    ----------
    settings
        As of the regressor beside it: both train by one recipe.
    ch_names : sequence of str
        Of HBN's net.
    sfreq : float
        In Hz.
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


def make_signal_jepa(variant: str, ch_names: Sequence[str], sfreq: float, n_times: int) -> torch.nn.Module:
    """Build a SignalJEPA with one output; needs the extra ``braindecode``.

    Raises
    ------
    ValueError
        If there is no such variant, or a channel has no place in HBN's net.
    """
    if variant not in VARIANTS:
        raise ValueError(f"rival={variant!r} is none; there are {', '.join(VARIANTS)}, and '' for none.")
    import braindecode.models
    import mne

    montage = mne.channels.make_standard_montage(_MONTAGE)
    unknown = [name for name in ch_names if name not in montage.ch_names]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown[:4])} (of {len(ch_names)} channels) have no place in {_MONTAGE}; SignalJEPA needs "
            "each electrode's. Set rival='' or take HBN's channels."
        )
    info = mne.create_info(list(ch_names), sfreq, "eeg").set_montage(montage)
    network = getattr(braindecode.models, VARIANTS[variant])
    return network(n_outputs=1, n_chans=len(ch_names), n_times=n_times, sfreq=sfreq, chs_info=info["chs"])
