"""Everything that Lightning's checkpoint leaves out of a model and its optimizers, saved and put back as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from nbkit.runtime.training import loop_state
from nbkit.runtime.training.exact import groups
from nbkit.runtime.training.exact.begun import StartHooks
from nbkit.runtime.training.exact.callbacks import check_callbacks
from nbkit.runtime.training.exact.gradients import pending, put_back
from nbkit.runtime.training.exact.groups import form_groups, group_names
from nbkit.runtime.training.exact.growth import Shapes, give_saved_shapes, grown, shapes
from nbkit.runtime.training.exact.layouts import Layouts, changed_layouts, layouts, put_back_layouts
from nbkit.runtime.training.exact.modes import (
    changed_options,
    options,
    put_back_options,
    put_back_switches,
    switched_off,
)
from nbkit.runtime.training.exact.order import Order
from nbkit.runtime.training.exact.precision import give_saved_precision, widen
from nbkit.runtime.training.exact.sanity import Sanity
from nbkit.runtime.training.exact.schedules import Built, as_built, check_built, check_length, take_over
from nbkit.runtime.training.held.held import Held

# the switches and shapes of modules trained before in this process: as they came, and as their training left them
_trained_before: WeakKeyDictionary[Any, tuple[tuple[Any, Any], tuple[Any, Any]]] = WeakKeyDictionary()


class ExactState:
    """Save and restore what the loops, hooks and optimizers of a training hold beside Lightning's checkpoint.

    Many parts are compared with what the module, the optimizers and the Trainer came with when a session began: what
    differs was changed by the training and is restored, everything else is the user's.

    Parameters
    ----------
    accept : bool
        Accept that the user's module or optimizers differ from those of the checkpoint.
    say : callable
        Prints one line.
    session : object
        The session that trains, which is no part of the training.
    """

    def __init__(self, accept: bool = False, say: Callable[[str], None] = print, session: Any = None) -> None:
        self.accept, self.say = accept, say
        self.held = Held(accept, say, session)
        self.sanity = Sanity(self.held)
        self.order = Order()
        self._shapes: Shapes = {}
        self._layouts: Layouts = {}
        self._layouts_saved: Layouts = {}
        self._groups: list[list[list[str]]] = []
        self._switches: dict[str, list[str]] = {}
        self._built: Built = {}
        self._options: dict[str, Any] = {}
        self._parts: list[Any] = []
        self._own: list[dict[str, Any]] = []
        self._sharing: list[tuple[Any, Any]] = []
        self._saved: dict[str, Any] | None = None
        self._begun: StartHooks | None = None
        self._loops: dict[str, Any] | None = None
        self._metrics: dict[str, Any] | None = None

    # in the order in which a session comes by

    def setup(self, trainer: Any) -> None:
        """Check the callbacks, and put a module that an earlier session of this process left half-way as it came."""
        check_callbacks(trainer.callbacks)  # again, as the module may have added some
        widen(trainer)
        module = trainer.lightning_module
        came = now = (switched_off(module), shapes(module))
        if module in _trained_before:
            before, left = _trained_before[module]
            if now == left:
                came = before
                put_back_switches(module, came[0], {}, {}, self.accept, self.say)
                self._shapes = came[1]
        _trained_before[module] = (came, now)

    def leave(self, module: Any) -> None:
        """Record how the session leaves the module."""
        self.held.leave(module)
        if module in _trained_before:
            _trained_before[module] = (_trained_before[module][0], (switched_off(module), shapes(module)))

    def before_loading(self, module: Any, checkpoint: dict[str, Any]) -> None:
        """Prepare the module for the weights of a checkpoint."""
        self._saved = checkpoint.get("nbkit", {}).get("exact")
        if self._saved is not None:
            self._begun = StartHooks(checkpoint)
            self._shapes = {**shapes(module), **self._shapes}
            give_saved_shapes(module, checkpoint["state_dict"], self._saved["grown"], self._shapes)
            if module._trainer is not None:
                widen(module._trainer)  # also the layers that a callback had made in its setup
            give_saved_precision(module, checkpoint["state_dict"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any], rank: int, ranks: int) -> None:
        """Keep the counters and running metrics of a checkpoint until they can be put back."""
        ours = checkpoint["nbkit"]
        of_ranks = [ours["metrics"], *ours.get("metrics_of_others", ())]
        self._loops = checkpoint["loops"]["fit_loop"]
        # with another number of processes they are sums over other shares of the data
        self._metrics = of_ranks[rank] if len(of_ranks) == ranks else None
        self.held.load(of_ranks, rank, ranks)

    def on_fit_start(self, trainer: Any) -> None:
        """Record what the session came with, and prepare the optimizers for their state."""
        module = trainer.lightning_module
        self.held.before_start(trainer)
        if self._saved is None:
            self._shapes = {**shapes(module), **self._shapes}
        self._layouts = layouts(module)
        self._switches, self._groups = switched_off(module), group_names(trainer)
        self._built = as_built(trainer)
        check_length(trainer)
        if self._saved is not None and self._begun is not None:
            check_built(self._saved["built"], self._built, self.accept, self.say)
            self._begun.on_fit_start(trainer)
            form_groups(trainer, self._saved["groups"], self._saved["first_groups"])
        self._sharing = groups.shared_groups(trainer)
        self._parts, self._own = groups.parts_of(trainer), groups.own_attributes(trainer)

    def on_train_start(self, trainer: Any) -> None:
        """Record the options that the session came with."""
        self.sanity.end(trainer)
        self._options = options(trainer)
        if self._begun is not None:
            self._begun.on_train_start(trainer)

    def put_back(self, trainer: Any, loader: Any, begun: bool) -> None:
        """Set everything to its value at the save, directly before the first batch or epoch of the session.

        Parameters
        ----------
        trainer : Trainer
        loader : ResumableLoader
        begun : bool
            Whether ``on_train_epoch_start`` of this epoch is over.
        """
        groups.share_again(self._sharing)
        self._sharing = []
        self.order.begin(loader)
        self.held.ready(trainer, loader)
        self.held.put_back(trainer, loader, begun)
        saved, self._saved = self._saved, None
        if saved is None or self._begun is None:
            return
        self._begun.undo(trainer)
        self._begun = None
        first, now = saved["first_switches"], self._switches
        put_back_switches(trainer.lightning_module, saved["switches"], first, now, self.accept, self.say)
        self._layouts_saved = saved.get("layouts", {})  # one of an earlier version has none
        put_back_layouts(trainer.lightning_module, self._layouts_saved)
        take_over(trainer, saved["built"], self._built)
        groups.put_back_own_attributes(trainer, saved["own"])
        put_back_options(trainer, saved["options"])
        put_back(trainer, saved["gradients"])

    @property
    def loops_wait(self) -> bool:
        """Whether the counters of the loops are still to be put back."""
        return self._loops is not None

    def put_back_loops(self, trainer: Any) -> None:
        """Set the counters and running metrics, after Lightning has counted the first batch of the session."""
        assert self._loops is not None
        loop_state.put_back_counters(trainer, self._loops)
        if self._metrics is not None:
            loop_state.put_back_metrics(trainer, self._metrics)
        self._loops = self._metrics = None

    def of_this_process(self, trainer: Any, loader: Any, batch: int, begun: bool) -> dict[str, Any]:
        """Return what may differ between the processes of a training: running metrics, and what objects hold."""
        held = self.held.state(trainer, loader, begun)
        return {**loop_state.running_metrics(trainer), "first_batch": batch == 0, "held": held}

    def state(self, trainer: Any, batch: int, loader: Any = None) -> dict[str, Any]:
        """Return the state in front of a batch, which a later session goes on from with a loader; None for the end.

        Raises
        ------
        UsageError
            If a later session could not restore it.
        """
        module = trainer.lightning_module
        groups.check_parts(trainer, self._parts)
        if loader is not None:
            self.order.check(loader)
        return {
            "grown": grown(module, self._shapes),
            "layouts": changed_layouts(module, self._layouts, self._layouts_saved),
            "switches": switched_off(module),
            "first_switches": self._switches,
            "built": self._built,
            "groups": group_names(trainer),
            "first_groups": self._groups,
            "own": groups.changed_own_attributes(trainer, self._own),
            "options": changed_options(trainer, self._options),
            "gradients": pending(trainer, batch),
        }
