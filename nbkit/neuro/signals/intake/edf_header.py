"""Headers of EDF and BDF files: what MNE does not tell about them.

MNE joins the parts of an interrupted recording (EDF+D), and reads a file that was cut short as far as it goes. The
header has what is needed to see both, and the unit of each channel as it was written. See https://www.edfplus.info.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
_FIELDS = (("label", 16), ("transducer", 80), ("unit", 8), ("p_min", 8), ("p_max", 8), ("d_min", 8), ("d_max", 8),
           ("filters", 80), ("samples", 8))  # fmt: skip
_ONSET = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15[^\x14]*)?\x14\x14")


@dataclass(frozen=True)
class EDFHeader:
    """Header of an EDF or BDF file.

    Parameters
    ----------
    labels, units : tuple of str
        Of every signal, annotations included.
    samples : tuple of int
        Samples of each signal in a record.
    records : int
        Number of records that the header promises; -1 if it was never filled in.
    record_s : float
        Length of a record, in s.
    held : float
        Number of records that the file holds.
    interrupted : bool
        Whether the file says that its records do not follow each other without gaps (EDF+D).
    size : int
        Bytes of a sample.
    header_bytes : int
    """

    labels: tuple[str, ...]
    units: tuple[str, ...]
    samples: tuple[int, ...]
    records: int
    record_s: float
    held: float
    interrupted: bool
    size: int
    header_bytes: int

    @property
    def only_annotations(self) -> bool:
        """Whether there is no signal beside annotations, as in a hypnogram."""
        return all(label in ANNOTATIONS for label in self.labels)

    @property
    def is_cut(self) -> bool:
        """Whether the file is shorter than its header says."""
        return self.records >= 0 and self.held < self.records


def read_header(path: str | Path) -> EDFHeader:
    """Return the header of an EDF or BDF file.

    Raises
    ------
    ValueError
        If the file does not have such a header.
    """
    path = Path(path)
    with path.open("rb") as file:
        first = file.read(256)
        if len(first) < 256 or not (first[:1] == b"0" or first[:8] == b"\xffBIOSEMI"):
            raise ValueError(f"{path.name} is not an EDF or BDF file: its first bytes are {first[:8]!r}.")
        try:
            count, bytes_said = int(first[252:256]), int(first[184:192])
            records, record_s = int(first[236:244]), float(first[244:252])
            table = file.read(256 * count)
            fields, place = {}, 0
            for name, width in _FIELDS:
                values = [table[place + width * n : place + width * (n + 1)] for n in range(count)]
                fields[name], place = [value.decode("latin-1").strip() for value in values], place + width * count
            samples = tuple(int(value) for value in fields["samples"])
        except ValueError as error:
            raise ValueError(f"{path.name} has a damaged EDF header ({error}).") from None
    if count < 1 or min(samples) < 0 or not 0 <= record_s < float("inf"):
        raise ValueError(f"{path.name} has a damaged EDF header: {count} signals, records of {record_s} s.")
    size = 3 if first[:1] == b"\xff" else 2
    wide = size * sum(samples)
    held = max(0, path.stat().st_size - bytes_said) / wide if wide else 0.0
    return EDFHeader(
        tuple(fields["label"]), tuple(fields["unit"]), samples, records, record_s, held,
        first[192:197] in (b"EDF+D", b"BDF+D"), size, bytes_said,
    )  # fmt: skip


def record_onsets(path: str | Path, header: EDFHeader) -> np.ndarray:
    """Return the start of each whole record of an interrupted file, in s from the start of the recording.

    Raises
    ------
    ValueError
        If a record does not say when it begins.
    """
    if not any(label in ANNOTATIONS for label in header.labels):
        raise ValueError(f"{Path(path).name} says that it is interrupted (EDF+D) and has no annotations to say where.")
    at = next(n for n, label in enumerate(header.labels) if label in ANNOTATIONS)
    wide, skip = header.size * sum(header.samples), header.size * sum(header.samples[:at])
    onsets = []
    with Path(path).open("rb") as file:
        for record in range(int(header.held)):
            file.seek(header.header_bytes + record * wide + skip)
            found = _ONSET.match(file.read(header.size * header.samples[at]))
            if found is None:
                raise ValueError(f"{Path(path).name}: record {record + 1} does not say when it begins.")
            onsets.append(float(found[1]))
    return np.array(onsets)
