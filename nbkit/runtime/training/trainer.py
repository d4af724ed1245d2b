"""Lightning Trainer of a session, and its data in the order that the seed determines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import lightning
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from nbkit.runtime.training.loader import ResumableLoader, resumable_validation
from nbkit.runtime.training.loop_state import leave_stopping_to_us
from nbkit.runtime.training.protocol import TrainingSession, device_of
from nbkit.runtime.training.ranks.lightning_side import trainer_options
from nbkit.runtime.training.ranks.ranks import Ranks
from nbkit.runtime.training.sameness.contents import draw_contents


def make_trainer(
    session: TrainingSession,
    max_steps: int,
    options: dict[str, Any],
    callbacks: list[Any],
    loggers: list[Any],
    io: Any,
    ranks: Ranks,
) -> Any:
    """Return a Lightning Trainer with the device and precision of a session.

    Parameters
    ----------
    session : TrainingSession
    max_steps : int
        Step at which the training ends.
    options : dict
        Arguments for the Trainer; they take precedence over the session's device and precision.
    callbacks, loggers : list
    io : CheckpointIO
        Reads and writes the checkpoints.
    ranks : Ranks
        The processes that train together.

    Returns
    -------
    trainer : lightning.Trainer
    """
    options, device = dict(options), device_of(session)
    every = options.pop("val_check_interval")
    if every is not None:
        options["val_check_interval"] = every
        if isinstance(every, int):
            options.setdefault("check_val_every_n_epoch", None)
    options.setdefault("num_sanity_val_steps", 0)
    options.setdefault("accelerator", device.accelerator)
    options.setdefault("precision", device.precision)
    options.setdefault("devices", 1)
    if ranks.size > 1:
        options |= trainer_options(ranks.world, options.get("strategy", "auto"))
    plugins = options.pop("plugins", None) or []
    plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
    trainer = lightning.Trainer(
        max_steps=max_steps,
        max_epochs=-1,
        callbacks=callbacks,
        logger=loggers,
        plugins=[*plugins, io],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=str(session.folder),
        **options,
    )
    if ranks.size > 1:
        leave_stopping_to_us(trainer)
    return trainer


@contextlib.contextmanager
def derived_order(data: Any, saving: Any, seed: int, accept: bool, ranks: Ranks) -> Iterator[Any]:
    """Make a DataModule use the resumable loaders during a fit, and restore the user's object afterwards."""
    if not isinstance(data, LightningDataModule):
        data = _with_loader(data)
    before = {name: vars(data)[name] for name in ("train_dataloader", "val_dataloader") if name in vars(data)}
    give_train, give_val = data.train_dataloader, data.val_dataloader

    def train_dataloader() -> ResumableLoader:
        plain = give_train()
        contents: dict[str, Any] = {}
        why = "its DataModule has a state of its own, which it restores first"
        if type(data).state_dict is LightningDataModule.state_dict:
            contents, why = draw_contents(plain.dataset, seed) if isinstance(plain, DataLoader) else ({}, "")
        if why:
            saving.say(f"The content of the dataset is not compared from session to session: {why}.")
        saving.loader = ResumableLoader(
            plain, seed, rank=ranks.rank, world_size=ranks.size, accept_changes=accept, contents=contents,
            say=saving.say,
        )  # fmt: skip
        if type(data).state_dict is not LightningDataModule.state_dict:
            saving.loader.collate = {}  # it may have restored what this holds, too
        return saving.loader

    data.train_dataloader = train_dataloader
    overridden = type(data).val_dataloader is not LightningDataModule.val_dataloader or "val_dataloader" in vars(data)
    if overridden:
        ends = None if saving.bound is None or saving.bound.share is None else saving.bound.ends

        def val_dataloader() -> Any:
            found = resumable_validation(give_val(), seed, ends)
            if ends is not None and not isinstance(found, ResumableLoader):
                saving.say("Validations use the whole set: only one plain loader of it can be read in part.")
            return found

        data.val_dataloader = val_dataloader
    try:
        yield data
    finally:
        for name in ("train_dataloader", "val_dataloader"):
            vars(data).pop(name, None)
        vars(data).update(before)


def _with_loader(loader: Any) -> Any:
    data = LightningDataModule()
    data.train_dataloader = lambda: loader
    return data


def tear_down(trainer: Any, module: Any, data: Any) -> None:
    """Call the teardown hooks, which Lightning does not call when an exception ends its loops."""
    data.teardown("fit")
    for callback in trainer.callbacks:
        callback.teardown(trainer, module, "fit")
    module.teardown("fit")
