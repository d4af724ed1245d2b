"""Adaptation of a pretrained model to recordings with new units.

Only the embeddings and mean rates of the new units are trained, as in POYO (Azabou et al. 2023, arXiv:2310.16046). All
other weights are frozen and stay bit-identical: weight decay and momentum cannot change them. LoRA can add trainable
low-rank matrices to the frozen layers where unit embeddings alone are not enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nbkit.neuro.neurofm.network.tokenizer import RecordingPage
from nbkit.neuro.neurofm.network.units import RecordingUnits
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.nn.lora import LoraReport, add_lora

LORA_TARGETS = ("tokenizer.key", "tokenizer.value", "q", "kv", "proj", "fc1", "fc2", "in_proj", "out_proj", "state")
"""Layers that get an adapter: keys and values of units, all attention, MLPs, and the projections of Mamba."""


def add_recordings(module: Pretrainer, recordings: Sequence[RecordingUnits]) -> list[RecordingPage]:
    """Add recordings to a module in place, without changing its existing weights.

    The embedding of a new unit starts near the mean of the existing embeddings, and its rate at its own mean rate.

    Parameters
    ----------
    module : Pretrainer
    recordings : sequence of RecordingUnits
        For example the last entries of ``SpikeData(paths, table=module.table).table.recordings``.

    Returns
    -------
    pages : list of RecordingPage
        Weights of the new recordings.

    Raises
    ------
    ValueError
        If the module already has a recording with one of these names.
    """
    table = module.table.with_recordings(recordings)
    known = [page.unit_embed.detach() for page in module.model.book.pages]
    middle = sum(page.mean(dim=0) for page in known) / len(known)
    pages = module.model.book.add(recordings)
    for page in pages:
        # Keep a part of the random start: units with equal embeddings and similar firing would stay identical.
        page.unit_embed.data.mul_(0.3).add_(middle)
    module.table = module.model.table = table
    return pages


def identify_units(module: Pretrainer, data: Any) -> list[RecordingPage]:
    """Add the new recordings of a data set and make only their weights trainable.

    Any trainer can then fit the module: its optimizer has the weights of the new recordings only.

    Parameters
    ----------
    module : Pretrainer
        Pretrained module; changed in place.
    data : SpikeData
        Created with ``table=module.table``.

    Returns
    -------
    pages : list of RecordingPage
        Weights of the new recordings.

    Raises
    ------
    ValueError
        If the module already has all recordings of the data.
    """
    names = [recording.name for recording in module.table.recordings]
    new = [recording for recording in data.table.recordings if recording.name not in names]
    if not new:
        raise ValueError(
            f"The model already has all recordings of the data (it has {len(names)}), so no unit is new. "
            "Give held-out recordings, loaded with SpikeData(..., table=module.table)."
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
    """Add trainable low-rank matrices to the frozen layers, in place.

    Weights of recordings that were trainable stay trainable.

    Parameters
    ----------
    module : Pretrainer
    r : int
    alpha : float
    targets : sequence of str
        See `nbkit.neuro.nn.lora.add_lora`.

    Returns
    -------
    report : LoraReport
    """
    open_pages = [page for page in module.model.book.pages if page.unit_embed.requires_grad]
    report = add_lora(module.model, targets, r, alpha)
    for page in open_pages:
        page.requires_grad_(True)
    _all_from_the_start(module)
    return report


def _all_from_the_start(module: Pretrainer) -> None:
    """Turn the curriculum off: an adaptation uses all of its recordings from the start, however noisy."""
    module.settings = replace(module.settings, curriculum_share=0.0)
