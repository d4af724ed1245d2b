"""Parameter groups that were added to an optimizer during the training.

A group is saved by the names of its parameters. Before the state of the optimizer is loaded, the groups are formed
again, so that a backbone added at epoch 1 goes on with its own moments and rate.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import BaseFinetuning

from nbkit.runtime.errors import UsageError

Groups = list[list[list[str]]]  # names by optimizer and group


def group_names(trainer: Any) -> Groups:
    """Return the names of the parameters in every group of every optimizer; empty where a parameter has no name."""
    names = {id(parameter): name for name, parameter in trainer.lightning_module.named_parameters()}
    return [
        [[names.get(id(parameter), "") for parameter in group["params"]] for group in optimizer.param_groups]
        for optimizer in trainer.optimizers
    ]


def form_groups(trainer: Any, saved: Groups, first: Groups) -> None:
    """Add to this session's optimizers the parameter groups of a checkpoint, whoever added them.

    Parameters
    ----------
    saved, first : list
        The groups at the save, and those that ``configure_optimizers`` gave in that session.

    Raises
    ------
    UsageError
        If ``configure_optimizers`` now gives other groups, or a parameter cannot be found by name.
    """
    now = group_names(trainer)
    for callback in trainer.callbacks:
        # it would form them once more, from those alone that it has added itself
        if isinstance(callback, BaseFinetuning):
            callback._restarting = False
    if now == saved:
        return
    if now != first:
        raise UsageError(
            f"configure_optimizers gives other parameter groups than at the checkpoint: {_difference(first, now)}. Its "
            "moments belong to other parameters. Build the optimizers as before, or start over with fresh=True. The "
            "checkpoint is untouched."
        )
    parameters = dict(trainer.lightning_module.named_parameters())
    for number, (optimizer, groups) in enumerate(zip(trainer.optimizers, saved, strict=True)):
        if now[number] == groups:
            continue
        unknown = sorted({name for group in groups for name in group if name not in parameters})
        if unknown:
            words = ", ".join(name or "one without a name" for name in unknown[:8])
            raise UsageError(
                f"Optimizer {number} had been given parameters during the training that the module does not have now: "
                f"{words}. Create them in __init__ or configure_model, so that every session has them, or start over "
                "with fresh=True. The checkpoint is untouched."
            )
        begun = optimizer.param_groups
        formed = []
        for index, names in enumerate(groups):
            # the options themselves are loaded with the state of the optimizer
            options = begun[index] if index < len(begun) else optimizer.defaults
            formed.append({**options, "params": [parameters[name] for name in names]})
        optimizer.param_groups[:] = formed


def parts_of(trainer: Any) -> list[Any]:
    """Return all optimizers and schedules."""
    return [*trainer.optimizers, *(config.scheduler for config in trainer.lr_scheduler_configs)]


def check_parts(trainer: Any, first: list[Any]) -> None:
    """Raise an error if there are other optimizers or schedules than ``configure_optimizers`` gave.

    Parameters
    ----------
    first : list
        Those that the session began with.
    """
    now = parts_of(trainer)
    if len(first) != len(now) or any(a is not b for a, b in zip(first, now, strict=True)):
        raise UsageError(
            f"An optimizer or schedule was replaced before step {trainer.global_step + 1}, and no later session could "
            "do that at the same place. Give all of them in configure_optimizers; add parameters with "
            "optimizer.add_param_group, and change rates in the groups. Earlier checkpoints are unchanged."
        )


def shared_groups(trainer: Any) -> list[tuple[Any, Any]]:
    """Return optimizers that an optimizer holds and that share its groups, which each loading of a state separates."""
    return [
        (inner, outer)
        for outer in trainer.optimizers
        for inner in vars(outer).values()
        if getattr(inner, "param_groups", None) is outer.param_groups
    ]


def share_again(pairs: list[tuple[Any, Any]]) -> None:
    """Let optimizers share their groups as before their state was loaded."""
    for inner, outer in pairs:
        inner.param_groups = outer.param_groups


def own_attributes(trainer: Any) -> list[dict[str, Any]]:
    """Return the plain attributes of every optimizer, which its state_dict leaves out, such as a count of its own."""
    plain = (type(None), bool, int, float, str)
    return [{k: v for k, v in vars(optimizer).items() if isinstance(v, plain)} for optimizer in trainer.optimizers]


def changed_own_attributes(trainer: Any, first: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those that differ from what the session began with."""
    return [
        {name: value for name, value in now.items() if name not in before or before[name] != value}
        for now, before in zip(own_attributes(trainer), first, strict=True)
    ]


def put_back_own_attributes(trainer: Any, saved: list[dict[str, Any]]) -> None:
    """Set the attributes that had changed at the save."""
    for optimizer, values in zip(trainer.optimizers, saved, strict=True):
        for name, value in values.items():
            setattr(optimizer, name, value)


def _difference(then: Groups, now: Groups) -> str:
    if len(then) != len(now):
        return f"{len(then)} optimizers -> {len(now)}"
    for number, (a, b) in enumerate(zip(then, now, strict=True)):
        if len(a) != len(b):
            return f"optimizer {number} had {len(a)} groups and has {len(b)}"
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            if x != y:
                at = next((i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), min(len(x), len(y)))
                before, after = (names[at] if at < len(names) else "nothing" for names in (x, y))
                return f"optimizer {number}, group {index}, parameter {at}: {before} -> {after}"
    return "nothing"
