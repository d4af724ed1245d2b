"""Per-epoch scores and the best checkpoint of the Band-VAR training command."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import grad_norm

from nbkit.ground.files import write_atomically


class KeepEpochs(lightning.Callback):
    """Print the scores of each epoch and save the model with the lowest validation error.

    ``best.pt`` is one checkpoint that includes the optimizer state. It is replaced atomically, so that a kill never
    leaves a damaged file.

    Parameters
    ----------
    path : Path
        Where to write ``best.pt``.
    held : dict or None
        Checkpoint to resume from.
    log_interval : int
        Steps between printed lines; 0 prints none.

    Attributes
    ----------
    epoch, step : int
        Completed epochs and steps, including those before the checkpoint.
    best : float
        Lowest validation error so far (``val_mse_all``), in uV^2.
    history : list of dict
        One row of scores for each epoch of this run.
    """

    def __init__(self, path: Path, held: dict[str, Any] | None, log_interval: int) -> None:
        self.path, self.held, self.log_interval = path, held, log_interval
        self.epoch, self.step = (held["epoch"], held["step"]) if held else (0, 0)
        self.best, self.history = math.inf, []
        self._losses: list[float] = []
        self._norms: list[float] = []

    def keep(self, module: Any, optimizer: dict[str, Any]) -> None:
        """Write the module and the optimizer state to ``best.pt``."""
        content = {
            **module.description(), "bandvar": module.description(), "state_dict": module.state_dict(),
            "optimizer": optimizer, "epoch": self.epoch, "step": self.step, "val_loss": self.best,
        }  # fmt: skip
        write_atomically(self.path, lambda file: torch.save(content, file))

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if self.held is None:
            return
        optimizer, settings = trainer.optimizers[0], pl_module.settings
        optimizer.load_state_dict(self.held["optimizer"])
        for group in optimizer.param_groups:  # use the learning rate and decay of this run, not of the checkpoint
            group["lr"], group["weight_decay"] = settings.lr, settings.weight_decay

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._losses, self._norms, self._began = [], [], time.monotonic()

    def on_before_optimizer_step(self, trainer: lightning.Trainer, pl_module: Any, optimizer: Any) -> None:
        self._norms.append(float(grad_norm(pl_module.model, 2)["grad_2.0_norm_total"]))

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        self._losses.append(float(outputs["loss"]))
        self.step += 1
        if self.log_interval and self.step % self.log_interval == 0:
            last, norm = self._losses[-1], self._norms[-1]
            print(f"Step {self.step}: train_loss {last:.6g}, gradient norm {norm:.3g}", flush=True)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.epoch += 1
        scores = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val_")}
        row = {
            "epoch": self.epoch, "step": self.step, "train_loss": sum(self._losses) / len(self._losses),
            "val_loss": scores["val_mse_all"], "grad_norm": sum(self._norms) / len(self._norms),
            "seconds": round(time.monotonic() - self._began, 3), **scores,
        }  # fmt: skip
        self.history.append(row)
        print(
            f"Epoch {self.epoch}: train_loss {row['train_loss']:.6g}, val_loss {row['val_loss']:.6g}, one-step skill "
            f"against persistence {scores['val_skill_persistence']:+.4f}, against zero {scores['val_skill_zero']:+.4f}",
            flush=True,
        )
        if row["val_loss"] < self.best:
            self.best = row["val_loss"]
            self.keep(pl_module, trainer.optimizers[0].state_dict())
