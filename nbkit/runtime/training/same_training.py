"""Checks that a checkpoint belongs to the current training.

A training resumes only with the settings, the model and the number of processes of its checkpoint. Any difference is
refused with both values, unless the user accepts it.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import platform
import sys
from pathlib import Path
from traceback import walk_tb
from typing import Any

from nbkit.ground import __version__
from nbkit.runtime.errors import DamagedError, UsageError
from nbkit.runtime.ledger.records import shortened
from nbkit.runtime.training.sameness.described import hparams_of, is_folder

# settings that change neither the items nor their order
_FREE = {"max_steps", "num_workers", "workers", "prefetch_factor", "pin_memory", "persistent_workers", "save_every",
         "log_every_n_steps"}  # fmt: skip

_COUNTS_OR_SHARES = {"val_check_interval", "limit_train_batches", "limit_val_batches"}  # 1 is a batch, 1.0 all of them
_LATER = {"validation", "validated", "callback_settings"}  # compared when the training begins

# what restores a checkpoint, and whose code it runs by itself
_RESTORING = {
    "lightning.pytorch.trainer.connectors.checkpoint_connector": (
        "_restore_modules_and_callbacks",
        "restore_training_state",
        "restore",
    ),
    "nbkit.runtime.training.exact.exact_state": (
        "before_loading",
        "on_load_checkpoint",
        "on_fit_start",
        "put_back",
        "put_back_loops",
    ),
    "nbkit.runtime.training.loader": ("load_state_dict",),
}
_OURS = {"nbkit", "lightning", "torch", "torchmetrics", *sys.stdlib_module_names}


def settings_of(module: Any, data: Any) -> dict[str, dict[str, Any]]:
    """Return the settings and the hyperparameters of a module and its data, as a receipt records them."""
    hparams = {"module_hparams": hparams_of(module), "data_hparams": hparams_of(data)}
    return {"module": _settings_of(module), "data": _settings_of(data), **hparams}


def _settings_of(thing: Any) -> dict[str, Any]:
    """Return the settings of a module or DataModule as JSON values; empty if it has none."""
    settings = getattr(thing, "settings", None)
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return {}
    # JSON has no number that is not finite
    return json.loads(json.dumps(dataclasses.asdict(settings), default=_plain), parse_constant=str)


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
    before, now = receipt.settings, facts["settings"]
    lengths = (receipt.max_steps, facts["max_steps"])  # may grow, whatever name the settings give it
    changed = differences(before.get("module", {}), now["module"], lengths)
    # a receipt without these settings is of a version that did not compare them, or of data that had none
    changed += [f"data.{words}" for words in differences(before.get("data") or now["data"], now["data"], lengths)]
    for owner in ("module", "data"):
        then, present = before.get(f"{owner}_hparams"), now.get(f"{owner}_hparams")
        if then and present:
            changed += [f"{owner}.hparams.{words}" for words in differences(then, present, lengths)]
    before, now = trained_with(receipt), facts["training"]
    names = (before.keys() & now.keys()) - _LATER
    changed += differences({name: before[name] for name in names}, {name: now[name] for name in names})
    refuse_changes(receipt, changed, accept, say)
    if receipt.precision and receipt.precision != facts["precision"] and "precision" not in names:
        here = facts["precision"]
        say(f"The precision was {receipt.precision} and is {here} here: training continues, but not bit for bit")


def trained_with(receipt: Any) -> dict[str, Any]:
    """Return the parts of a training that its receipt names, in its present form or in that of an earlier version."""
    watched = receipt.monitor or {}
    known = {"monitor": watched.get("name"), "mode": watched.get("mode")}
    return {**{name: value for name, value in known.items() if value}, **receipt.training}


def check_training(receipt: Any, now: dict[str, Any], accept: bool, say: Any) -> None:
    """Raise an error if parts of a training differ from those that the receipt names, unless changes are accepted."""
    before = {name: receipt.training[name] for name in now if name in receipt.training}
    changed = differences(before, {name: now[name] for name in before})
    # the state of an optimizer or scheduler means nothing to one of another class
    fits = all(_classes(before[name]) == _classes(now[name]) for name in ("optimizers", "schedulers") if name in before)
    refuse_changes(receipt, changed, accept, say, fits)


def _classes(described: list[str]) -> list[str]:
    return [words.split(" ")[0].rpartition(".")[2] for words in described]


def differences(before: dict[str, Any], now: dict[str, Any], free: tuple[Any, Any] | None = None) -> list[str]:
    """Return what differs, each with both values; names and the one pair of values that may change are left out."""
    return [
        f"{name}: {before.get(name)!r} -> {now.get(name)!r}"
        for name in sorted(set(before) | set(now))
        if name.rpartition(".")[2] not in _FREE
        and not _equal(name, before.get(name), now.get(name))
        and (before.get(name), now.get(name)) != free
        and not (is_folder(before.get(name)) and is_folder(now.get(name)))
    ]


def _equal(name: str, before: Any, now: Any) -> bool:
    return bool(before == now) and (name not in _COUNTS_OR_SHARES or type(before) is type(now))


def refuse_changes(receipt: Any, changed: list[str], accept: bool, say: Any, fits: bool = True) -> None:
    """Raise an error that names what has changed, or print it if changes are accepted and the saved state fits."""
    if changed and not (accept and fits):
        ways = ("continue with the new ones (accept_changes=True), or ", "'accept' or ", "--accept-changes or ")
        further, notebook, terminal = ways if fits else ("", "", "")
        raise UsageError(
            f"The settings differ from those of the checkpoint at step {receipt.step}: {'; '.join(changed)}. Set them "
            f"back, or {further}start over beside the old checkpoints (fresh=True); in a notebook RESUME = {notebook}"
            f"'fresh', in a terminal {terminal}--fresh. Nothing was changed."
        )
    if changed:
        say(f"Resuming from step {receipt.step} with changed settings: {'; '.join(changed)}")


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
    """Load the weights of a checkpoint into a module that is trained no further, by its hooks as Lightning does."""
    try:
        module.configure_model()
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"], strict=module.strict_loading)
    except (RuntimeError, KeyError) as error:
        explain_mismatch(error, module, checkpoint, path)
        raise


def explain_mismatch(error: Exception, module: Any, checkpoint: dict[str, Any] | None, path: Path) -> None:
    """Raise an error in words, if an error came from restoring a checkpoint: of another model, or an odd one."""
    text = str(error)
    if "state_dict" not in text and "state dict" not in text and "optimizer" not in text.lower():
        _explain_odd(error, path)
        return
    there, here = (checkpoint or {}).get("state_dict", {}), module.state_dict()
    parts = []
    for words, names in (
        ("missing in the checkpoint", [n for n in here if n not in there]),
        ("not in this model", [n for n in there if n not in here]),
        ("with another shape", [n for n in here if n in there and _shape(here[n]) != _shape(there[n])]),
    ):
        if names:
            parts.append(f"{words}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}")
    what = "; ".join(parts) or text.splitlines()[0]
    raise UsageError(
        f"The checkpoint {path} belongs to another model or optimizer: {what}. Use the model that it was trained with, "
        "or start over beside it with fresh=True. The checkpoint is untouched."
    ) from error


def _explain_odd(error: Exception, path: Path) -> None:
    """Raise a DamagedError, if an error came from restoring a checkpoint and not from the user's code in between."""
    frames = [(frame.f_globals.get("__name__", ""), frame.f_code.co_name) for frame, _ in walk_tb(error.__traceback__)]
    first = next((i for i, (file, name) in enumerate(frames) if name in _RESTORING.get(file, ())), None)
    if first is not None and all(file.partition(".")[0] in _OURS for file, _ in frames[first:]):
        raise DamagedError(
            f"The checkpoint {path} cannot be put back ({type(error).__name__}: {shortened(str(error))}), although "
            "its bytes agree with its receipt. Nothing was trained, and it is untouched. Move it and its receipt away "
            "to resume from the one before, or start over beside it with fresh=True."
        ) from error


def _shape(value: Any) -> Any:
    return getattr(value, "shape", None)  # a module's extra state need not be a tensor
