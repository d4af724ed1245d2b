"""Channel names that LaBraM has an embedding for.

There are two tables: the 128 names of the published weights, in their order, and the 129 sites of an EGI net. Each
channel of a recording must be in one table; unknown names are rejected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nbkit.neuro.signals.intake.ch_names import electrode
from nbkit.neuro.signals.windows.montages import Montage

TEN_TWENTY = tuple(
    "FP1 FPZ FP2 AF9 AF7 AF5 AF3 AF1 AFZ AF2 AF4 AF6 AF8 AF10 F9 F7 F5 F3 F1 FZ F2 F4 F6 F8 F10 FT9 FT7 FC5 FC3 FC1 "
    "FCZ FC2 FC4 FC6 FT8 FT10 T9 T7 C5 C3 C1 CZ C2 C4 C6 T8 T10 TP9 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 TP10 P9 P7 P5 "
    "P3 P1 PZ P2 P4 P6 P8 P10 PO9 PO7 PO5 PO3 PO1 POZ PO2 PO4 PO6 PO8 PO10 O1 OZ O2 O9 CB1 CB2 IZ O10 T3 T5 T4 T6 M1 "
    "M2 A1 A2 CFC1 CFC2 CFC3 CFC4 CFC5 CFC6 CFC7 CFC8 CCP1 CCP2 CCP3 CCP4 CCP5 CCP6 CCP7 CCP8 T1 T2 FTT9H TTP7H TPP9H "
    "FTT10H TPP8H TPP10H FP1-F7 F7-T7 T7-P7 P7-O1 FP2-F8 F8-T8 T8-P8 P8-O2".split()
)
EGI_129 = (*(f"E{number}" for number in range(1, 129)), "CZ")
TABLES = {"ten_twenty": TEN_TWENTY, "egi_129": EGI_129}


def find_table(ch_names: Sequence[str]) -> str:
    """Return the name of the first table that holds all of these channels.

    Raises
    ------
    ValueError
        If no table holds all of them.

    Examples
    --------
    >>> find_table(["Fc5.", "Cz.."]), find_table(["E7", "Cz"])
    ('ten_twenty', 'egi_129')
    """
    unknown = {}
    for name, table in TABLES.items():
        unknown[name] = [ch for ch in ch_names if electrode(ch) not in table]
        if not unknown[name]:
            return name
    nearest = min(unknown, key=lambda name: len(unknown[name]))
    raise ValueError(
        f"No table of channels has {', '.join(unknown[nearest][:8])} (of {len(ch_names)} channels; {nearest} has "
        f"the others). The tables are {', '.join(TABLES)}. Rename the channels or leave them out."
    )


def channel_rows(ch_names: Sequence[str], table: str) -> list[int]:
    """Return the row of each channel in the embedding of a table; row 0 is the class token.

    Raises
    ------
    ValueError
        If the table is unknown, a channel is not in it, or a channel is given twice.
    """
    if table not in TABLES:
        raise ValueError(f"There is no table of channels {table!r}; the tables are {', '.join(TABLES)}.")
    places = {name: row for row, name in enumerate(TABLES[table], 1)}
    plain = [electrode(name) for name in ch_names]
    strange = [name for name, p in zip(ch_names, plain, strict=True) if p not in places]
    if strange or len(set(plain)) < len(plain):
        wrong = f"does not know {', '.join(strange[:8])}" if strange else "is given a channel twice"
        raise ValueError(f"The table {table} {wrong}. It has {', '.join(TABLES[table][:4])} ... {TABLES[table][-1]}.")
    return [places[name] for name in plain]


def with_rows(batch: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    """Return a batch with the ``rows`` of its own channels in place of their names.

    Call it before the batch is moved to the accelerator. A batch that names no channels has those of the module.
    """
    if "ch_names" not in batch:
        return batch
    kept = {name: value for name, value in batch.items() if name != "ch_names"}
    return {**kept, "rows": torch.tensor(channel_rows(batch["ch_names"], table))}


def rows_of(batch: Mapping[str, Any], own: Tensor, table: str) -> Tensor:
    """Return the rows of a batch's channels, on the device of the module's ``own`` rows.

    Parameters
    ----------
    batch : mapping
        With ``rows`` or ``ch_names``; one that has neither is of the module's own channels.
    own : Tensor of shape (channels,)
        Rows of the module's channels.
    table : str
    """
    return with_rows(batch, table).get("rows", own).to(own.device)


def misfit(first: Montage, other: Montage) -> str:
    """Return why windows of a montage cannot be trained on together with those of the first; "" if they can."""
    table = find_table(first.ch_names)
    unknown = [name for name in other.ch_names if electrode(name) not in TABLES[table]]
    if unknown:
        return f"it has {', '.join(unknown[:4])}, which are not in the table of channels {table} of the others."
    if other.sfreq != first.sfreq:
        return f"its sampling rate is {other.sfreq:g} Hz, that of the others {first.sfreq:g} Hz."
    return ""
