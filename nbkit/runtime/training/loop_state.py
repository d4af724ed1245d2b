"""Training-loop state that Lightning's own checkpoint leaves out.

Lightning restores its counters with an offset (one batch "ready" too many, one step logged too many), and it drops the
running means of metrics that are logged by epoch. Both are restored here at the first batch after a resume, to their
values at the save. This is the only file that uses Lightning's internals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

_META = ("fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "metric_attribute")


def place(trainer: Any) -> tuple[int, int]:
    """Return (epoch, batch) of the next batch, as seen before it begins."""
    fit_loop = trainer.fit_loop
    return fit_loop.epoch_progress.current.processed, fit_loop.epoch_loop.batch_progress.current.completed


def epoch_is_over(trainer: Any) -> bool:
    """Return whether Lightning's epoch loop ended because the epoch has no more batches, or its rest is skipped."""
    if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or place(trainer)[1] >= trainer.num_training_batches:
        return True
    return trainer.global_step < trainer.max_steps and not trainer.should_stop


def why_done(trainer: Any) -> str:
    """Return why a training is complete."""
    return "max_steps" if trainer.global_step >= trainer.max_steps else "should_stop"


def batch_in_hand(trainer: Any) -> bool:
    """Return whether a batch has begun and not ended."""
    current = trainer.fit_loop.epoch_loop.batch_progress.current
    return current.ready != current.completed


def validation_ahead(trainer: Any, batch: int, batches: int) -> bool:
    """Return whether one of the next batches triggers a validation."""
    every = trainer.val_check_batch
    if not trainer.enable_validation or not every:
        return False
    if trainer.check_val_every_n_epoch is not None and (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch:
        return False
    done = batch
    if trainer.check_val_every_n_epoch is None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total.ready - batch_in_hand(trainer)
    if every == float("inf"):
        return batch + batches >= trainer.num_training_batches
    return done // every != (done + batches) // every


def ask_for_validation_data(trainer: Any) -> None:
    """Load the validation data now, as Lightning does at the start only where the first epoch has a validation."""
    if trainer.enable_validation and trainer.val_dataloaders is None:
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.setup_data()
        trainer.training = True


def batches_between_validations(trainer: Any) -> float:
    """Return the number of training batches from one validation to the next."""
    every = trainer.val_check_batch
    return float(trainer.num_training_batches if every == float("inf") else every)


def leave_validation(trainer: Any) -> None:
    """Put every part of the module back into the mode that it had before the validation under way."""
    trainer.fit_loop.epoch_loop.val_loop._module_mode.restore(trainer.lightning_module)


def in_front_of_batch(loops: dict[str, Any], epoch: int, batch: int, begun: bool = True) -> None:
    """Set the saved state of the loops to the moment before a batch begins.

    Parameters
    ----------
    loops : dict
        ``checkpoint["loops"]["fit_loop"]``; changed in place.
    epoch, batch : int
        The next batch.
    begun : bool
        Whether ``on_train_epoch_start`` of that epoch has run.
    """
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    for scope in ("total", "current"):
        done = epochs[scope]
        # before a batch exactly `epoch` epochs are complete, whichever hook has saved
        done["completed"] = done["processed"] = epoch
        done["ready"] = done["started"] = epoch + begun
    for counters in loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"].values():
        for scope in ("total", "current"):
            # an optimizer step counts as "ready" when it begins; before a batch none is under way
            counters[scope]["ready"] = counters[scope]["completed"]
    if batches["current"]["ready"] == batches["current"]["completed"]:
        # Lightning reads one "ready" more than "started" as "before a batch"
        batches["total"]["ready"] += 1
    batches["current"].update(ready=batch + 1, started=batch, processed=batch, completed=batch)
    # a save never follows the last batch of an epoch directly: the end of the epoch and its validation come first
    batches["is_last_batch"] = False
    for state in loops["state_dict"].get("combined_loader", ()):
        # the position of the next batch, wherever the loader itself was when Lightning asked it
        state.update(epoch=epoch, batch=batch)


def put_back_counters(trainer: Any, saved: Mapping[str, Any]) -> None:
    """Set all counters of the running loops to those of a checkpoint taken before the same batch.

    Parameters
    ----------
    saved : mapping
        ``checkpoint["loops"]["fit_loop"]``.
    """
    for key, value in saved.items():
        owner, _, name = key.rpartition(".")
        if not owner:
            continue  # epoch counters have no offset, and this epoch may have begun only now
        loop = trainer.fit_loop
        for part in owner.split("."):
            loop = getattr(loop, part, None)
        if loop is None:
            continue
        if name == "state_dict":
            if "_batches_that_stepped" in value:
                loop._batches_that_stepped = value["_batches_that_stepped"]
        elif hasattr(getattr(loop, name, None), "load_state_dict"):
            # Lightning has just computed whether the current batch is the last one of the epoch: keep its answer
            last = getattr(getattr(loop, name), "is_last_batch", None)
            getattr(loop, name).load_state_dict(value)
            if last is not None and loop is trainer.fit_loop.epoch_loop:
                getattr(loop, name).is_last_batch = last
    # Lightning treats the whole first epoch as restarted, and at its end steps no scheduler of interval "epoch" that
    # watches a metric; from here on the loops are those of a run that was never interrupted
    fit_loop = trainer.fit_loop
    for loop in (fit_loop, fit_loop.epoch_loop, fit_loop.epoch_loop.val_loop):
        loop.on_iteration_done()


def running_metrics(trainer: Any) -> dict[str, Any]:
    """Return the running means and the last values of all logged metrics, as plain tensors."""
    connector, results = trainer._logger_connector, trainer.fit_loop.epoch_loop._results
    under_way = []
    for metric in results.values():
        meta = metric.meta
        entry = {name: getattr(meta, name) for name in _META}
        entry["reduce_fx"] = meta.reduce_fx.__name__
        entry["sync"] = [meta.sync.should, meta.sync.rank_zero_only]
        # a torchmetrics object is found again by its name in the module; `Held` keeps its state
        entry["value"] = metric.value if metric.is_tensor else None
        entry["reset_to"] = metric._defaults["value"].dtype if metric.is_tensor else None
        entry["count"] = getattr(metric, "cumulated_batch_size", None)
        entry["forward"] = metric._forward_cache if isinstance(metric._forward_cache, torch.Tensor) else None
        entry["has_reset"], entry["updates"] = metric.has_reset, metric._update_count
        under_way.append(entry)
    return {
        "under_way": under_way,
        "first_batch": connector._first_loop_iter,
        "hook": connector._current_fx,
        "callback": dict(connector._callback_metrics),
        "logged": dict(connector._logged_metrics),
        "bar": dict(connector._progress_bar_metrics),
        # validation batches so far: the steps at which metrics of single validation batches are logged
        "validated": dict(trainer.fit_loop.epoch_loop.val_loop._seen_batches_per_dataloader),
    }


def put_back_metrics(trainer: Any, saved: Mapping[str, Any]) -> None:
    """Set the running means to those of a checkpoint."""
    connector, results = trainer._logger_connector, trainer.fit_loop.epoch_loop._results
    device = trainer.strategy.root_device
    results.clear()
    for entry in saved["under_way"]:
        should, rank_zero_only = entry["sync"]
        if entry["value"] is None:
            value = _found(trainer.lightning_module, entry["metric_attribute"])
            if value is None:
                continue
        else:
            value = torch.zeros((), dtype=entry["value"].dtype, device=device)
        results.log(
            entry["fx"],
            entry["name"],
            value,
            batch_size=1,
            reduce_fx=getattr(torch, entry["reduce_fx"]),
            sync_dist=should,
            sync_dist_fn=trainer.strategy.reduce,
            rank_zero_only=rank_zero_only,
            **{name: entry[name] for name in _META if name not in ("fx", "name")},
        )
        metric = results[f"{entry['fx']}.{entry['name']}"]
        # drop what was cached for the placeholder that was logged above
        metric._computed = None
        if entry["value"] is not None:
            metric.value = entry["value"].to(device)
            if (dtype := entry.get("reset_to")) is not None:  # double precision began with doubles, and goes on so
                metric._defaults["value"] = metric._defaults["value"].to(dtype)
        if entry["count"] is not None:
            metric.cumulated_batch_size = entry["count"].to(device)
        metric._forward_cache = None if entry["forward"] is None else entry["forward"].to(device)
        metric.has_reset, metric._update_count = entry["has_reset"], entry["updates"]
    # by these two Lightning recognizes the first batch of an epoch, where it resets running means
    connector._first_loop_iter, connector._current_fx = saved["first_batch"], saved["hook"]
    connector._callback_metrics.update(_on(saved["callback"], device))
    connector._logged_metrics.update(_on(saved["logged"], device))
    connector._progress_bar_metrics.update(saved["bar"])
    if saved.get("validated"):
        val_loop = trainer.fit_loop.epoch_loop.val_loop
        trainer.validating = True
        val_loop.setup_data()  # now, as it would clear the count later
        trainer.training = True
        val_loop._seen_batches_per_dataloader.update(saved["validated"])
    # older checkpoints hold the states of metrics here, not with all other attributes
    for path, metric in _metric_modules(trainer.lightning_module) if "modules" in saved else ():
        if path in saved["modules"]:
            _set_metric_state(metric, saved["modules"][path], device)


def on_cpu(value: Any) -> Any:
    """Return a tree of metrics with its tensors on the CPU, so that they can be sent to another process."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {name: on_cpu(item) for name, item in value.items()}
    return [on_cpu(item) for item in value] if isinstance(value, list) else value


def unsynced(trainer: Any) -> list[str]:
    """Return the names of training metrics that are logged without syncing between processes."""
    results = trainer.fit_loop.epoch_loop._results.values()
    return sorted({m.meta.name for m in results if m.is_tensor and m.meta.logger and not m.meta.sync.should})


def leave_stopping_to_us(trainer: Any) -> None:
    """Disable Lightning's own broadcasts of SIGTERM between processes.

    One runs inside the signal handler, while another collective may be running; the other waits for the GPU before
    every batch.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None


def _on(values: Mapping[str, Any], device: Any) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in values.items()}


def _found(module: Any, attribute: str | None) -> Any:
    return dict(module.named_modules()).get(attribute)


def _metric_modules(module: Any) -> Iterator[tuple[str, Any]]:
    from torchmetrics import Metric

    for path, part in module.named_modules():
        if isinstance(part, Metric):
            yield path, part


def _set_metric_state(metric: Any, saved: Mapping[str, Any], device: Any) -> None:
    for name, value in saved["states"].items():
        on_device = [v.to(device) for v in value] if isinstance(value, list) else value.to(device)
        setattr(metric, name, on_device)
    metric._update_count, metric._computed = saved["updates"], None


def logged_in_validation(trainer: Any) -> set[str]:
    """Return the names of the metrics that the validation which ends has logged."""
    return set(trainer.fit_loop.epoch_loop.val_loop._results.metrics(on_step=False)["callback"])
