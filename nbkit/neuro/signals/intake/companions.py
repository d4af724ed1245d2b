"""Files that belong to a recording: the parts of BrainVision, EEGLAB and EGI recordings.

MNE reads whatever bytes a part has. A part that was cut short, or that is only a pointer to content that was not
fetched, would become signal.
"""

from __future__ import annotations

import re
from pathlib import Path

from nbkit.neuro.signals.intake.facts import RecordingError

BRAINVISION = (".vhdr", ".ahdr")
_NOT_FETCHED = (b"/annex/objects/", b"../.git/annex", b".git/annex/objects", b"version https://git-lfs")
_BYTES = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}


def check_content(path: Path) -> None:
    """Raise if a file does not exist, or is only a pointer to content that was not fetched.

    Raises
    ------
    FileNotFoundError
        With the command that fetches it.
    """
    if not path.is_symlink() and not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist any more. If the data set was moved, run the cell that lists it again."
        )
    if said := not_fetched(path):
        raise FileNotFoundError(said)


def not_fetched(path: Path) -> str:
    """Return in words that a file's content was not fetched, and how to fetch it; "" if it was."""
    how = f"Fetch it with 'datalad get {path.name}' or 'git annex get {path.name}' in its data set, then run again."
    if path.is_symlink() and not path.exists():
        return f"{path.name}: the content was not fetched (a link to {path.readlink()}). {how}"
    if path.is_file() and path.stat().st_size < 1024:
        first = path.read_bytes()
        if any(mark in first for mark in _NOT_FETCHED):
            return (
                f"{path.name}: the content was not fetched; the file holds only a pointer of {len(first)} bytes. {how}"
            )
    return ""


def check_companions(path: Path, suffix: str, said: list[str], accept_cut: bool) -> None:
    """Check the other files of a recording, and say what is missing of them.

    Parameters
    ----------
    path : Path
        The file that is opened.
    suffix : str
        Its suffix, in lower case.
    said : list of str
        Gets what is missing and can be missing.
    accept_cut : bool
        Use what is there of a file that is shorter than its header says.

    Raises
    ------
    FileNotFoundError
        If the content of one was not fetched.
    RecordingError
        If the signal is cut short.
    """
    if suffix in BRAINVISION:
        _check_brainvision(path, said, accept_cut)
    parts = [path.with_suffix(".fdt")] if suffix == ".set" else []
    for part in sorted(path.iterdir()) if suffix == ".mff" and path.is_dir() else parts:
        if fault := not_fetched(part):
            raise FileNotFoundError(fault)


def brainvision_units(path: Path) -> list[str]:
    """Return the unit of each channel as a BrainVision header spells it; µV, the format's own, where it says none."""
    lines = re.findall(r"^Ch(\d+)\s*=(.*)$", _channel_section(_text(path)), re.MULTILINE)
    found = [(int(number), line.split(",")) for number, line in lines]
    return [fields[3].strip() if len(fields) > 3 and fields[3].strip() else "µV" for _, fields in sorted(found)]


def _channel_section(text: str) -> str:
    return text.partition("[Channel Infos]")[2].partition("\n[")[0]


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return raw.decode("latin-1").replace("\r\n", "\n")


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*=(.*)$", text, re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else ""


def _check_brainvision(path: Path, said: list[str], accept_cut: bool) -> None:
    text = _text(path)
    data = path.with_name(_field(text, "DataFile").replace("$b", path.stem) or f"{path.stem}.eeg")
    if fault := not_fetched(data):
        raise FileNotFoundError(fault)
    wanted = _field(text, "MarkerFile").replace("$b", path.stem)
    markers = path.with_name(wanted) if wanted else path.with_suffix(".vmrk")
    if fault := not_fetched(markers):
        raise FileNotFoundError(fault)
    if data.is_file() and _field(text, "DataFormat").upper() in ("", "BINARY"):
        _check_length(path, data, markers, text, said, accept_cut)
    if wanted and not markers.is_file() and not path.with_suffix(".vmrk").is_file():
        said.append(f"{path.name} names the marker file {wanted}, which is missing: no events and no breaks are known.")
    elif not wanted:
        said.append(f"{path.name} names no marker file: no events and no breaks are known.")


def _check_length(path: Path, data: Path, markers: Path, text: str, said: list[str], accept_cut: bool) -> None:
    size = _BYTES.get(_field(text, "BinaryFormat").upper(), 2)
    channels, points = _field(text, "NumberOfChannels"), _field(text, "DataPoints")
    if not channels.isdecimal() or int(channels) < 1:
        return  # MNE says what is wrong with it
    wide = size * int(channels)
    frames, rest = divmod(data.stat().st_size, wide)
    every = _field(text, "SamplingInterval")  # us
    marks = re.findall(r"^Mk\d+\s*=[^,]*,[^,]*,(\d+)", _text(markers), re.MULTILINE) if markers.is_file() else []
    last = max(map(int, marks), default=0)
    cut = ""
    if points.isdecimal() and frames < int(points):
        cut = f"{data.name} is cut short: {path.name} promises {points} samples, and {frames} are there."
    elif rest:
        cut = f"{data.name} is cut short: it ends within a sample of its {channels} channels."
    elif every.isdecimal() and last > frames + 1e6 / max(1, int(every)):  # more than a second behind the end
        cut = f"{data.name} is cut short: it holds {frames} samples, and {markers.name} has a marker at {last}."
    if cut and not accept_cut:
        raise RecordingError(f"{cut} Fetch it again; to use what is there, set ACCEPT_CUT = True.")
    said += [cut] if cut else []
