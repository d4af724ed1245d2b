"""Pass weights from one training phase to the next.

Weights are matched by name; a weight is taken completely or not at all. Only weights that depend on the outputs or the
subjects may have other shapes.
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
    """Load a checkpoint of phase 1, 2 or 3 onto the CPU.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict) or "tribe" not in checkpoint:
        raise ValueError(f"{path} is no Tiny-TRIBE checkpoint (no 'tribe' entry); use one of the phases 62 to 64.")
    return checkpoint


def stimuli_seen(path: str | Path) -> frozenset[str]:
    """Return the names of the stimuli that a checkpoint was trained on; empty for one that does not say so."""
    return frozenset(read_checkpoint(path)["tribe"].get("stimuli", ()))


def take_weights(student: TinyTribe, path: str | Path) -> list[str]:
    """Load the weights of an earlier phase into a student.

    Parameters
    ----------
    student : TinyTribe
    path : str or Path
        Checkpoint of phase 1 (its trunk is loaded) or of phase 2 or 3 (all weights are loaded, except those for other
        outputs or subjects).

    Returns
    -------
    fresh : list of str
        Names of the weights that were not loaded.

    Raises
    ------
    ValueError
        If the sizes of the student differ.
    """
    checkpoint = read_checkpoint(path)
    return put_weights(student, checkpoint["state_dict"], checkpoint["tribe"]["student"]["tr"], str(path))


def put_weights(student: TinyTribe, state: dict[str, Tensor], tr: float, source: str) -> list[str]:
    """Load weights by name into a student (see `take_weights`).

    Parameters
    ----------
    student : TinyTribe
    state : dict of str to Tensor
    tr : float
        Step of the responses that the weights were trained on, in s.
    source : str
        Origin of the weights, for messages.

    Returns
    -------
    fresh : list of str
        Names of the weights that were not loaded.

    Raises
    ------
    ValueError
        If a shape differs that may not, or a weight of the trunk is missing.
    """
    given = {name.removeprefix("student."): value for name, value in state.items()}
    _older_residual(given)
    own = student.state_dict()
    wrong = [
        f"{name} {tuple(given[name].shape)} for {tuple(value.shape)}"
        for name, value in own.items()
        if name in given and given[name].shape != value.shape and name not in _MAY_DIFFER
    ]
    absent = [name for name in own if name.startswith("trunk.") and name not in given]
    if wrong or absent:
        raise ValueError(
            f"{source} holds a student of other sizes: {', '.join((wrong + absent)[:4])} ({len(wrong)} differ, "
            f"{len(absent)} are missing). Nothing was loaded; use the same preset in every phase."
        )
    taken = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
    student.load_state_dict(taken, strict=False)
    if "hrf.weight" in taken and abs(tr - student.hrf.tr) > 1e-6:
        wanted, student.hrf.tr = student.hrf.tr, tr
        student.hrf.move_to(wanted)
    return [name for name in own if name not in taken]


def load_student(path: str | Path) -> TinyTribe:
    """Load the student of a phase 2 or 3 checkpoint, in evaluation mode.

    Raises
    ------
    ValueError
        If the checkpoint holds no complete student.
    """
    checkpoint = read_checkpoint(path)
    state = {
        name.removeprefix("student."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("student.")
    }
    if checkpoint["tribe"].get("unfrozen"):
        raise ValueError(
            f"{path} was trained together with its backbones ({', '.join(checkpoint['tribe']['unfrozen'])}), so the "
            "features of 61_tribe_features are not its own. Its score on held-out stimuli is r_fmri of 64; to go on "
            "with 65 or 66, train 64 with unfreeze = None."
        )
    made = dict(checkpoint["tribe"]["student"])
    unknown = sorted(set(made) - {f.name for f in fields(StudentSettings)})
    if not state or unknown:
        reason = f"settings this version does not know: {', '.join(unknown)}" if unknown else "a trunk alone"
        raise ValueError(f"{path} holds {reason}; use a checkpoint of 63_tribe_distill or 64_tribe_fmri.")
    made["n_subjects"] = len(state["film.gamma"])
    _older_residual(state)
    student = TinyTribe(StudentSettings(**made))
    student.load_state_dict(state)
    return student.eval()


def _older_residual(state: dict[str, Tensor]) -> None:
    """Add the residual of a student from before it was a weight: it had the strength 1."""
    if "hrf.weight" in state and "hrf.residual" not in state:
        state["hrf.residual"] = torch.ones(len(state["hrf.weight"]))


def count_parameters(module: nn.Module) -> int:
    """Return the number of weights of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
