"""Train a Lightning module across sessions that die.

A training is one long run cut into sessions. Wherever a session ends, the next one goes on from the newest whole
checkpoint with the very samples, order and random numbers that an uninterrupted run would have had there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbkit.runtime.durations import parse_duration, show_duration
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.same_training import check_same, explain_mismatch, load_weights, settings_of, versions

_OURS = {
    "max_epochs": "the length of a training is max_steps",
    "min_epochs": "the length of a training is max_steps",
    "min_steps": "the length of a training is max_steps",
    "max_time": "the session's limit ends a training, and counts this session only",
    "enable_checkpointing": "nbkit writes the checkpoints",
    "enable_progress_bar": "nbkit shows the progress",
    "enable_model_summary": "nbkit prints its own summary",
    "use_distributed_sampler": "nbkit cuts the order for several devices",
    "reload_dataloaders_every_n_epochs": "a place in reloaded data could not be found again",
    "overfit_batches": "it replaces the order that nbkit derives; give a small dataset instead",
    "fast_dev_run": "open the session with smoke=True instead",
    "barebones": "nbkit's callbacks are needed",
    "logger": "give loggers=[...]",
    "default_root_dir": "files go to the session's folder",
    "ckpt_path": "nbkit finds the checkpoint",
    "num_nodes": "a session is one machine",
}
_NOISE = ("does not have many workers", "number of training batches", "litlogger", "Trainer already configured with")


@dataclass(frozen=True)
class FitReport:
    """Say how far a training is and what this session did.

    Attributes
    ----------
    step, max_steps : int
        Optimizer steps done, and to do in all.
    reason : str
        Why it ended: ``complete``, ``wall``, ``SIGTERM``, ``SIGINT`` or what asked for the stop.
    resumed_from : int or None
        The step this session began from; None where it began at the start.
    steps_this_session : int
    seconds_training, seconds_total : float
        In steps, validations and waiting for data; in `fit` altogether.
    startup : dict
        Seconds from the start of the process to the first step, by part.
    saves : int
        Checkpoints this session took.
    seconds_stalled : float
        How long training waited for them.
    history : list of dict
        All metric rows logged so far, in every session: ``{"step": step, name: value, ...}``.
    """

    step: int
    max_steps: int
    reason: str
    resumed_from: int | None
    steps_this_session: int = 0
    seconds_training: float = 0.0
    seconds_total: float = 0.0
    startup: dict[str, float] = field(default_factory=dict)
    saves: int = 0
    seconds_stalled: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def complete(self) -> bool:
        return self.reason == "complete"


def fit(
    session: Any,
    module: Any,
    data: Any,
    *,
    max_steps: int | None = None,
    monitor: str | None = None,
    mode: str = "min",
    save_every: str | float | None = "5min",
    save_each_epoch: bool = False,
    val_check_interval: int | float | None = None,
    accumulate_grad_batches: int = 1,
    gradient_clip_val: float | None = None,
    deterministic: bool | str | None = None,
    log_every_n_steps: int = 10,
    fresh: bool = False,
    accept_changes: bool = False,
    callbacks: Sequence[Any] = (),
    loggers: Sequence[Any] = (),
    **trainer_options: Any,
) -> FitReport:
    """Train from where the last session stopped until done, or until the wall.

    Afterwards the module holds the trained weights, whatever ended the training.

    Parameters
    ----------
    session : Session
        Of it are used slug, folder, store, outbox, budget, seed, device, say and journal.
    module : LightningModule
        Its ``settings`` (a frozen dataclass), where it has them, are kept in the receipt and compared on resuming.
    data : LightningDataModule or DataLoader
        Gives one plain torch DataLoader for training; nbkit puts its own order and place into it.
    max_steps : int or None
        Optimizer steps in all sessions together; None takes ``module.settings.max_steps``. It may grow later.
    monitor, mode : str
        A validation metric whose best state is kept beside the two newest; ``"min"`` or ``"max"`` is best.
    save_every : str, float or None
        Time between checkpoints, such as ``"5min"``: as much is lost at a kill without warning.
    save_each_epoch : bool
        Save at the end of every epoch, too.
    val_check_interval : int, float or None
        Batches between validations, counted over all epochs; a fraction is one of an epoch; None validates once an
        epoch.
    deterministic : bool, "warn" or None
        As Lightning's. On a GPU, bits repeat only with True; samples, order and augmentation always do.
    fresh : bool
        Begin again beside the earlier checkpoints, which stay. Say it in one session only.
    accept_changes : bool
        Go on although the settings or the data differ from the checkpoint's.
    callbacks, loggers : sequences
        More of Lightning's.
    **trainer_options
        Passed on to ``lightning.Trainer``.

    Raises
    ------
    UsageError
        For options, data or settings that cannot be trained or resumed with.
    DamagedError
        Where there are checkpoints and none is whole.
    """
    began = time.monotonic()
    _check_options(trainer_options, mode)
    total = _max_steps(module, max_steps)
    import lightning  # noqa: F401  its import is measured

    from nbkit.runtime.checkpointing import Checkpointing, PlannedStop, SnapshotIO
    from nbkit.runtime.generations import Generations, load_checkpoint
    from nbkit.runtime.history import History
    from nbkit.runtime.signals import StopSignals
    from nbkit.runtime.training_progress import Startup, TrainingProgress

    imported = time.monotonic()
    training = {
        "seed": session.seed,
        "accumulate_grad_batches": accumulate_grad_batches,
        "gradient_clip_val": gradient_clip_val,
    }
    facts = {
        "max_steps": total,
        "settings": {"module": settings_of(module), "data": settings_of(data)},
        "training": training,
        "precision": str(trainer_options.get("precision", session.device.precision)),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "versions": versions(),
        "session": str(getattr(session, "id", "")),
    }
    generations = Generations(
        session.slug, session.folder, session.store, session.outbox, session.say, session.journal
    ).open(fresh=fresh)
    found = None if fresh else generations.newest()
    checkpoint = None
    if found:
        receipt, path = found
        checkpoint = load_checkpoint(path, receipt)
        check_same(receipt, facts, accept_changes, session.say)
        generations.send_left_over()
        if receipt.step >= total or (receipt.complete and receipt.max_steps >= total):
            load_weights(module, checkpoint, path)
            session.say(f"{session.slug} is complete: {receipt.step} of {total} steps; nothing was trained.")
            history = History()
            history.load_state_dict(checkpoint["nbkit"]["history"])
            seconds = time.monotonic() - began
            return FitReport(
                receipt.step, total, "complete", receipt.step, seconds_total=seconds, history=list(history.rows())
            )
    stated = time.monotonic()

    history = History()
    io = SnapshotIO((path, checkpoint) if found else None)
    signals = StopSignals(session.budget.request_stop, session.say)
    saving = Checkpointing(
        generations,
        io,
        history,
        session.budget,
        signals,
        session.seed,
        save_every=parse_duration(save_every),
        save_each_epoch=save_each_epoch,
        monitor=monitor,
        mode=mode,
        facts=facts,
        say=session.say,
        journal=session.journal,
    )
    progress = TrainingProgress(session.slug, total, session.budget)
    startup = Startup(saving.marks, {"fit": began, "lightning": imported, "state": stated}, session.say)
    reason = "complete"
    with _quiet(), _derived_order(data, saving, session.seed, accept_changes) as datamodule, signals:
        trainer = _trainer(
            session,
            total,
            {
                "val_check_interval": val_check_interval,
                "accumulate_grad_batches": accumulate_grad_batches,
                "gradient_clip_val": gradient_clip_val,
                "deterministic": deterministic,
                "log_every_n_steps": log_every_n_steps,
                **trainer_options,
            },
            callbacks=[saving, startup, progress, *callbacks],
            loggers=[history, *loggers],
            io=io,
        )
        try:
            trainer.fit(module, datamodule=datamodule, ckpt_path=str(path) if found else None)
        except PlannedStop as stop:
            reason = str(stop)
            _tear_down(trainer, module, datamodule)
        except SystemExit:
            if signals.interrupted:  # Lightning makes an exit of a Ctrl+C; a notebook's kernel must outlive it
                raise KeyboardInterrupt from None
            if session.budget.stop_reason is None:
                raise
            reason = session.budget.stop_reason  # SIGTERM before the first batch: nothing new to save
        except (RuntimeError, ValueError, KeyError) as error:
            if found and "first_batch" not in saving.marks and not isinstance(error, NbkitError):
                explain_mismatch(error, module, checkpoint, path)
            raise
        finally:
            progress.close()
            saving.writer.wait()
            if saving.loader is not None:
                saving.loader.end()
    report = FitReport(
        step=trainer.global_step,
        max_steps=total,
        reason=reason,
        resumed_from=receipt.step if found else None,
        steps_this_session=saving.steps_this_session,
        seconds_training=saving.seconds_training,
        seconds_total=time.monotonic() - began,
        startup=startup.parts,
        saves=saving.saves,
        seconds_stalled=saving.stalled,
        history=list(history.rows()),
    )
    _say_end(session, report)
    return report


# -- before ----------------------------------------------------------------------------------------------------------


def _check_options(options: dict[str, Any], mode: str) -> None:
    for name in options:
        if name in _OURS:
            raise UsageError(f"{name} is not an option of fit: {_OURS[name]}. Nothing was trained.")
    devices = options.get("devices", 1)
    if devices not in (1, "1") and "WORLD_SIZE" not in os.environ:
        raise UsageError(
            f"devices={devices!r} is more than fit can resume from a notebook: it trains on one device. Start the "
            "processes with torchrun to use several. Nothing was trained."
        )
    if mode not in ("min", "max"):
        raise UsageError(f"mode {mode!r} is not one; allowed are 'min' and 'max'. Nothing was trained.")


def _max_steps(module: Any, given: int | None) -> int:
    value = given if given is not None else getattr(getattr(module, "settings", None), "max_steps", None)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(
            f"max_steps is {value!r}; it is the length of the whole training in optimizer steps, a whole number from "
            "1. Give it to fit or as a field of module.settings. Nothing was trained."
        )
    return value


# -- during ----------------------------------------------------------------------------------------------------------


def _trainer(
    session: Any, max_steps: int, options: dict[str, Any], callbacks: list[Any], loggers: list[Any], io: Any
) -> Any:
    import lightning

    every = options.pop("val_check_interval")
    if every is not None:
        options["val_check_interval"] = every
        if isinstance(every, int):
            options.setdefault("check_val_every_n_epoch", None)
    options.setdefault("num_sanity_val_steps", 0)
    options.setdefault("accelerator", session.device.accelerator)
    options.setdefault("precision", session.device.precision)
    options.setdefault("devices", 1)
    plugins = options.pop("plugins", None) or []
    plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
    return lightning.Trainer(
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


@contextlib.contextmanager
def _derived_order(data: Any, saving: Any, seed: int, accept: bool) -> Iterator[Any]:
    """Put the derived order into a DataModule for the length of a fit; the user's object stays what it was."""
    from lightning.pytorch import LightningDataModule

    from nbkit.runtime.loader import ResumableLoader, resumable_validation

    if not isinstance(data, LightningDataModule):
        data = _with_loader(data)
    before = {name: vars(data)[name] for name in ("train_dataloader", "val_dataloader") if name in vars(data)}
    give_train, give_val = data.train_dataloader, data.val_dataloader

    def train_dataloader() -> ResumableLoader:
        rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        saving.loader = ResumableLoader(give_train(), seed, rank=rank, world_size=size, accept_changes=accept)
        return saving.loader

    data.train_dataloader = train_dataloader
    overridden = type(data).val_dataloader is not LightningDataModule.val_dataloader or "val_dataloader" in vars(data)
    if overridden:
        data.val_dataloader = lambda: resumable_validation(give_val(), seed)
    try:
        yield data
    finally:
        for name in ("train_dataloader", "val_dataloader"):
            vars(data).pop(name, None)
        vars(data).update(before)


def _with_loader(loader: Any) -> Any:
    from lightning.pytorch import LightningDataModule

    data = LightningDataModule()
    data.train_dataloader = lambda: loader
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advertisements and notes of no use here out of the output; warnings that matter stay."""
    names = ("lightning", "lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for text in _NOISE:
            warnings.filterwarnings("ignore", message=f".*{text}")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _tear_down(trainer: Any, module: Any, data: Any) -> None:
    """Call the teardown hooks that Lightning leaves out when its loops are left by an exception."""
    data.teardown("fit")
    for callback in trainer.callbacks:
        callback.teardown(trainer, module, "fit")
    module.teardown("fit")


# -- after -----------------------------------------------------------------------------------------------------------


def _say_end(session: Any, report: FitReport) -> None:
    done = f"{report.step} of {report.max_steps} steps, {report.steps_this_session} in this session"
    if report.complete:
        session.say(f"{session.slug} is complete: {done}.")
    else:
        left = report.max_steps - report.step
        rate = report.seconds_training / report.steps_this_session if report.steps_this_session else None
        about = f", about {show_duration(left * rate)}" if rate else ""
        session.say(
            f"{session.slug} stopped ({report.reason}): {done}. Its state is saved. {left} steps are left{about}. Run "
            "it again to go on."
        )
