"""The form of a checkpoint, checked before any part of it is loaded.

A checksum says that a file is as it was written, not that a training wrote it. Here is what nbkit and Lightning read of
a checkpoint; whatever else it holds (the weights, the states of optimizers and of the user's own objects) is checked by
who loads it. A part that only newer versions write may be missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta, Struct

from nbkit.runtime.errors import DamagedError
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.ledger.records import Count, shortened
from nbkit.runtime.training.checkpoint_io import load_checkpoint

_Version = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9a-z+]+)+$")]
_Switches = dict[Literal["requires_grad", "training"], list[str]]
_Groups = list[list[list[str]]]


class _Counters(Struct):
    ready: Count
    completed: Count
    started: Count = 0
    processed: Count = 0


class _Progress(Struct):
    total: _Counters
    current: _Counters


class _Batches(_Progress):
    is_last_batch: bool


class _Optimizers(Struct):
    step: _Progress
    zero_grad: _Progress


class _OptimizerProgress(Struct):
    optimizer: _Optimizers


class _Function(Struct):
    name: str
    code: str | None
    python: str
    holds: dict[str, Any]


class _Place(Struct):
    epoch: Count
    batch: Count
    samples: Count = 0
    batch_size: Count = 0
    world_size: Count = 1
    seed: int = 0
    drop_last: bool = False
    order: str = ""
    groups: str = ""
    contents: dict[str, list[tuple[str, str, str | list[float]]]] = {}
    collate_fn: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.collate_fn:  # empty where it is not compared
            msgspec.convert(self.collate_fn, _Function, dec_hook=_of_leaf)


class _Loaders(Struct):
    combined_loader: Annotated[list[_Place], Meta(min_length=1)]


class _Stepped(Struct, rename={"stepped": "_batches_that_stepped"}):
    stepped: Count = 0


class _FitLoop(
    Struct,
    rename={
        "epochs": "epoch_progress",
        "stepped": "epoch_loop.state_dict",
        "batches": "epoch_loop.batch_progress",
        "automatic": "epoch_loop.automatic_optimization.optim_progress",
        "automatic_state": "epoch_loop.automatic_optimization.state_dict",
        "manual": "epoch_loop.manual_optimization.optim_step_progress",
        "manual_state": "epoch_loop.manual_optimization.state_dict",
        "scheduled": "epoch_loop.scheduler_progress",
        "validated": "epoch_loop.val_loop.batch_progress",
        "validation_state": "epoch_loop.val_loop.state_dict",
    },
):
    state_dict: _Loaders
    epochs: _Progress
    stepped: _Stepped
    batches: _Batches
    automatic: _OptimizerProgress
    manual: _Progress
    scheduled: _Progress
    validated: _Batches
    automatic_state: dict[str, Any] = {}
    manual_state: dict[str, Any] = {}
    validation_state: dict[str, Any] = {}


class _Loops(Struct):
    fit_loop: _FitLoop


class _ParameterGroup(Struct):
    params: list[Any]


class _OptimizerState(Struct):
    """As torch's optimizers have it; others may have neither."""

    state: dict[Any, Any] = {}
    param_groups: list[_ParameterGroup] = []


class _History(Struct):
    names: list[str]
    step: torch.Tensor
    name: torch.Tensor
    value: torch.Tensor


class _UnderWay(Struct):
    fx: str
    name: str
    prog_bar: bool
    logger: bool
    on_step: bool
    on_epoch: bool
    enable_graph: bool
    metric_attribute: str | None
    reduce_fx: Literal["mean", "sum", "min", "max"]
    sync: tuple[bool, bool]
    value: torch.Tensor | None
    count: torch.Tensor | None
    forward: torch.Tensor | None
    has_reset: bool
    updates: Count
    reset_to: torch.dtype | None = None


_Kind = Literal["plain", "own", "grown", "moved", "link", "gone"]


class _Held(Struct):
    # where it is, under which name, its kind, whether the object is another one, whose object it is, its content
    entries: dict[str, tuple[str, Any, _Kind, bool, str | None, Any]]
    begun: bool
    metrics: list[str]
    sharing: list[list[Any]] = []


class _Metrics(Struct):
    under_way: list[_UnderWay]
    first_batch: bool
    hook: str | None
    callback: dict[str, Any]
    logged: dict[str, Any]
    bar: dict[str, Any]
    validated: dict[Count, Count] = {}
    held: _Held | None = None
    modules: dict[str, Any] = {}


class _BuiltOptimizer(Struct, rename={"kind": "class"}):
    kind: str
    groups: list[dict[str, Any]]


class _BuiltSchedule(Struct, rename={"kind": "class"}):
    kind: str
    state: dict[str, Any]
    functions: dict[str, Any] = {}


class _Built(Struct, forbid_unknown_fields=True):
    optimizers: list[_BuiltOptimizer]
    schedules: list[_BuiltSchedule]


class _Options(Struct, forbid_unknown_fields=True):
    """Options of the Trainer; whatever else stood here would be set on it, too."""

    accumulate_grad_batches: Annotated[int, Meta(ge=1)] = 1
    check_val_every_n_epoch: Count | None = None
    gradient_clip_algorithm: str | None = None
    gradient_clip_val: int | float | None = None
    limit_val_batches: int | float | None = None
    log_every_n_steps: Count = 0
    val_check_batch: int | float | None = None


class _Exact(Struct):
    grown: dict[str, list[Count] | None]
    switches: _Switches
    first_switches: _Switches
    built: _Built
    groups: _Groups
    first_groups: _Groups
    own: list[dict[str, None | bool | int | float | str]]
    options: _Options
    gradients: dict[str, torch.Tensor]


class _Ours(Struct):
    history: _History
    metrics: _Metrics
    best: float | None
    exact: _Exact | None = None
    metrics_of_others: list[_Metrics] = []


class _Form(Struct, rename={"lightning": "pytorch-lightning_version"}):
    epoch: Count
    global_step: Count
    lightning: _Version
    state_dict: dict[str, Any]
    loops: _Loops
    optimizer_states: list[_OptimizerState]
    lr_schedulers: list[dict[str, Any]]
    nbkit: _Ours
    callbacks: dict[str, Any] = {}


class Reader:
    """Read checkpoints whose bytes agree with their receipts, and remember which of them are none."""

    def __init__(self) -> None:
        self.read: dict[Path, dict[str, Any]] = {}
        self._faults: dict[str, str] = {}  # by SHA-256, as the store has mostly the same as the folder

    def fault(self, receipt: Receipt, path: Path) -> str | None:
        """Return in which way a file is no checkpoint of its receipt; else keep what it holds in `read`.

        Raises
        ------
        NbkitError
            If another version of torch wrote it and this one cannot read it, or the disk or the memory fails.
        """
        if receipt.sha256 not in self._faults:
            try:
                checkpoint = load_checkpoint(path, receipt.versions.get("torch", ""))
                if (fault := form_fault(checkpoint, receipt)) is None:
                    self.read[path] = checkpoint
                    return None
                self._faults[receipt.sha256] = (
                    f"{path} is damaged: its bytes agree with its receipt, but it is not a checkpoint ({fault})"
                )
            except DamagedError as error:
                self._faults[receipt.sha256] = str(error)
        return self._faults[receipt.sha256]


def form_fault(checkpoint: Any, receipt: Receipt) -> str | None:
    """Return in which way a loaded file has not the form of a checkpoint; None if it has."""
    try:
        form = msgspec.convert(_with_leaves(checkpoint), _Form, dec_hook=_of_leaf)
    except (ValueError, TypeError, RecursionError) as error:
        return shortened(str(error))
    place, step = (form.epoch, form.global_step), receipt.step
    if place != (receipt.epoch, step):
        return f"it is of epoch {place[0]} and step {place[1]}, its receipt says {receipt.epoch} and {step}"
    others = len(form.nbkit.metrics_of_others) + 1
    if others != receipt.world_size:
        return f"it has the metrics of {others} process(es), its receipt says {receipt.world_size}"
    return _history_fault(form.nbkit.history)


class _Leaf:
    """A tensor or a dtype, which JSON does not have. A bare tensor would pass for a list, or for names with values."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _with_leaves(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _with_leaves(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_with_leaves(value) for value in tree]
    return _Leaf(tree) if isinstance(tree, torch.Tensor | torch.dtype) else tree


def _of_leaf(wanted: type, leaf: Any) -> Any:
    value = leaf.value if isinstance(leaf, _Leaf) else leaf
    if not isinstance(value, wanted):
        raise TypeError(f"Expected `{wanted.__name__}`, got `{type(value).__name__}`")
    return value


def _history_fault(history: _History) -> str | None:
    columns = (history.step, torch.int64), (history.name, torch.int32), (history.value, torch.float64)
    if any(column.dim() != 1 or column.dtype != dtype for column, dtype in columns):
        return "a column of its history has another form"
    if len({len(column) for column, _ in columns}) != 1:
        return "the columns of its history have different lengths"
    which = history.name
    if len(which) and not (0 <= int(which.min()) and int(which.max()) < len(history.names)):
        return "its history has values without a name"
    return None
