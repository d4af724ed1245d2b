"""From what a file holds to volts: the unit of every channel, checked against the amplitude of the signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nbkit.neuro.signals.intake.amplitude import PLAUSIBLE_UV
from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.intake.opened import Opened
from nbkit.neuro.signals.intake.units import is_blank, volts_per


def factors(opened: Opened, unit: str | None) -> dict[str, float]:
    """Return by how much each channel of the opened recording must be multiplied to be in V.

    Channels whose unit is blank or no voltage are left out.

    Parameters
    ----------
    opened : Opened
    unit : str or None
        The user's word, which counts more than table and header.

    Raises
    ------
    RecordingError
        If the user's unit is no voltage.
    """
    said = volts_per(unit) if unit is not None else None
    if unit is not None and said is None:
        raise RecordingError(f"UNIT={unit!r} is no unit of voltage; give V, mV, uV or nV.")
    found = {}
    for name in opened.raw.ch_names:
        declared = opened.units.get(name)
        wanted = said if said is not None else 1.0 if declared is None else volts_per(declared)
        if wanted is not None:
            found[name] = wanted / opened.read_as.get(name, 1.0)
    if unit is None:
        # without any declaration MNE's reader knows the format's unit, which is V after reading
        found.update({name: 1.0 for name in opened.raw.ch_names if name not in opened.units})
    return found


def check_units(opened: Opened, eeg: Sequence[str], known: Mapping[str, float], peak: Mapping[str, float]) -> str:
    """Return the unit of the EEG channels in words.

    Parameters
    ----------
    opened : Opened
    eeg : sequence of str
        The EEG channels.
    known : mapping of str to float
        Factors of the channels whose unit is known.
    peak : mapping of str to float
        Robust amplitude of each channel in the numbers that the file holds, for the message.

    Raises
    ------
    RecordingError
        If the unit of one of them is not known.
    """
    lost = [name for name in eeg if name not in known]
    if lost:
        unit = opened.units.get(lost[0], "")
        by = opened.said_by.get(lost[0], "file")
        what = "says no unit" if is_blank(unit) else f"says the unit {unit!r}, which is not known"
        numbers = [peak[name] for name in lost if name in peak]
        seen = f" Their numbers vary by about {np.median(numbers):.3g}." if numbers else ""
        raise RecordingError(
            f"{opened.file}: the {by} {what} for {', '.join(lost[:6])}{' ...' if len(lost) > 6 else ''}.{seen} A "
            "factor is never guessed: set UNIT = 'uV' (or mV, nV, V), or add a channels.tsv with units."
        )
    units = {f"{opened.units[n].strip()} ({opened.said_by.get(n, 'file')})" for n in eeg if opened.units.get(n)}
    return ", ".join(sorted(units)) or "V (format)"


def check_amplitudes(file: str, amplitude_uv: Mapping[str, float], unit: str) -> dict[str, str]:
    """Return the channels whose amplitude is not that of EEG, with the reason.

    Raises
    ------
    RecordingError
        If that holds for more than half of them: then it is the unit that is wrong.
    """
    low, high = PLAUSIBLE_UV
    wrong = {n: a for n, a in amplitude_uv.items() if not low <= a <= high}
    if wrong and 2 * len(wrong) > len(amplitude_uv):
        middle = float(np.median(list(amplitude_uv.values())))
        raise RecordingError(
            f"{file}: {len(wrong)} of {len(amplitude_uv)} EEG channels have no amplitude of EEG: the median is "
            f"{middle:.3g} uV from 1 to 40 Hz, read as {unit}; plausible is {low:g} to {high:g} uV. If the unit is "
            "another one, set UNIT = 'uV' (or mV, nV, V); if the file is no EEG, leave it out."
        )
    return {name: f"{'flat, ' if a < 0.01 else ''}{a:.3g} uV from 1 to 40 Hz" for name, a in wrong.items()}
