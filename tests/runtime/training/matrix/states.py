"""What must be the same at the end of a training, and where two such states differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.runtime.training.matrix.factors import CLOCKS
from tests.runtime.training.training_support import checkpoint_of

_CALLBACKS_CLOCKS = ("time_elapsed",)


def state_of(cell: Any, folder: Path, module: Any) -> dict[str, Any]:
    """Return everything that must be the same: the last checkpoint, and the module as it is left if one is given."""
    saved = checkpoint_of(folder)
    history, metrics = saved["nbkit"].pop("history"), saved["nbkit"].pop("metrics")
    names = history["names"]
    rows = [
        (step, names[which], value)
        for step, which, value in zip(
            history["step"].tolist(), history["name"].tolist(), history["value"].tolist(), strict=True
        )
    ]
    if cell.callback in CLOCKS:
        rows = [row for row in rows if row[1].partition("_")[0] in ("loss", "val", "epochs", "error", "mean", "far")]
        metrics = {}
    held = metrics.get("held", {}).get("entries", {})
    for name in [name for name, entry in held.items() if _is_untouched(entry[-1])]:
        del held[name]  # a state that was reset is kept by a session that found it in use, and not by one that did not
    if "metrics" in metrics.get("held", {}):
        metrics["held"]["metrics"] = [name for name in metrics["held"]["metrics"] if name in held]
    saved["nbkit"].pop("threads", None)
    for name in ("pytorch-lightning_version", "hparams_name", "datamodule_hparams_name"):
        saved.pop(name, None)
    tree = {**saved, "history": rows, "metrics": metrics, "module": dict(module.state_dict()) if module else None}
    return {name: value for name, value in tree.items() if name != "loops"}


def _is_untouched(value: Any) -> bool:
    """Return whether a held value is a tensor of zeros or an empty list, as a metric begins with and resets to."""
    if isinstance(value, list) and value[:1] in (["list"], ["deque"], ["dict"]) and len(value) == 2:
        return True
    kept = value[1] if isinstance(value, list) and value[:1] == ["tensor"] else None
    return isinstance(kept, torch.Tensor) and not kept.any()


def first_difference(a: Any, b: Any, path: str = "") -> str | None:
    """Return the first place where two trees differ, in words; None if they are the same bit for bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        return None if same else f"{path}: {_short(a)} and {_short(b)}"
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            if key in _CALLBACKS_CLOCKS:
                continue
            if key not in a or key not in b:
                return f"{path}.{key} is only {'there' if key in a else 'here'}"
            if found := first_difference(a[key], b[key], f"{path}.{key}"):
                return found
        return None
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            if found := first_difference(x, y, f"{path}[{i}]"):
                return found
        return None if len(a) == len(b) else f"{path}: {len(a)} and {len(b)} entries"
    same = type(a) is type(b) and (repr(a) == repr(b))
    return None if same else f"{path}: {_short(a)} and {_short(b)}"


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) < 60 else text[:57] + "..."
