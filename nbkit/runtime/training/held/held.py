"""State that objects hold in plain attributes: kept in the checkpoint where the training has changed it.

Lightning saves weights, optimizers and what has a ``state_dict``. Everything else that a module, a callback or a
DataModule holds (counters, lists, generators, metrics, tensors that are not buffers) would start anew in every
session. Here it is compared with what it was before the first epoch, and what has changed is saved and put back.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.exact.own_schedules import walk_schedule
from nbkit.runtime.training.exact.untouched import mark_of, unsure
from nbkit.runtime.training.held.again import as_it_came, leave, remember
from nbkit.runtime.training.held.collated import collate_of
from nbkit.runtime.training.held.covered import callbacks_of
from nbkit.runtime.training.held.late import Late, delete
from nbkit.runtime.training.held.links import Links
from nbkit.runtime.training.held.opaque import SHOWS
from nbkit.runtime.training.held.places import Place, Walk, cannot_change, get, has_own_state, put
from nbkit.runtime.training.held.scan import check_scan
from nbkit.runtime.training.held.sharing import join, sharing_of
from nbkit.runtime.training.held.values import (
    NOTHING,
    NotPlain,
    can_be_made,
    digest,
    form_of,
    move,
    value_of,
    whereabouts,
)
from nbkit.runtime.training.loop_state import ask_for_validation_data

Entries = dict[str, list[Any]]  # path: [parent, key, kind, rebound, path of the same object or None, form]


class Held:
    """Find, save and restore what objects hold.

    Parameters
    ----------
    accept : bool
        Accept that there is no place any more for something that the checkpoint holds.
    say : callable
        Prints one line.
    session : object
        What a callback may hold that is not part of the training.
    """

    def __init__(self, accept: bool = False, say: Callable[[str], None] = print, session: Any = None) -> None:
        self.accept, self.say, self.session = accept, say, session
        self._first: dict[str, bytes] | None = None  # digests of all places before the first epoch of this session
        self._objects: dict[str, Any] = {}  # what was there then
        self._where: dict[str, str] = {}  # kinds of device of the tensors then
        self._came: dict[str, bytes] | None = None  # digests of arrays before the hooks that start a session
        self._live: dict[str, bool] = {}  # places that the training changes, and whether by another object
        self._saved: dict[str, Any] | None = None
        self._links, self._late = Links(), Late()
        self._not_kept: set[str] = set()  # objects that appeared during the training
        self._watched: list[Place] = []  # the live places
        self._marks: list[Any] = []
        self._ready_for: tuple[Any, Any] | None = None

    # -- resuming -----------------------------------------------------------------------------------------------------

    def load(self, of_ranks: list[Mapping[str, Any]], rank: int, size: int) -> None:
        """Take the state of this process from those in a checkpoint, to be put back later."""
        if len(of_ranks) == size:
            self._saved = of_ranks[rank].get("held")
        elif "held" in of_ranks[0]:
            # with another number of processes the metrics are sums over other shares of the data
            held = of_ranks[0]["held"]
            entries = {path: e for path, e in held["entries"].items() if path not in held["metrics"]}
            self._saved = {**held, "entries": entries}
        self._live = {path: entry[3] for path, entry in self._saved["entries"].items()} if self._saved else {}

    def before_start(self, trainer: Any) -> None:
        """Look at arrays before ``on_fit_start`` and ``on_train_start``, which may make some of the weights.

        A teacher that is copied there is of the first session's weights, and a later session would copy later ones.
        """
        if self._came is None:
            self._came = {place.path: _digest(place) for place in self._walk(trainer, None).places if _is_array(place)}

    def ready(self, trainer: Any, loader: Any) -> None:
        """Look at everything once, after all hooks that precede the first epoch."""
        if self._first is None:
            ask_for_validation_data(trainer)  # what comes later would look as if the training had made it
            walk = self._walk(trainer, loader)
            check_scan(trainer, walk)
            if as_it_came(trainer.lightning_module, walk, self._saved["entries"] if self._saved else None):
                walk = self._walk(trainer, loader)
            remember(trainer.lightning_module, walk)
            self._ready_for = trainer, loader
            self._first = {place.path: _digest(place) for place in walk.places}
            self._objects = {place.path: _reference(place.value) for place in walk.places}
            self._where = {place.path: whereabouts(place.value) for place in walk.places if _is_tensor(place)}
            self._links.begin(walk)
            self._late = Late(walk.places)
            # copies of the weights that configure_optimizers makes are of the present step, though not changed yet
            self._live |= {p.path: self._live.get(p.path, False) for p in walk.places if p.parent in walk.optimizers}
            self._live |= {path: self._live.get(path, False) for path in self._made_at_start(walk.places)}
            self._watch(walk.places)

    def _made_at_start(self, places: list[Place]) -> list[str]:
        came, first = self._came or {}, self._first or {}
        own = [
            place for place in places if _is_array(place) and not place.path.startswith(("data", "dataset", "valid"))
        ]
        return [place.path for place in own if self._came is not None and came.get(place.path) != first[place.path]]

    def leave(self, module: Any) -> None:
        """Remember how the session leaves the module and what trains it, for a next one in this process."""
        if self._ready_for is not None:
            leave(module, self._walk(*self._ready_for).places)
            self._ready_for = None

    def put_back(self, trainer: Any, loader: Any, begun: bool) -> None:
        """Put the saved state back.

        Parameters
        ----------
        begun : bool
            Whether ``on_train_epoch_start`` of this epoch is over; it is not where the checkpoint was saved before.
        """
        if self._saved is None or (self._saved["begun"] and not begun):
            return
        entries, sharing = self._saved["entries"], self._saved.get("sharing", [])
        self._saved = None
        walk, lost = self._walk(trainer, loader), list[str]()
        named = {path: entry for path, entry in entries.items() if entry[2] == "link"}
        targets = {"": None, **walk.holders, **walk.named}
        for path, (parent, key, _, _, _, target) in named.items():
            if parent in walk.holders and target in targets:
                put(walk.holders[parent], value_of(key), targets[target])
            else:
                lost.append(path)
        walk = self._walk(trainer, loader) if named else walk
        for entry in entries.values():
            if entry[2] == "grown" and entry[0] in walk.holders:
                while len(walk.holders[entry[0]]) < entry[5]:
                    walk.holders[entry[0]].increment()
        walk = self._walk(trainer, loader)
        now = {place.path: place.value for place in walk.places}
        device = trainer.strategy.root_device
        made: dict[str, Any] = {}
        # a place that still holds its first object first, as others may refer to that object
        for path, entry in sorted(entries.items(), key=lambda item: (item[1][3], item[1][4] is not None)):
            parent, key, kind, rebound, same, form = entry
            if kind == "link":
                continue
            if parent not in walk.holders:
                lost.append(path)
            elif kind == "moved":
                if isinstance(now.get(path), torch.Tensor):
                    move(now[path], form, device)
            elif kind == "gone":
                delete(walk.holders[parent], key)
            elif kind == "own" and has_own_state(now.get(path)):
                _load(now[path], value_of(form, device=device))
            elif kind == "own":
                lost.append(path)
            elif kind == "plain":
                replaced = rebound and not isinstance(now.get(path), torch.nn.Parameter)
                shared = made.get(same, now.get(same)) if same is not None else None
                made[path] = (
                    value_of(form, NOTHING if replaced else now.get(path), device) if shared is None else shared
                )
                put(walk.holders[parent], value_of(key), made[path])
        walk = self._walk(trainer, loader)
        kept = {place.path for place in walk.places if not entries.get(place.path, [None] * 4)[3]}
        join(sharing, walk.places, kept, _weights(trainer))
        self._watch(self._walk(trainer, loader).places if sharing else walk.places)
        if lost:
            self._refuse_or_say(lost)

    def _refuse_or_say(self, lost: list[str]) -> None:
        shown = ", ".join(lost[:6]) + (f" and {len(lost) - 6} more" if len(lost) > 6 else "")
        if not self.accept:
            raise UsageError(
                f"The checkpoint holds what the training had changed in {shown}, and there is no such place now. Give "
                "the module, callbacks and DataModule that it was trained with, or continue without it "
                "(accept_changes=True), or start over with fresh=True. The checkpoint is untouched."
            )
        self.say(f"Resuming without what the training had changed in {shown}: there is no such place now")

    # -- saving -------------------------------------------------------------------------------------------------------

    def state(self, trainer: Any, loader: Any, begun: bool) -> dict[str, Any]:
        """Return what the training has changed so far, with references to its tensors."""
        walk = self._walk(trainer, loader)
        entries, others = self._links.changed(walk)
        entries |= self._late.gone(walk)
        self._note_changes(walk)
        # what is named instead may hold what the first one held, so that no change would be seen
        named = tuple(f"{path}{end}" for path in entries for end in ".[")
        self._live |= {p.path: self._live.get(p.path, False) for p in walk.places if p.path.startswith(named)}
        for link in others:
            self._say_once(link.path, f"{type(link.value).__module__}.{type(link.value).__qualname__}")
        owners: dict[int, str] = {}
        for place in walk.places:
            changeable = place.kind == "plain" and not cannot_change(place.value)
            owner = owners.setdefault(id(place.value), place.path) if changeable else place.path
            if place.path not in self._live and self._has_moved(place):
                # all of a network or none: users ask one of its tensors whether it is on the card
                entries[place.path] = [place.parent, form_of(place.key), "moved", False, None, whereabouts(place.value)]
            if place.path not in self._live or place.kind not in ("plain", "own", "grown") or self._inside_new(place):
                continue
            self._late.check(place, walk)
            rebound, form = self._live[place.path], place.form
            if place.kind == "own":
                try:
                    form = form_of(place.value.state_dict())
                except NotPlain:
                    self._cannot(place)
                    continue
            elif rebound and not can_be_made(form):
                self._cannot(place)
                continue
            same = owner if rebound and owner != place.path else None
            entries[place.path] = [place.parent, form_of(place.key), place.kind, rebound, same, form]
        self._watch(walk.places)
        parts = tuple(f"{path}." for path, thing in walk.holders.items() if _is_metric(thing))
        metrics = [path for path in entries if path.startswith(parts)]
        sharing = sharing_of(walk.places, _weights(trainer))
        return {"entries": entries, "begun": begun, "metrics": metrics, "sharing": sharing}

    def _note_changes(self, walk: Walk) -> None:
        assert self._first is not None  # since the first epoch
        for place in walk.places:
            path, then = place.path, self._objects.get(place.path)
            first = then() if isinstance(then, weakref.ref) else then
            if path in self._live:
                self._live[path] |= first is not place.value
            elif self._first.get(path) != _digest(place):
                if place.kind in ("object", "iterator"):
                    self._late.check(place, walk)
                    self._cannot(place)
                else:
                    self._live[path] = first is not place.value

    def _has_moved(self, place: Place) -> bool:
        return _is_tensor(place) and self._where.get(place.path) not in (None, whereabouts(place.value))

    def _inside_new(self, place: Place) -> bool:
        """Return whether a place lies in an object that a later session would not have."""
        return any(place.path.startswith((f"{path}.", f"{path}[")) for path in self._not_kept)

    def _cannot(self, place: Place) -> None:
        """Say once that something has changed that cannot be stored."""
        if place.path in self._not_kept:
            return
        spoken = not place.quiet and not self._inside_new(place)
        if spoken and type(place.value).__module__.partition(".")[0] not in SHOWS:
            self._say_once(place.path, place.form)
        self._not_kept.add(place.path)

    def _say_once(self, path: str, what: str) -> None:
        if path not in self._not_kept:
            self._not_kept.add(path)
            self.say(
                f"{path} has changed and holds what a checkpoint cannot ({what}): a later session "
                "goes on without it. If it matters, make it in __init__, or give its owner a state_dict and a "
                "load_state_dict, or keep it as numbers, arrays or tensors (register_buffer)"
            )

    # -- errors inside a batch ----------------------------------------------------------------------------------------

    def _watch(self, places: list[Place]) -> None:
        self._watched = [place for place in places if place.path in self._live]

    def mark(self) -> None:
        """Note the present values of what the training is known to change."""
        self._marks = self._values()

    def _values(self) -> list[Any]:
        return [mark_of(get(place.holder, place.key)) for place in self._watched]

    def unchanged(self, trainer: Any, loader: Any, in_step: bool = False) -> bool:
        """Return whether nothing has changed since `mark`; False also where that is not known.

        Inside a step large tensors may have changed through ``.data``, which torch does not count.
        """
        walk, live = self._walk(trainer, loader), {place.path: place for place in self._watched}
        if self._links.changed(walk)[0] or (in_step and unsure(self._marks)):
            return False
        for place in walk.places:
            if place.path in live:
                if place.holder is not live.pop(place.path).holder:
                    return False
            elif self._first is not None and self._first.get(place.path) != _digest(place):
                return False
        return not live and self._values() == self._marks

    def _walk(self, trainer: Any, loader: Any) -> Walk:
        """Walk through everything of a training that may hold state."""
        module = trainer.lightning_module
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        weights = _weights(trainer)
        wrapped = trainer.strategy._lightning_optimizers
        inside = [part for one in trainer.optimizers for part in (one.param_groups, one.state, one.defaults)]
        named = {f"weight {name}": tensor for name, tensor in weights.items()}
        for kind, things in {"optimizer": trainer.optimizers, "wrapped": wrapped, "schedule": schedulers}.items():
            named |= {f"{kind} {number}": thing for number, thing in enumerate(things)}
        walk = Walk([trainer, self.session, *named.values(), *inside], named)
        walk.root(module, "module")
        for path, callback in callbacks_of(trainer):
            walk.root(callback, path)
        for number, optimizer in enumerate(trainer.optimizers):
            walk.optimizer(optimizer, f"optimizer {number}")
        for number, schedule in enumerate(schedulers):
            walk_schedule(walk, schedule, f"schedule {number}")
        if trainer.datamodule is not None:
            walk.root(trainer.datamodule, "data", data=True)
        if loader is not None:
            walk.root(loader.dataset, "dataset", data=True)
            walk.root(collate_of(loader), "collate_fn", data=True)
        for number, dataset in enumerate(_validation_datasets(trainer)):
            walk.root(dataset, f"validation dataset {number}", data=True)
        return walk


def _weights(trainer: Any) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers that the checkpoint holds anyway, by their names."""
    weights = trainer.lightning_module.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in weights.items() if isinstance(tensor, torch.Tensor)}


def _validation_datasets(trainer: Any) -> list[Any]:
    combined = trainer.fit_loop.epoch_loop.val_loop._combined_loader
    loaders = combined.flattened if combined is not None else []
    return [loader.dataset for loader in loaders if hasattr(loader, "dataset")]


def _load(thing: Any, state: Any) -> None:
    """Load the state of an object; an optimizer keeps its groups, which another one and its schedules may share."""
    groups = thing.param_groups if isinstance(thing, torch.optim.Optimizer) else None
    thing.load_state_dict(state)
    if groups is not None:
        for group, loaded in zip(groups, thing.param_groups, strict=True):
            group.update(loaded)
        thing.param_groups = groups


def _digest(place: Place) -> bytes:
    if place.kind != "own":
        return digest([place.kind, place.form, place.content])
    try:
        return digest([place.kind, form_of(place.value.state_dict())])
    except NotPlain:
        return digest([place.kind, place.form])


def _is_array(place: Place) -> bool:
    return place.kind == "plain" and _only_arrays(place.value)


def _only_arrays(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return bool(value) and all(map(_only_arrays, value.values() if isinstance(value, dict) else value))
    return isinstance(value, torch.Tensor | np.ndarray)


def _is_tensor(place: Place) -> bool:
    return place.kind == "plain" and isinstance(place.value, torch.Tensor)


def _reference(value: Any) -> Any:
    # an array that was replaced need not be kept
    return weakref.ref(value) if isinstance(value, torch.Tensor | np.ndarray) else value


def _is_metric(thing: Any) -> bool:
    from torchmetrics import Metric

    return isinstance(thing, Metric)
