"""Load the weights of one phase in the next, completely or with an error.

Every load reports how many weights matched. A name or shape that does not fit raises an error; no weight silently
stays at its random start.
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
    """Number of a module's weights that a file contained."""

    matched: int
    total: int
    source: str
    exposure: str = ""  # whether test subjects were in pretraining, see `signals.seen`

    def __str__(self) -> str:
        said = f"{self.matched} of {self.total} weights from {self.source}"
        return f"{said}; {self.exposure}" if self.exposure else said


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> LoadReport:
    """Load weights into a module, requiring exactly its names and shapes.

    Returns
    -------
    report : LoadReport
        Number of matching weights, and the name of the file.

    Raises
    ------
    ValueError
        If any weight is missing, left over or of another shape; the module is not changed then.
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
    """Load a checkpoint and return the description of its module and its weights.

    The description is stored under the name of the kind, such as ``labram_pretrain``: a dict with ``settings`` and
    the like, from which the module can be built again.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        If the file holds another kind of model.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}; run the phase that writes it ({kind}) first.")
    checkpoint = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(checkpoint, dict) or kind not in checkpoint:
        named = checkpoint.items() if isinstance(checkpoint, dict) else ()
        kinds = sorted(name for name, value in named if isinstance(value, dict) and {"settings", "sfreq"} & set(value))
        found = ", ".join(kinds) or "no model of ours"
        raise ValueError(f"{path} holds {found}, not {kind}; pass a checkpoint of that phase.")
    return checkpoint[kind], checkpoint["state_dict"]


def settings_from(cls: type[T], made: Mapping[str, Any], path: str | Path) -> T:
    """Return the settings in a checkpoint's description as an instance of ``cls``.

    Raises
    ------
    ValueError
        If the checkpoint has a setting that this version of nbkit does not have.
    """
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(made["settings"]) - known)
    if unknown:
        raise ValueError(
            f"{path} has settings that this version does not know: {', '.join(unknown)}. Use the nbkit version that "
            "wrote it."
        )
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in made["settings"].items()})


def part_of(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names begin with a prefix, with the prefix removed."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
