"""Removal of blinks, heartbeat and muscle activity by independent components, with MNE.

Components are found by what the field finds them by: blinks by their correlation with the EOG, or with Fp1 and Fp2
where there is none; the heartbeat by its phase locking to the ECG channel (Dammers et al. 2008,
https://doi.org/10.1109/TBME.2008.926677), or where there is none to the component that beats like a heart; muscles by
the slope of their spectrum and their place (Dharmaprani et al. 2016, https://doi.org/10.1109/EMBC.2016.7590953).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

KINDS = ("blinks", "heartbeat", "muscle")
_FIT_HZ = 1.0  # slower drifts would take components for themselves
_LIKE_EYES = 0.5  # smallest correlation of a component with an eye or frontal channel
_FRONTAL = ("Fp1", "Fp2")
_BEATS_S = (0.45, 1.4)  # time from beat to beat
_REGULAR = 0.12  # largest spread of these times in a heart at rest, as a share
_FEWEST_BEATS = 15


def remove_artifacts(raw: Any, beside: dict[str, np.ndarray], kinds: Sequence[str], seed: int = 97) -> list[str]:
    """Remove components of the EEG that are blinks, heartbeat or muscles; the recording is changed in place.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        EEG channels, loaded, in V, with positions for ``muscle``. Bad channels are neither used nor changed.
    beside : dict of str to array of shape (channels, time)
        Channels that were recorded beside the EEG, under "EOG" and "ECG".
    kinds : sequence of {"blinks", "heartbeat", "muscle"}
        What to remove.
    seed : int
        Seed of the decomposition.

    Returns
    -------
    said : list of str
        What was removed, with the number of components of each kind.

    Raises
    ------
    ValueError
        If a kind cannot be found in this recording, because the channel that shows it is missing.
    """
    import mne
    from mne.preprocessing import ICA

    eyes = _eyes(raw, beside, kinds)
    rows = {f"nbkit {name} {n}": row for name, data in beside.items() for n, row in enumerate(data)}
    whole = raw.copy()
    if rows:
        types = [name.split()[1].lower() for name in rows]
        info = mne.create_info(list(rows), raw.info["sfreq"], types)
        whole.add_channels([mne.io.RawArray(np.array(list(rows.values())), info, verbose="error")], True)
    whole.filter(_FIT_HZ, None, picks=["eeg", *sorted({t for t in whole.get_channel_types() if t in ("eog", "ecg")})],
                 verbose="warning")  # fmt: skip
    said: list[str] = []
    good = len(mne.pick_types(raw.info, eeg=True, exclude="bads"))
    with mne.utils.use_log_level("error"):
        ica = ICA(good - 1, method="infomax", fit_params={"extended": True}, random_state=seed, max_iter=500)
        ica.fit(whole, picks="eeg", decim=max(1, int(raw.info["sfreq"] // 250)))
        found: dict[str, list[int]] = {}
        if "blinks" in kinds:
            found["blinks"] = ica.find_bads_eog(whole, eyes, threshold=_LIKE_EYES, measure="correlation")[0]
        if "heartbeat" in kinds:
            own = [row for row in rows if row.startswith("nbkit ECG")]
            beating = None if own else _beating_component(ica, whole, said)
            if beating is not None:
                info = mne.create_info(["nbkit ECG"], raw.info["sfreq"], "ecg")
                whole.add_channels([mne.io.RawArray(beating[None], info, verbose="error")], True)
            name = own[0] if own else "nbkit ECG"
            found["heartbeat"] = ica.find_bads_ecg(whole, name, method="ctps", threshold="auto")[0]
        if "muscle" in kinds:
            found["muscle"] = ica.find_bads_muscle(whole)[0]
        ica.apply(raw, exclude=sorted({int(one) for some in found.values() for one in some}))
    counts = ", ".join(f"{len(some)} of {kind}" for kind, some in found.items())
    return [f"Independent components removed, of {ica.n_components_}: {counts}.", *said]


def find_beats(signals: np.ndarray, sfreq: float) -> tuple[int, np.ndarray, float] | None:
    """Find the signal that beats most regularly at the rate of a heart at rest.

    Parameters
    ----------
    signals : array of shape (signals, time)
        Channels or components, in any unit.
    sfreq : float
        Sampling rate, in Hz.

    Returns
    -------
    found : tuple of (int, array, float), or None
        Number of the signal, samples of its beats, and beats a minute; None if no signal beats regularly.
    """
    import mne

    best: tuple[float, int, np.ndarray, float] | None = None
    for number, signal in enumerate(signals):
        alone = mne.io.RawArray(signal[None], mne.create_info(["ECG"], sfreq, "ecg"), verbose="error")
        beats = mne.preprocessing.find_ecg_events(alone, ch_name="ECG", verbose="error")[0][:, 0]
        if len(beats) < _FEWEST_BEATS:
            continue
        times = np.sort(np.diff(beats)) / sfreq
        middle = float(np.median(times))
        spread = float(times[len(times) // 10 : len(times) - len(times) // 10].std()) / middle
        regular = spread <= _REGULAR and _BEATS_S[0] <= middle <= _BEATS_S[1]
        if regular and (best is None or spread < best[0]):
            best = spread, number, beats, 60 / middle
    return None if best is None else best[1:]


def _beating_component(ica: Any, whole: Any, said: list[str]) -> np.ndarray:
    """Return the component that beats most regularly at the rate of a heart; raise a ValueError if none does."""
    sources = ica.get_sources(whole).get_data()
    found = find_beats(sources, whole.info["sfreq"])
    if found is None:
        raise ValueError(
            "The heartbeat cannot be told from the EEG: this recording has no ECG channel, and no independent "
            "component beats like a heart. Leave 'heartbeat' out of remove."
        )
    said.append(f"There is no ECG channel: component {found[0]} beats {found[2]:.0f} times a minute and stands for it.")
    return sources[found[0]]


def _eyes(raw: Any, beside: dict[str, np.ndarray], kinds: Sequence[str]) -> list[str]:
    """Return the names of the channels that show blinks."""
    if "blinks" not in kinds:
        return []
    if len(beside.get("EOG", ())):
        return [f"nbkit EOG {number}" for number in range(len(beside["EOG"]))]
    frontal = [name for name in _FRONTAL if name in raw.ch_names and name not in raw.info["bads"]]
    if not frontal:
        raise ValueError(
            "Blinks cannot be told from the EEG, because this recording has neither an EOG channel nor Fp1 or Fp2. "
            "Leave 'blinks' out of remove."
        )
    return frontal
