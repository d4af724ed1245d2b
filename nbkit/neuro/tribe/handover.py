"""What one phase hands to the next: weights by name, and what was left fresh said by name.

A weight is taken whole or not at all. Only what depends on the outputs or the subjects may differ between phases.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nbkit.neuro.tribe.student.student import StudentSettings, TinyTribe

_MAY_DIFFER = ("vertices.weight", "film.gamma", "film.beta")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of phase 1, 2 or 3.

    Raises
    ------
    ValueError
        If the file is of something else.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict) or "tribe" not in checkpoint:
        raise ValueError(f"{path} is no Tiny-TRIBE checkpoint (no 'tribe' entry); give one of the phases 62 to 64.")
    return checkpoint


def take_weights(student: TinyTribe, path: str | Path) -> list[str]:
    """Put an earlier phase's weights into a student, and give the names of those that stayed fresh.

    Parameters
    ----------
    student : TinyTribe
    path : path
        Of phase 1 (the trunk is taken) or of phase 2 or 3 (all is, but maps to other outputs or other subjects).

    Raises
    ------
    ValueError
        If its sizes are other ones.
    """
    checkpoint = read_checkpoint(path)
    return put_weights(student, checkpoint["state_dict"], checkpoint["tribe"]["student"]["tr"], str(path))


def put_weights(student: TinyTribe, state: dict[str, Tensor], tr: float, source: str) -> list[str]:
    """Put weights by name into a student (see `take_weights`); ``tr`` is the step in s that its responses lie on."""
    given = {name.removeprefix("student."): value for name, value in state.items()}
    own = student.state_dict()
    wrong = [
        f"{name} {tuple(given[name].shape)} for {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape and name not in _MAY_DIFFER
    ]
    absent = [name for name in own if name.startswith("trunk.") and name not in given]
    if wrong or absent:
        raise ValueError(
            f"{source} is of a student of other sizes: {', '.join((wrong + absent)[:4])} ({len(wrong)} differ, "
            f"{len(absent)} are missing). Nothing was taken; use the same preset in every phase."
        )
    taken = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
    student.load_state_dict(taken, strict=False)
    if "hrf.weight" in taken and abs(tr - student.hrf.tr) > 1e-6:
        wanted, student.hrf.tr = student.hrf.tr, tr
        student.hrf.move_to(wanted)
    return [name for name in own if name not in taken]


def load_student(path: str | Path) -> TinyTribe:
    """Build the student that a checkpoint of phase 2 or 3 holds, in eval mode.

    Raises
    ------
    ValueError
        If the checkpoint holds no whole student.
    """
    checkpoint = read_checkpoint(path)
    state = {
        name.removeprefix("student."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("student.")
    }
    made = dict(checkpoint["tribe"]["student"])
    unknown = sorted(set(made) - {f.name for f in fields(StudentSettings)})
    if not state or unknown:
        reason = f"settings this version does not know: {', '.join(unknown)}" if unknown else "a trunk alone"
        raise ValueError(f"{path} holds {reason}; give a checkpoint of 63_tribe_distill or 64_tribe_fmri.")
    made["n_subjects"] = len(state["film.gamma"])
    student = TinyTribe(StudentSettings(**made))
    student.load_state_dict(state)
    return student.eval()


def count_parameters(module: nn.Module) -> int:
    """Return the number of a module's weights."""
    return sum(parameter.numel() for parameter in module.parameters())
