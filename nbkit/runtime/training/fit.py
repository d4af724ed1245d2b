"""Training of a Lightning module across many sessions.

A training is one long run, split into sessions. Wherever a session ends, the next one resumes from the newest complete
checkpoint with the samples, order and random numbers that an uninterrupted run would have had there. This holds for
one device and for several, on one machine or more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from nbkit.ground.quiet import quiet_lightning
from nbkit.runtime.cells.shown import is_watched
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.requirements import check_tested
from nbkit.runtime.threads import kept_threads
from nbkit.runtime.training.bounds.options import check_options, check_share, length_of
from nbkit.runtime.training.exact.callbacks import check_callbacks
from nbkit.runtime.training.protocol import TrainingSession, device_of, place
from nbkit.runtime.training.ranks.meeting import together
from nbkit.runtime.training.ranks.ranks import Ranks
from nbkit.runtime.training.ranks.world import choose_world
from nbkit.runtime.training.same_training import explain_mismatch, load_weights, settings_of, versions
from nbkit.runtime.words import parse_duration, show_duration


@dataclass(frozen=True)
class FitReport:
    """Report how far a training is and what this session did.

    Attributes
    ----------
    step, max_steps : int
        Optimizer steps done so far, and in total.
    reason : str
        Why it ended: ``complete``, ``wall``, ``SIGTERM``, ``SIGINT`` or another reason for the stop.
    resumed_from : int or None
        The step that this session resumed from; None if it started the training.
    steps_this_session : int
    seconds_training, seconds_total : float
        Time in steps, validations and waiting for data; total time in `fit`.
    startup : dict
        Seconds from the start of the process to the first step, by part.
    saves : int
        Number of checkpoints that this session saved.
    seconds_stalled : float
        How long training waited for the saves.
    chosen : dict
        What was chosen by measuring: ``pieces`` that batches are cut into, ``val_batches`` of each validation.
    history : list of dict
        All metric rows logged so far, in all sessions: ``{"step": step, name: value, ...}``.
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
    chosen: dict[str, int] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def complete(self) -> bool:
        return self.reason == "complete"


def fit(
    session: TrainingSession,
    module: Any,
    data: Any,
    *,
    max_steps: int | None = None,
    monitor: str | None = None,
    mode: str = "min",
    save_every: str | float | None = "5min",
    save_each_epoch: bool = False,
    val_check_interval: int | float | None = None,
    val_time_share: float | None = None,
    accumulate_grad_batches: int = 1,
    gradient_clip_val: float | None = None,
    deterministic: bool | str | None = None,
    log_every_n_steps: int = 10,
    fresh: bool | int = False,
    accept_changes: bool = False,
    callbacks: Sequence[Any] = (),
    loggers: Sequence[Any] = (),
    **trainer_options: Any,
) -> FitReport:
    """Train from where the last session stopped, until the training is complete or the wall is near.

    Afterwards the module has the trained weights, whatever ended the training, and is on the device that trained it, so
    that what follows is computed there. `Session.on_device` brings other modules and tensors to it.

    **Exactness.** On a CPU the result is that of a training that was never interrupted, bit for bit. Restored is what
    Lightning saves, and whatever plain attributes, generators and metrics of module, callbacks and data the training
    has changed; every random number of data and steps is derived from the seed. What no later session could go on from
    (a stream without indices, a custom sampler, an iterator, some callbacks) is refused in words. docs/exactness.md
    states it all, and `session.prove` finds the rest.

    **Several devices.** ``session.fit(module, data, devices=2)`` in a notebook or script (Kaggle's GPU T4 x2) trains
    on two: this process is rank 0, nbkit starts the others and ends them with the call, and the cells after it run
    as with one device. On several machines start one script everywhere with torchrun::

        torchrun --nnodes=2 --nproc-per-node=2 --rdzv-backend=c10d --rdzv-endpoint=HOST:29400 train.py

    and leave ``devices`` out. Rank 0 alone has the session's store, prints and saves; the other ranks train along.
    Code that follows the training belongs under ``if session.rank == 0:``.

    ``batch_size`` is that of one device: two devices with 32 each take the same steps as one with 64, except for the
    order of sums and for dropout, which each draws by itself. The order of an epoch is split as DistributedSampler
    splits it, padded from its beginning if it does not divide evenly. Every process sees the whole validation set, so
    its scores need no syncing; log training metrics with ``self.log(..., sync_dist=True)``, or the history shows only
    those of rank 0. All processes stop at the same batch: at the wall, after a signal to any of them, or when one of
    them dies. A training resumes with as many processes as it started with; see `accept_changes`.

    Parameters
    ----------
    session : TrainingSession
        A `Session`, a `Follower`, or whatever has the members of the protocol.
    module : LightningModule
        Its ``settings`` (a frozen dataclass) and hparams, if any, are stored in the receipt and compared on resuming.
    data : LightningDataModule or DataLoader
        Provides one plain torch DataLoader for training; nbkit replaces its order and start.
    max_steps : int or None
        Optimizer steps in all sessions together; None takes ``module.settings.max_steps``. May be increased later; a
        schedule that is built for max_steps then changes as well, which needs `accept_changes`.
    monitor, mode : str
        A validation metric whose best checkpoint is kept besides the two newest; ``"min"`` or ``"max"`` is best.
    save_every : str, float or None
        Time between checkpoints, such as ``"5min"``: a kill without warning loses at most this much.
    save_each_epoch : bool
        Also save at the end of every epoch.
    val_check_interval : int, float or None
        Batches between validations, counted over all epochs; a float is a fraction of an epoch; None validates once
        per epoch.
    val_time_share : float or None
        Largest share of the time that validations may take, such as 0.05. The first validation counts how many of its
        batches, in an order drawn from the seed, end in that time; the same windows serve every later validation, in
        later sessions, too. None for the whole validation set, and where NBKIT_VALIDATION=whole is set.
    accumulate_grad_batches, gradient_clip_val, log_every_n_steps
        As in Lightning.
    deterministic : bool, "warn" or None
        As in Lightning. On a GPU, results are bit-exact only with True; samples, order and augmentation always are.
    fresh : bool or int
        True starts again beside the earlier checkpoints, which are kept; use it in one session only. A number starts
        again once: all sessions with ``fresh=1`` share the first fresh start, ``fresh=2`` is another.
    accept_changes : bool
        Resume although settings, hparams, data (a few items are drawn), their order or collate_fn, options, callbacks
        with state and their settings, frozen parts, what optimizers and schedules are built with, monitor and mode, the
        validation data that they or others go by, or the number of devices differ from the checkpoint; the new ones
        hold from there on. With another number of devices the total batch must stay the same; then every step sees the
        same samples, but is not bit-exact. Workers, folders, loggers and times of saves may change freely.
    callbacks, loggers : sequences
        Further Lightning callbacks and loggers; loggers work on rank 0. Those that would fight with a training in
        sessions (ModelCheckpoint, Timer, the finders, ...) are refused with what to use instead.
    **trainer_options
        Passed to ``lightning.Trainer``; for several devices give ``devices``, and ``strategy`` ``"ddp"`` or
        ``"ddp_find_unused_parameters_true"``.

    Returns
    -------
    report : FitReport
        Where the training stands, why it stopped, and its history.

    Raises
    ------
    UsageError
        If options, data or settings do not allow training or resuming, or if this Lightning is not supported.
    DamagedError
        If there are checkpoints and all of them are damaged.
    NbkitError
        If another process of the training died.
    """
    began = time.monotonic()
    check_callbacks(callbacks)
    check_options({**trainer_options, "val_check_interval": val_check_interval}, mode)
    val_time_share = check_share(val_time_share)
    device = device_of(session)
    world = choose_world(trainer_options, device)
    total = length_of(module, max_steps)
    import lightning  # its import is measured

    from nbkit.runtime.training.bounds.pieces import Cutting
    from nbkit.runtime.training.generations import Generations
    from nbkit.runtime.training.resuming import State, find_state, share_state
    from nbkit.runtime.training.sameness.parts import training_facts

    check_tested("lightning", lightning.__version__)
    imported = time.monotonic()
    options = {
        "val_check_interval": val_check_interval,
        "accumulate_grad_batches": accumulate_grad_batches,
        "gradient_clip_val": gradient_clip_val,
        "deterministic": deterministic,
        "log_every_n_steps": log_every_n_steps,
        **trainer_options,
    }
    facts: dict[str, Any] = {
        "max_steps": total,
        "settings": settings_of(module, data),
        "training": training_facts(session.seed, options, monitor, mode),
        "precision": str(trainer_options.get("precision", device.precision)),
        "world_size": world.size,
        "versions": versions(),
        "session": session.id,
    }
    generations = None
    if world.rank == 0:
        parts_of_store = (session.store, session.outbox, session.say, session.journal)
        generations = Generations(session.slug, session.folder, *parts_of_store)

    def find() -> State:
        return find_state(generations, facts, fresh, accept_changes, session.say) if generations else State()

    # before others are started; those that are there already wait where a death is noticed
    found = None if world.others_wait else find()
    if found is not None and found.is_complete(total):
        return _nothing_left(session, module, found, total, began)
    options["val_time_share"] = val_time_share
    saves = {"save_every": save_every, "save_each_epoch": save_each_epoch, "monitor": monitor, "mode": mode}
    # what the other processes are called with, where this one starts them
    parts = {"module": module, "data": data, "max_steps": total, "accept_changes": accept_changes, **saves}
    parts |= {**options, "callbacks": list(callbacks)}
    accelerator = options.get("accelerator", device.accelerator)
    recorded = found.receipt.threads if found is not None and found.receipt is not None else 0
    threads = kept_threads(recorded, accelerator, session.say)
    with threads as facts["threads"], together(world, session, accelerator, parts) as ranks:
        state = share_state(ranks, find if found is None else lambda: found)
        if state.is_complete(total):
            return _nothing_left(session, module, state, total, began)
        marks = {"fit": began, "lightning": imported, "state": time.monotonic()}
        facts["chosen"] = dict(state.receipt.chosen) if state.receipt else {}
        cutting = Cutting(
            module, data, facts["chosen"], accelerator, facts["precision"], world.size == 1, session.say
        )  # fmt: skip
        train = partial(
            _train, session, module, data, facts=facts, marks=marks, ranks=ranks, generations=generations,
            saves=saves, options=options, accept=accept_changes, callbacks=callbacks, loggers=loggers,
        )  # fmt: skip
        return cutting.train(state, train, lambda: find_state(generations, facts, False, accept_changes, session.say))


def _nothing_left(session: TrainingSession, module: Any, state: Any, total: int, began: float) -> FitReport:
    """Load the weights of a complete training into the module."""
    from nbkit.runtime.training.history import History

    step, history = state.receipt.step, History()
    load_weights(module, state.checkpoint, state.path)
    place(module, session)
    session.say(f"{session.slug} is complete: {step} of {total} steps; nothing was trained.")
    history.load_state_dict(state.checkpoint["nbkit"]["history"])
    seconds, chosen = time.monotonic() - began, dict(state.receipt.chosen)
    return FitReport(step, total, "complete", step, seconds_total=seconds, chosen=chosen, history=list(history.rows()))


def _train(
    session: TrainingSession,
    module: Any,
    data: Any,
    state: Any,
    *,
    facts: dict[str, Any],
    marks: dict[str, float],
    ranks: Ranks,
    generations: Any,
    saves: dict[str, Any],
    options: dict[str, Any],
    accept: bool,
    callbacks: Sequence[Any],
    loggers: Sequence[Any],
) -> FitReport:
    from nbkit.runtime.signals import StopSignals
    from nbkit.runtime.training.bounds.validation_share import ValidationBound
    from nbkit.runtime.training.checkpoint_io import SnapshotIO
    from nbkit.runtime.training.checkpointing import Checkpointing, PlannedStop
    from nbkit.runtime.training.exact.exact_state import ExactState
    from nbkit.runtime.training.exact.schedules import explain_end
    from nbkit.runtime.training.history import History
    from nbkit.runtime.training.sameness.parts import SameParts
    from nbkit.runtime.training.showing.live_curve import LiveCurve
    from nbkit.runtime.training.showing.progress import Startup, TrainingProgress
    from nbkit.runtime.training.trainer import derived_order, make_trainer, tear_down

    total = facts["max_steps"]
    history = History()
    exact = ExactState(accept, session.say if ranks.first else _nothing, session)
    io = SnapshotIO((state.path, state.checkpoint) if state.receipt else None, partial(exact.before_loading, module))
    signals = StopSignals(session.budget.stop_for_signal, session.say)
    options, share = dict(options), options["val_time_share"]
    del options["val_time_share"]  # not one of Lightning's
    bound = ValidationBound(share, facts["chosen"], session.budget.clock, ranks, session.say)
    saving = Checkpointing(
        generations,
        history,
        session.budget,
        signals,
        session.seed,
        **{**saves, "save_every": parse_duration(saves["save_every"])},
        facts=facts,
        exact=exact,
        ranks=ranks,
        bound=bound,
        say=session.say if ranks.first else _nothing,
        journal=session.journal if ranks.first else _nothing,
    )
    if ranks.watch is not None:
        ranks.watch.last_resort = saving.writer.wait
    same = SameParts(state.receipt, facts["training"], accept, saving)
    progress = TrainingProgress(session.slug, total, session.budget, saving, session.say)
    startup = Startup(saving.marks, marks, session.say)
    shown = [startup, progress, *([LiveCurve(history, saves["monitor"])] if is_watched() else [])]
    reason = "complete"
    with quiet_lightning(), derived_order(data, saving, session.seed, accept, ranks) as datamodule, signals:
        trainer = make_trainer(
            session,
            total,
            options,
            callbacks=[same, saving, *(shown if ranks.first else []), *callbacks],
            loggers=[history, *(loggers if ranks.first else ())],
            io=io,
            ranks=ranks,
        )
        try:
            trainer.fit(module, datamodule=datamodule, ckpt_path=str(state.path) if state.receipt else None)
        except PlannedStop as stop:
            reason = str(stop)
            tear_down(trainer, module, datamodule)
        except SystemExit:
            if signals.interrupted:  # Lightning makes an exit of a Ctrl+C; a notebook's kernel must outlive it
                raise KeyboardInterrupt from None
            if session.budget.stop_reason is None:
                raise
            reason = session.budget.stop_reason  # SIGTERM before the first batch: nothing new to save
        except Exception as error:  # what restoring an odd checkpoint raises is explained, all else is raised as it is
            if state.receipt and "first_batch" not in saving.marks and not isinstance(error, NbkitError):
                explain_mismatch(error, module, state.checkpoint, state.path)
            explain_end(error, trainer)
            raise
        finally:
            progress.close()
            exact.leave(module)
            saving.writer.wait()
            if saving.loader is not None:
                saving.loader.end()
    if ranks.first:
        place(module, session, trainer.strategy.root_device)  # Lightning hands it back on the CPU
    report = FitReport(
        step=trainer.global_step if saving.stopped_at is None else saving.stopped_at,
        max_steps=total,
        reason=reason,
        resumed_from=state.receipt.step if state.receipt else None,
        steps_this_session=saving.steps_this_session,
        seconds_training=saving.time.total,
        seconds_total=time.monotonic() - marks["fit"],
        startup=startup.parts,
        saves=saving.saves,
        seconds_stalled=saving.stalled,
        chosen=dict(facts["chosen"]),
        history=list(history.rows()),
    )
    if ranks.first:
        _say_end(session, report)
    return report


def _nothing(*args: Any, **fields: Any) -> None:
    """Do nothing: a placeholder on ranks other than 0."""


# -- after -----------------------------------------------------------------------------------------------------------


def _say_end(session: TrainingSession, report: FitReport) -> None:
    done = f"{report.step} of {report.max_steps} steps, {report.steps_this_session} in this session"
    if report.complete:
        why = " It ended early, as its patience or a callback asked." if report.step < report.max_steps else ""
        session.say(f"{session.slug} is complete: {done}.{why}")
    else:
        left = report.max_steps - report.step
        rate = report.seconds_training / report.steps_this_session if report.steps_this_session else None
        about = f", about {show_duration(left * rate)}" if rate else ""
        again = "Run it again to go on."
        if report.reason == "wall" and not report.steps_this_session:
            limit = show_duration(session.budget.limit)
            again = f"No step fitted into the {limit} of this session: run it again with a longer limit."
        session.say(
            f"{session.slug} stopped ({report.reason}): {done}. Its state is saved. {left} steps are left{about}. "
            f"{again}"
        )
