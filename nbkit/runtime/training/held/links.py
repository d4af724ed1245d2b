"""Which modules, functions and classes the attributes of a training name, and which hooks its modules have.

A later session makes these anew and names what ``__init__`` names. Where the training has made an attribute name
another one, that is kept if it was there when the training began, as its path says which it is. Otherwise it is
refused.
"""

from __future__ import annotations

import functools
import inspect
import types
from dataclasses import dataclass
from typing import Any

import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.held.code import content
from nbkit.runtime.training.held.generators import is_foreign
from nbkit.runtime.training.held.values import NotPlain, digest, form_of

FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
_HOOKS = {
    "_forward_pre_hooks": "forward pre-hooks",
    "_forward_hooks": "forward hooks",
    "_backward_pre_hooks": "backward pre-hooks",
    "_backward_hooks": "backward hooks",
}
_OF_TENSORS = {"_backward_hooks": "hooks", "_post_accumulate_grad_hooks": "hooks after the gradient"}
_OF_OPTIMIZERS = {"_optimizer_step_pre_hooks": "step pre-hooks", "_optimizer_step_post_hooks": "step post-hooks"}
_UNCHANGED = "Nothing was saved now; earlier checkpoints are unchanged."


@dataclass
class Link:
    """What one attribute names.

    Attributes
    ----------
    path : str
        For example ``module.criterion``.
    holder : object
        What holds it: an object or a container.
    key
        Its name, key or index there.
    value
        A module, function or class; None where a module has been; a tuple of hooks.
    quiet : bool
        Whether the holder is an object of a library, which sets its own functions.
    part : bool
        Whether it is registered as a part of a module.
    loose : bool
        Whether it is any other object, such as one of the user's classes, a parameter or an optimizer: that another one
        is named is kept if it was there when the training began. One that is new is looked into like the first one.
    """

    path: str
    holder: Any
    key: Any
    value: Any
    quiet: bool
    part: bool = False
    loose: bool = False

    @property
    def at(self) -> tuple[int, Any]:
        """The place, whichever path leads to it."""
        return id(self.holder), self.key


def hooks_of(module: torch.nn.Module, path: str, quiet: bool) -> list[Link]:
    """Return the hooks of a module, and of its parameters and buffers, that are not those of a library."""
    found = [Link(path, module, kind, _hooks(module, kind), quiet) for kind in _HOOKS]
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None:
            at = f"{path}.{name}"
            found += [Link(at, module, f"{name}.{kind}", _hooks(tensor, kind), quiet) for kind in _OF_TENSORS]
    return found


def _hooks(owner: Any, kind: str) -> tuple[Any, ...]:
    return tuple(hook for hook in (getattr(owner, kind, None) or {}).values() if not _of_library(hook))


def _of_optimizers(walk: Any) -> dict[str, tuple[Any, list[Link]]]:
    """Return the optimizers and schedules of a training by their paths, with their hooks and patched methods."""
    trainer = walk.holders["module"].trainer
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    found = {}
    for word, things in (("optimizer", trainer.optimizers), ("schedule", schedules)):
        for number, thing in enumerate(things):
            path = f"{word} {number}"
            links = [Link(path, thing, kind, _hooks(thing, kind), False) for kind in _OF_OPTIMIZERS]
            for name, value in getattr(thing, "__dict__", {}).items():
                if isinstance(value, FUNCTIONS) and hasattr(type(thing), name):
                    links.append(Link(f"{path}.{name}", thing, name, value, True))
            found[path] = thing, links
    return found


class Links:
    """Compare what attributes name with what they named before the first epoch of a session."""

    def __init__(self) -> None:
        self._walk: Any = None
        self._first: dict[tuple[int, Any], Link] = {}
        self._paths: dict[int, str] = {}  # of all objects that were there
        self._names: dict[str, int] = {}  # of parts with weights, by which these are loaded

    def begin(self, walk: Any) -> None:
        """Record what there is."""
        self._walk = walk  # kept, so that no other object gets one of these ids
        optimizers = _of_optimizers(walk)
        self._first = {link.at: link for link in (*walk.links, *(one for _, own in optimizers.values() for one in own))}
        self._paths = {id(thing): path for path, (thing, _) in optimizers.items()}
        self._names = _weighted(walk)
        for path, thing in [*walk.holders.items(), *walk.named.items()]:
            self._paths.setdefault(id(thing), path)

    def changed(self, walk: Any) -> tuple[dict[str, list[Any]], list[Link]]:
        """Return what the training has changed: entries of a checkpoint, and what cannot be kept but need not be.

        Raises
        ------
        UsageError
            If an attribute names what no later session would have, or a module has other hooks.
        """
        entries: dict[str, list[Any]] = {}
        said = []
        links = [*walk.links, *(one for _, own in _of_optimizers(walk).values() for one in own)]
        for link in links:
            parent, then = self._paths.get(id(link.holder)), self._first.get(link.at)
            if parent is None or (then is not None and _same(then.value, link.value)):
                continue
            if link.loose:
                target = self._paths.get(id(link.value))
                if target is not None and not (then is None and isinstance(link.holder, list | tuple | dict)):
                    entries[link.path] = [parent, form_of(link.key), "link", True, None, target]
                continue
            if isinstance(link.value, tuple):
                if then is None and not link.value:
                    continue  # a tensor that the training has made, without hooks
                raise UsageError(_other_hooks(link, then))
            if isinstance(link.value, FUNCTIONS) and _patches(link, then):
                raise UsageError(_other(then or _of_class(link), _words(link.value)))
            known = isinstance(link.value, type)
            if link.value is None or isinstance(link.value, torch.nn.Module):
                known = _weighted(walk) == self._names
            target = "" if link.value is None else self._paths.get(id(link.value))
            inside = isinstance(link.holder, list | tuple) or (then is None and isinstance(link.holder, dict))
            if known and target is not None and not inside:
                parent += "._modules" * link.part
                entries[link.path] = [parent, form_of(link.key), "link", True, None, target]
            elif isinstance(link.value, torch.nn.Module) and then is None and not inside:
                raise UsageError(_new(link))
            elif then is not None and not (link.quiet and isinstance(link.value, FUNCTIONS)):
                if not _same_code(then.value, link.value):
                    raise UsageError(_other(then, _words(link.value)))
                said.append(link)
            elif then is None and not inside and not link.quiet:
                said.append(link)
        self._check_gone(walk, links)
        return entries, said

    def _check_gone(self, walk: Any, links: list[Link]) -> None:
        now = {link.at for link in links} | {(id(place.holder), place.key) for place in walk.places}
        there = {id(thing) for thing in (*walk.holders.values(), *(link.holder for link in links))}
        for at, link in self._first.items():
            if at in now or at[0] not in there or link.value in (None, ()) or link.loose:
                continue
            patch = isinstance(link.value, FUNCTIONS) and _patches(_of_class(link), link)
            if link.part or patch or not (link.quiet or isinstance(link.holder, list | tuple | dict)):
                raise UsageError(_other(link, "gone"))


def _weighted(walk: Any) -> dict[str, int]:
    """Return all names of the parts of the module that have weights or buffers of their own."""
    parts = walk.holders["module"].named_modules(remove_duplicate=False)
    return {name: id(part) for name, part in parts if part._parameters or part._buffers}


def _same(a: Any, b: Any) -> bool:
    """Return whether two values do the same wherever they are called."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, types.MethodType):
        return a.__self__ is b.__self__ and a.__func__ is b.__func__
    if isinstance(a, types.BuiltinFunctionType):
        return a.__self__ is b.__self__ and a.__name__ == b.__name__
    if isinstance(a, functools.partial):
        return _alike([a.func, *a.args, a.keywords], [b.func, *b.args, b.keywords])
    if isinstance(a, types.FunctionType):
        return a.__code__ is b.__code__ and _alike(_held_by(a), _held_by(b))
    return False


def _of_class(link: Link) -> Link:
    """Return what an attribute names where the object has none of its own: the method of its class."""
    key = link.key if isinstance(link.key, str) else ""
    return Link(link.path, link.holder, link.key, getattr(type(link.holder), key, None), link.quiet)


def _patches(link: Link, then: Link | None) -> bool:
    """Return whether a function has taken the place of a method, and one of the two is of the user's making.

    What a library exchanges, such as the ``step`` that a schedule counts, every session exchanges again.
    """
    method = _of_class(link).value
    before, now = _innermost(method if then is None else then.value), _innermost(link.value)
    if method is None or isinstance(link.holder, list | tuple | dict) or before is now or _same_code(before, now):
        return False
    return not (_of_library(before) and _of_library(now))


def _innermost(function: Any) -> Any:
    """Return the function that a bound method, a partial or a wrapper calls in the end."""
    while True:
        inner = getattr(function, "__func__", None) or getattr(function, "__wrapped__", None)
        inner = function.func if isinstance(function, functools.partial) else inner
        if inner is None and hasattr(function, "_wrapped_by_lr_sched"):  # torch before 2.5 does not say what it wraps
            inner = inspect.getclosurevars(function).nonlocals.get("func")
        if inner is None:
            return function
        function = inner


def _same_code(a: Any, b: Any) -> bool:
    """Return whether two functions differ only in what they hold, as those that every step makes anew."""
    return isinstance(a, types.FunctionType) and isinstance(b, types.FunctionType) and a.__code__ is b.__code__


def _held_by(function: types.FunctionType) -> list[Any]:
    return [function.__defaults__, function.__kwdefaults__, *map(content, function.__closure__ or ())]


def _alike(a: Any, b: Any) -> bool:
    if _same(a, b):
        return True
    if type(a) is type(b) and isinstance(a, list | dict) and len(a) == len(b):
        if isinstance(a, dict):
            return list(a) == list(b) and _alike(list(a.values()), list(b.values()))
        return all(_alike(x, y) for x, y in zip(a, b, strict=True))
    try:
        return digest(form_of(a)) == digest(form_of(b))
    except NotPlain:
        return False


def _of_library(hook: Any) -> bool:
    while isinstance(hook, functools.partial):
        hook = hook.func
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return is_foreign(module) or module.partition(".")[0] in ("torchmetrics", "torchvision")


def _words(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, functools.partial):
        return f"a partial of {_words(value.func)}"
    named: Any = value if isinstance(value, (*FUNCTIONS, type)) else type(value)
    name: str = getattr(named, "__qualname__", type(named).__qualname__)
    return name if named is value else f"a {name}"


def _other(then: Link, now: str) -> str:
    return (
        f"{then.path} was {_words(then.value)} when the training began, and is now {now}. No checkpoint can hold a "
        "module, function or class, so that a later session would go on with the first one. Make all of them "
        "in __init__, and choose among them by a number (self.stage = 1), which is saved; or load the weights of the "
        f"new one into the first (load_state_dict). {_UNCHANGED}"
    )


def _new(link: Link) -> str:
    return (
        f"{link.path} has become {_words(link.value)} during the training, and a later session would not have it when "
        "its values are put back. Make it in __init__, setup() or configure_model, where every session makes it, and "
        f"let a number say since when it is used. {_UNCHANGED}"
    )


def _other_hooks(link: Link, then: Link | None) -> str:
    before = ", ".join(map(_words, then.value)) if then is not None and then.value else "none"
    now = ", ".join(map(_words, link.value)) or "none"
    tensor, _, kind = link.key.rpartition(".")
    words = _OF_TENSORS[kind] if tensor else {**_HOOKS, **_OF_OPTIMIZERS}[kind]
    return (
        f"{link.path} has other {words} than when the training began: {before} -> {now}. No checkpoint can "
        "hold them, so that a later session would go on with the first ones. Register them in __init__, setup() or "
        f"on_train_start, and let a number (self.stage = 1), which is saved, say what they do. {_UNCHANGED}"
    )
