"""Checks that a checkpoint belongs to the current training.

A training resumes only with the settings, the model and the number of processes of its checkpoint. Any difference is
refused with both values, unless the user accepts it.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import platform
from pathlib import Path
from typing import Any

from nbkit.ground import __version__
from nbkit.runtime.errors import UsageError


def settings_of(thing: Any) -> dict[str, Any]:
    """Return the settings of a module or DataModule as JSON values; empty if it has none."""
    settings = getattr(thing, "settings", None)
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return {}
    return json.loads(json.dumps(dataclasses.asdict(settings), default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    return value.item() if hasattr(value, "item") else str(value)


def versions() -> dict[str, str]:
    """Return the versions that a receipt records."""
    import lightning
    import torch

    python = platform.python_version()
    return {"torch": torch.__version__, "lightning": lightning.__version__, "nbkit": __version__, "python": python}


def check_same(receipt: Any, facts: dict[str, Any], accept: bool, say: Any) -> None:
    """Raise an error if the settings differ from the checkpoint, unless changes are accepted."""
    if receipt.world_size != facts["world_size"]:
        _check_processes(receipt, facts["world_size"], accept, say)
    before = {**receipt.settings.get("module", {}), **receipt.training}
    now = {**facts["settings"]["module"], **facts["training"]}
    changed = [
        f"{name}: {before.get(name)!r} -> {now.get(name)!r}"
        for name in sorted(set(before) | set(now))
        if name != "max_steps" and before.get(name) != now.get(name)
    ]
    if changed and not accept:
        raise UsageError(
            f"The settings differ from those of the checkpoint at step {receipt.step}: {'; '.join(changed)}. Set them "
            "back, or continue with the new ones (accept_changes=True), or start over beside the old checkpoints "
            "(fresh=True). Nothing was changed."
        )
    if changed:
        say(f"Resuming from step {receipt.step} with changed settings: {'; '.join(changed)}")
    if receipt.precision and receipt.precision != facts["precision"]:
        now = facts["precision"]
        say(f"The precision was {receipt.precision} and is {now} here: training continues, but not bit for bit")


def _check_processes(receipt: Any, now: int, accept: bool, say: Any) -> None:
    """Raise an error if the number of processes differs; if changes are accepted, print what they mean."""
    if not accept:
        joined = f" of {receipt.global_batch} samples" if receipt.global_batch else ""
        raise UsageError(
            f"The checkpoint of step {receipt.step} was trained by {receipt.world_size} process(es) and there are "
            f"{now} now. Sums would be computed in another order and the random draws would be distributed "
            "differently, so the result would not be the same bit for bit. Start as many processes as before, or "
            f"continue with accept_changes=True and a batch_size that keeps the total batch{joined}, so that every "
            "step sees the same samples, or start over with fresh=True. The checkpoint is untouched."
        )
    say(
        f"Resuming from step {receipt.step} with {now} process(es) instead of {receipt.world_size}: every step sees "
        "the same samples, but the order of sums and the random draws of each process (dropout, noise) differ, and the "
        "running means of the current epoch start again"
    )


def load_weights(module: Any, checkpoint: dict[str, Any], path: Path) -> None:
    """Load the weights of a checkpoint into a module that is not trained any further."""
    try:
        module.configure_model()
        module.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, KeyError) as error:
        explain_mismatch(error, module, checkpoint, path)
        raise


def explain_mismatch(error: Exception, module: Any, checkpoint: dict[str, Any] | None, path: Path) -> None:
    """Raise a UsageError that lists the keys, if an error came from restoring a checkpoint of another model."""
    text = str(error)
    if "state_dict" not in text and "state dict" not in text and "optimizer" not in text.lower():
        return
    there, here = (checkpoint or {}).get("state_dict", {}), module.state_dict()
    parts = []
    for words, names in (
        ("missing in the checkpoint", [n for n in here if n not in there]),
        ("not in this model", [n for n in there if n not in here]),
        ("with another shape", [n for n in here if n in there and here[n].shape != there[n].shape]),
    ):
        if names:
            parts.append(f"{words}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}")
    what = "; ".join(parts) or text.splitlines()[0]
    raise UsageError(
        f"The checkpoint {path} belongs to another model or optimizer: {what}. Use the model that it was trained with, "
        "or start over beside it with fresh=True. The checkpoint is untouched."
    ) from error
