"""A recording with units never seen, taken in without touching what is shared.

Only the new pages learn: units are identified by their embeddings, as in POYO (Azabou et al. 2023, arXiv:2310.16046).
Every other weight is frozen, so no rounding, decay or momentum moves it; after an adaptation it is the same to the bit.
LoRA adds matrices beside the frozen ones where identities alone do not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from nbkit.neuro.neurofm.network.tokenizer import RecordingPage
from nbkit.neuro.neurofm.network.units import RecordingUnits
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.nn.lora import LoraReport, add_lora

LORA_TARGETS = ("tokenizer.key", "tokenizer.value", "q", "kv", "proj", "fc1", "fc2", "in_proj", "out_proj", "state")
"""Layers that take an adapter: keys and values of units, all attention, MLPs, and Mamba's projections."""


def add_recordings(module: Pretrainer, recordings: Sequence[RecordingUnits]) -> list[RecordingPage]:
    """Return a module pages for more recordings, and return them; all it had stays as it was.

    A new unit begins in the middle of the units there are, at its own mean rate.

    Parameters
    ----------
    module : Pretrainer
    recordings : sequence of RecordingUnits
        Such as ``SpikeData(paths, table=module.table).table.recordings`` holds at its end.

    Raises
    ------
    ValueError
        If the module has a recording of that name.
    """
    table = module.table.with_recordings(recordings)
    known = [page.unit_embed.detach() for page in module.model.book.pages]
    middle = sum(page.mean(dim=0) for page in known) / len(known)
    pages = module.model.book.add(recordings)
    for page in pages:
        # Not quite in the middle: units that begin alike and fire alike would never be told apart.
        page.unit_embed.data.mul_(0.3).add_(middle)
    module.table = module.model.table = table
    return pages


def identify_units(module: Pretrainer, data: Any) -> list[RecordingPage]:
    """Take in a data set's recordings, and leave their pages alone trainable.

    Afterwards any trainer fits the module: its optimizer holds the new pages and nothing else.

    Parameters
    ----------
    module : Pretrainer
        Pretrained.
    data : SpikeData
        Made with ``table=module.table``.
    """
    names = [recording.name for recording in module.table.recordings]
    new = [recording for recording in data.table.recordings if recording.name not in names]
    if not new:
        raise ValueError(
            f"All {len(names)} recordings of the data are known to the model; there is no unit to identify. Give "
            "recordings that were held out, with SpikeData(..., table=module.table)."
        )
    module.requires_grad_(False)
    pages = add_recordings(module, new)
    for page in pages:
        page.requires_grad_(True)
    _all_from_the_start(module)
    return pages


def add_lora_to(
    module: Pretrainer, r: int = 8, alpha: float = 16.0, targets: Sequence[str] = LORA_TARGETS
) -> LoraReport:
    """Put low-rank matrices beside the frozen layers, in place; pages that were trainable stay so.

    Parameters
    ----------
    module : Pretrainer
    r, alpha, targets
        See `nbkit.neuro.nn.lora.add_lora`.
    """
    open_pages = [page for page in module.model.book.pages if page.unit_embed.requires_grad]
    report = add_lora(module.model, targets, r, alpha)
    for page in open_pages:
        page.requires_grad_(True)
    _all_from_the_start(module)
    return report


def shared_weights(module: Pretrainer, but: Sequence[RecordingPage] = ()) -> dict[str, Tensor]:
    """Return copies of all weights that are in none of these pages, to compare them afterwards."""
    own = {id(weight) for page in but for weight in page.parameters()}
    return {name: weight.detach().clone() for name, weight in module.named_parameters() if id(weight) not in own}


def _all_from_the_start(module: Pretrainer) -> None:
    """An adaptation has no curriculum: its recordings are what there is, however noisy."""
    module.settings = replace(module.settings, curriculum_share=0.0)
