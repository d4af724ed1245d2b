"""Which channels are EEG.

A channel's kind is taken from a table or a format that declares it, then from its name, then from its unit and
amplitude. Everything that is not EEG is left out by name, with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from nbkit.neuro.signals.intake.ch_names import electrode, is_between_references, is_scalp
from nbkit.neuro.signals.intake.companions import BRAINVISION
from nbkit.neuro.signals.intake.opened import Opened
from nbkit.neuro.signals.intake.units import is_blank, volts_per

# words in names of channels that are not EEG, by kind
_WORDS = {
    "EOG": "EOG HEOG VEOG HEO VEO HEOR HEOL VEOU VEOL IO LOC ROC HEOGL HEOGR VEOGL VEOGR VEOGB EYE GAZE PUPIL EOGL "
    "EOGR EOGH EOGV LEOG REOG",
    "ECG": "ECG EKG HEART CARDIAC ECGL ECGR EKG1 EKG2",
    "EMG": "EMG CHIN LEG MASSETER TIBIAL SUBMENTAL CHIN1 CHIN2 LAT RAT LLEG RLEG",
    "respiration": "RESP RESPIRATION RSP FLOW AIRFLOW NASAL ORO ORONASAL THOR THORAX THORACIC ABDO ABD ABDOMEN "
    "ABDOMINAL CHEST SNORE SNORING CPAP PRESSURE BELT EFFORT RIP XFLOW XSUM NAF NPT THERM THERMISTOR CANNULA "
    "CO2 ETCO2 TCCO2 VTH VAB",
    "blood": "SPO2 SAO2 SAT OSAT PULSE PULS PLETH PLET PPG HR BPM HRATE HEARTRATE OXSTAT BVP BP NIBP PTT",
    "temperature": "TEMP TEMPERATURE",
    "skin": "GSR EDA SCR SCL",
    "marker": "STATUS TRIG TRIGGER TRIGGERS STI STIM STIMULUS MARKER MARK EVENT EVENTS DIGITAL COUNTER PACKET "
    "TIMESTAMP DIN ANNOTATION ANNOTATIONS MK",
    "other": "DC AUX ACC ACCX ACCY ACCZ GYRO GYROX GYROY GYROZ QUALITY CQ BATTERY ERG ERGO POSITION POS LIGHT MIC "
    "AUDIO SOUND PHOTIC IBI BURSTS SUPPR SUPPRESSION PTAF",
}  # fmt: skip
_KIND_OF = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_NOT_EEG = {"n/a", "", "eeg"}


def sort_channels(opened: Opened, amplitude_uv: Mapping[str, float]) -> tuple[list[str], dict[str, str]]:
    """Return the EEG channels, and the others with the reason why they are left out.

    Parameters
    ----------
    opened : Opened
    amplitude_uv : mapping of str to float
        Robust amplitude of every channel with a unit of voltage.
    """
    names = list(opened.raw.ch_names)
    read_types = dict(zip(names, opened.raw.get_channel_types(), strict=True))
    kept: dict[str, str] = {}
    left_out: dict[str, str] = {}
    reasons = {name: _why_not(name, names, opened, read_types[name], amplitude_uv) for name in names}
    usable = [name for name, reason in reasons.items() if reason is None]
    known = [name for name in usable if is_scalp(name, names) or opened.kinds.get(name) == "eeg"]
    series = Counter(_stem(name) for name in usable if name not in known)
    # I1 to I8 of BioSemi are inputs beside the cap, although I1 and I2 are electrodes at the inion elsewhere
    alike = Counter(_stem(name) for name in known)
    inputs = {stem for stem, count in series.items() if count >= 3 and 0 < alike[stem] < count and stem}
    known = [name for name in known if _stem(name) not in inputs or opened.kinds.get(name) == "eeg"]
    for name in names:
        reason = reasons[name]
        if reason is None and name not in known and known and series[_stem(name)] <= max(3, len(known)):
            # a cap names its electrodes in one way; EXG1, HEO or a belt in uV beside them is none
            reason = f"no electrode by its name, beside {len(known)} that are"
        if reason is None and electrode(name) in kept:
            reason = f"the same electrode as {kept[electrode(name)]}"
        if reason is None:
            kept[electrode(name)] = name
        else:
            left_out[name] = reason
    return list(kept.values()), left_out


def _stem(name: str) -> str:
    """Return a name without its numbers, which a numbered cap (``EEG 001``, ``EEG 002``) has in common."""
    return re.sub(r"\d+", "", name)


def _why_not(
    name: str, names: list[str], opened: Opened, read_type: str, amplitude_uv: Mapping[str, float]
) -> str | None:
    """Return why a channel is not EEG; None if it is."""
    declared = opened.kinds.get(name, "")
    if declared and declared not in _NOT_EEG:
        return f"declared as {declared}"
    # MNE reads channels of BrainVision as misc that have a unit in another spelling, or no place
    if not declared and read_type != "eeg" and not (read_type == "misc" and opened.format in BRAINVISION):
        return f"{read_type} by its format"
    if is_between_references(name) and not is_scalp(name, names):
        return "ears or reference, no scalp electrode"
    if declared == "eeg":
        return None
    if kind := _kind_by_word(name):
        return f"{kind} by its name"
    if is_scalp(name, names):
        return None
    unit = opened.units.get(name)
    if unit is not None and not is_blank(unit) and volts_per(unit) is None and _is_physical(unit):
        return f"its unit is {unit}"
    sleep = {"E1": "E3", "E2": "E3"}.get(electrode(name).split("-")[0])
    if sleep and sleep not in {electrode(other) for other in names}:
        return "EOG by its name (E1 and E2 of a sleep recording)"
    if unit is None or volts_per(unit) is None:
        return "no electrode by its name, and no unit of voltage"
    amplitude = amplitude_uv.get(name)
    if amplitude is None or not 0.5 <= amplitude <= 500:
        return f"no electrode by its name, and its amplitude is {amplitude or 0:.3g} uV"
    return None


def _kind_by_word(name: str) -> str | None:
    words = [word for word in re.split(r"[^A-Z0-9]+", name.upper()) if word]
    for word in [*words, "".join(words), *(word.rstrip("0123456789") for word in words if len(word) > 3)]:
        if word in _KIND_OF:
            return _KIND_OF[word]
    return None


_PHYSICAL = re.compile(r"%|deg.*|°?[cf]|celsius|bpm|.*/min|.*/s|hz|mmhg|cmh2o|[mu]?s|[mu]?siemens|ohm|k?ohm|[mc]?m|l|"
                       r"au|a\.u\.|boolean|bool|code|index|g|rad|pa|k?pa|lux|count", re.IGNORECASE)  # fmt: skip


def _is_physical(unit: str) -> bool:
    """Return whether a unit is known to measure something else than a voltage."""
    return _PHYSICAL.fullmatch(unit.strip()) is not None
