"""Weights from one phase to the next: all of them, or none and a reason.

Every load says how many of how many weights were matched; a name or a shape that does not fit is an error, never left
at its random start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class LoadReport:
    """How many of a module's weights a file held."""

    matched: int
    total: int
    source: str

    def __str__(self) -> str:
        return f"{self.matched} of {self.total} weights from {self.source}"


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> LoadReport:
    """Load weights whose names and shapes are exactly the module's.

    Raises
    ------
    ValueError
        If any is missing, left over or of another shape; the module is then unchanged.
    """
    own = module.state_dict()
    missing = sorted(set(own) - set(weights))
    extra = sorted(set(weights) - set(own))
    shapes = [
        f"{name}: {tuple(weights[name].shape)} in the file, {tuple(value.shape)} here"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    matched = len(own) - len(missing) - len(shapes)
    if missing or extra or shapes:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{' ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("left over", extra), ("of another shape", shapes))
            if names
        ]
        raise ValueError(
            f"{Path(source).name} matches {matched} of {len(own)} weights: {'; '.join(parts)}. Nothing was loaded. "
            "Build the model with the settings that the file was trained with."
        )
    module.load_state_dict(weights)
    return LoadReport(matched, len(own), Path(source).name)


def held(path: str | Path, kind: str, device: str = "cpu") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a checkpoint of a kind says of its module, and its weights.

    A module says what it was made of under its kind's name, such as ``labram_pretrain``: a dict with ``settings``
    and the like, from which it can be built again.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If it holds another kind of model.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}; run the phase that makes it ({kind}) first.")
    checkpoint = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(checkpoint, dict) or kind not in checkpoint:
        named = checkpoint.items() if isinstance(checkpoint, dict) else ()
        kinds = sorted(name for name, value in named if isinstance(value, dict) and "settings" in value)
        found = ", ".join(kinds) or "no model of ours"
        raise ValueError(f"{path} holds {found}, not {kind}; give a checkpoint of that phase.")
    return checkpoint[kind], checkpoint["state_dict"]


def settings_from(cls: type[T], made: Mapping[str, Any], path: str | Path) -> T:
    """Return the settings a checkpoint holds.

    Raises
    ------
    ValueError
        If it names a setting that this version does not have.
    """
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(made["settings"]) - known)
    if unknown:
        raise ValueError(f"{path} has settings this version does not know: {', '.join(unknown)}.")
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in made["settings"].items()})


def part_of(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights under a name, without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
