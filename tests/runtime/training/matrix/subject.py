"""The modules of the matrix: one small network in the kinds that users make of it, trained in each of the ways."""

from __future__ import annotations

import collections
import copy
import random
from typing import Any

import lightning
import numpy as np
import torch
import torchmetrics
from torch.nn.functional import mse_loss

from tests.runtime.training.matrix.factors import make_scheduler

MODULES = (
    "plain", "noise", "torchmetrics", "running metric", "minmax metric", "curriculum", "unfreezes", "freezes norm",
    "generator", "numpy generator", "attribute", "list until the epoch's end", "growing buffer", "adds a group",
    "draws in hooks", "moving average", "clips", "spectral norm", "epoch in the loss", "lazy", "shared weights",
    "counts in hooks", "draws everywhere", "skips batches", "ends the epoch early", "ends by itself", "rate by hand",
    "class attribute", "hyperparameters", "late model", "toggles", "nested objects", "weight norm", "stateful extra",
)  # fmt: skip
OPTIMIZATIONS = (
    "automatic", "manual", "manual, two of different rhythm", "accumulated", "accumulated by a schedule", "L-BFGS",
    "manual, accumulated", "two groups", "amsgrad", "momentum",
)  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "bf16": {"precision": "bf16-mixed"},
    "double": {"precision": "64-true"},
    "clips values": {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"},
    "half an epoch": {"limit_train_batches": 0.5},
    "three batches": {"limit_train_batches": 3},
    "sanity": {"num_sanity_val_steps": 2},
    "anomalies": {"detect_anomaly": True},
    "logs each step": {"log_every_n_steps": 1},
    "saves each epoch": {"save_each_epoch": True},
    "best": {"monitor": "val_loss"},
    "deterministic": {"deterministic": True},
}
VALIDATIONS = ("each epoch", "none", "within an epoch", "every 3 batches", "every 2nd epoch", "two loaders")


class Subject(lightning.LightningModule):
    """A regression of a backbone and a head, trained in one of the ways and kinds of the matrix."""

    seen_by_all = 0

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.seen_extra = 0
        self.cell, self.lr = cell, 1e-2
        self.automatic_optimization = not cell.optimization.startswith("manual")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            noisy = cell.module in ("noise", "freezes norm", "draws in hooks")
            inner = [torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.2)] if noisy else [torch.nn.Tanh()]
            first = torch.nn.LazyLinear(6) if cell.module == "lazy" else torch.nn.Linear(4, 6)
            if cell.module == "spectral norm":
                first = torch.nn.utils.parametrizations.spectral_norm(first)
            self.backbone = torch.nn.Sequential(first, *inner)
            self.head = torch.nn.Linear(6, 1)
            if cell.module == "lazy":
                self.backbone(torch.zeros(2, 4))
            self._kind(cell.module)
            if cell.module == "late model":
                del self.head

    def configure_model(self) -> None:
        if self.cell.module == "late model" and not hasattr(self, "head"):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(8)
                self.head = torch.nn.Linear(6, 1)

    def get_extra_state(self) -> Any:
        return {"seen": self.seen_extra} if self.cell.module == "stateful extra" else None

    def set_extra_state(self, state: Any) -> None:
        if state:
            self.seen_extra = state["seen"]

    def _kind(self, kind: str) -> None:
        if kind == "torchmetrics":
            self.error, self.far = torchmetrics.MeanSquaredError(), torchmetrics.MaxMetric()
        elif kind == "running metric":
            self.error = torchmetrics.wrappers.Running(torchmetrics.MeanSquaredError(), window=3)
        elif kind == "minmax metric":
            self.error = torchmetrics.wrappers.MinMaxMetric(torchmetrics.MeanSquaredError())
        elif kind == "curriculum":
            self.share = 0.0
        elif kind == "generator":
            self.generator = torch.Generator().manual_seed(5)
        elif kind == "numpy generator":
            self.generator = np.random.default_rng(5)
        elif kind == "attribute":
            self.running = 1.0
        elif kind == "list until the epoch's end":
            self.losses: list[torch.Tensor] = []
        elif kind == "growing buffer":
            self.register_buffer("bank", torch.zeros(0, 1))
        elif kind == "class attribute":
            Subject.seen_by_all = 0
        elif kind == "hyperparameters":
            self.save_hyperparameters({"width": 6, "name": "tiny"})
        elif kind == "nested objects":
            self.book = {"losses": collections.deque(maxlen=3), "seen": collections.Counter(), "at": [0, {"n": 0.0}]}
        elif kind == "weight norm":
            self.head = torch.nn.utils.parametrizations.weight_norm(self.head)
        elif kind == "moving average":
            self.average = copy.deepcopy(self.head).requires_grad_(False)
        elif kind == "counts in hooks":
            self.register_buffer("counts", torch.zeros(8))
        elif kind == "shared weights":
            self.twin = torch.nn.Linear(6, 1)
            self.twin.weight = self.head.weight

    # -- what a step computes -----------------------------------------------------------------------------------------

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        out = self.backbone(x)
        return (self.head(out) + self.twin(out)).squeeze(-1) if hasattr(self, "twin") else self.head(out).squeeze(-1)

    def loss_of(self, batch: Any) -> torch.Tensor:
        if isinstance(batch, dict):
            batch = list(batch.values())
        if isinstance(batch[0], list | tuple):
            batch = [torch.cat([b[i] for b in batch if b is not None]) for i in (0, 1)]
        x, y = batch[:2]
        kind = self.cell.module
        if kind == "noise":
            x = x + 0.05 * torch.randn_like(x)
        elif kind == "generator":
            x = x + 0.05 * torch.randn(x.shape, generator=self.generator)
        elif kind == "numpy generator":
            x = x + 0.05 * float(self.generator.normal())
        out = self.predict(x)
        loss = mse_loss(out, y)
        if kind == "curriculum":
            loss = self.share * loss
        elif kind == "attribute":
            self.running = 0.9 * self.running + 0.1 * float(loss.detach())
            loss = loss / (1 + self.running)
        elif kind == "growing buffer":
            loss = loss + self.bank.sum() * 1e-3
            if len(self.bank) < 5:
                self.bank = torch.cat([self.bank, out.detach()[:1, None]])
        elif kind == "class attribute":
            Subject.seen_by_all += 1
            loss = loss * (1 + 0.01 * Subject.seen_by_all)
        elif kind == "stateful extra":
            self.seen_extra += 1
            loss = loss * (1 + 0.01 * self.seen_extra)
        elif kind == "nested objects":
            self.book["losses"].append(float(loss.detach()))
            self.book["seen"][len(x)] += 1
            self.book["at"][1]["n"] += 0.01
            loss = loss * (1 + sum(self.book["losses"]) + self.book["at"][1]["n"] + self.book["seen"][2])
        elif kind == "epoch in the loss":
            loss = loss * (1 + self.current_epoch + 0.01 * self.global_step)
        elif kind in ("torchmetrics", "running metric", "minmax metric"):
            self.error(out.detach(), y)
            if kind == "minmax metric":
                self.log_dict(self.error.compute(), on_step=True, on_epoch=False)
            else:
                self.log("error", self.error, on_step=kind == "running metric", on_epoch=True)
            if kind == "torchmetrics":
                self.far.update(out.detach().abs().max())
        elif kind == "list until the epoch's end":
            self.losses.append(loss.detach())
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor | None:
        how = self.cell.optimization
        if how == "manual, two of different rhythm":
            return self._two_rhythms(batch, batch_idx)
        loss = self.loss_of(batch)
        self.log("loss", loss.detach(), on_step=True, on_epoch=True, batch_size=4)
        if self.automatic_optimization:
            return None if self.cell.module == "skips batches" and batch_idx % 4 == 1 else loss
        optimizer = self.optimizers()
        if how == "manual":
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self._step_schedulers("step", loss, batch_idx + 1)
        else:  # zeroed after the step, as users gather
            self.manual_backward(loss / 3)
            if (batch_idx + 1) % 3 == 0:
                optimizer.step()
                optimizer.zero_grad()
                self._step_schedulers("step", loss, batch_idx + 1)
        return None

    def _two_rhythms(self, batch: Any, batch_idx: int) -> None:
        slow, fast = self.optimizers()
        if self.cell.module == "toggles":
            self.toggle_optimizer(fast)
        loss = self.loss_of(batch)
        self.log("loss", loss.detach(), on_step=True, on_epoch=True, batch_size=4)
        self.manual_backward(loss)
        fast.step()
        fast.zero_grad()
        if (batch_idx + 1) % 3 == 0:  # gathers over three batches, over the end of an epoch too
            slow.step()
            slow.zero_grad()
        if self.cell.module == "toggles":
            self.untoggle_optimizer(fast)
        self._step_schedulers("step", loss, batch_idx + 1)

    def _step_schedulers(self, interval: str, metric: Any, number: int) -> None:
        schedulers = self.lr_schedulers()
        schedulers = schedulers if isinstance(schedulers, list) else [schedulers] if schedulers else []
        every = 3 if "3rd" in self.cell.interval else 2 if "2nd" in self.cell.interval else 1
        if self.cell.unit != interval or number % every:
            return
        for one in schedulers:
            if isinstance(one, torch.optim.lr_scheduler.ReduceLROnPlateau):
                one.step(float(metric))
            else:
                one.step()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        x, y = batch[:2]
        name = "val_loss" if dataloader_idx == 0 else "val_other"
        self.log(name, mse_loss(self.predict(x), y), batch_size=len(x), add_dataloader_idx=False)

    # -- what happens between steps -----------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        kind, epoch = self.cell.module, self.current_epoch
        if kind == "curriculum":
            self.share = min(1.0, 0.25 + 0.25 * epoch)
        elif kind == "unfreezes":
            self.backbone.requires_grad_(epoch >= 1)
        elif kind == "freezes norm":
            self.backbone[1].eval()
        elif kind == "draws in hooks":
            self.head.bias.data.add_(0.01 * torch.randn(1))
        elif kind == "adds a group" and epoch == 1 and not self.cell.optimization.startswith("manual, two"):
            optimizer = self.optimizers().optimizer if not self.automatic_optimization else self.trainer.optimizers[0]
            optimizer.add_param_group({"params": [*self.head.parameters()], "lr": 2e-3})
        elif kind == "rate by hand":
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = 1e-2 / (1 + epoch)
        self._count(0)

    def _count(self, place: int) -> None:
        if self.cell.module == "counts in hooks":
            self.counts[place] += 1
            self.head.bias.data.add_(1e-3 * (place + 1))
        elif self.cell.module == "draws everywhere":
            self.head.bias.data.add_(1e-2 * torch.randn(1) + 1e-2 * random.random() + 1e-2 * np.random.normal())

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        self._count(1)
        kind, epoch = self.cell.module, self.current_epoch
        return -1 if kind == "ends the epoch early" and epoch % 2 and batch_idx == 2 else None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._count(2)
        if self.cell.module == "ends by itself" and self.current_epoch == 2 and batch_idx == 1:
            self.trainer.should_stop = True
        if self.cell.module == "moving average":
            for ours, theirs in zip(self.average.parameters(), self.head.parameters(), strict=True):
                ours.data.lerp_(theirs.data, 0.1)

    def on_validation_epoch_end(self) -> None:
        self._count(3)

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self._count(4)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self._count(5)
        if self.cell.module == "draws in hooks":
            for one in self.parameters():
                if one.grad is not None:
                    one.grad.add_(0.01 * torch.randn_like(one))

    def on_train_epoch_end(self) -> None:
        self._count(6)
        self.log("epochs", float(self.current_epoch))
        if self.cell.module == "list until the epoch's end":
            self.log("mean_by_hand", torch.stack(self.losses).mean())
            self.losses.clear()
        if self.cell.module == "torchmetrics":
            self.log("far", self.far.compute())
            self.far.reset()
        if not self.automatic_optimization:
            metrics = self.trainer.callback_metrics
            self._step_schedulers("epoch", metrics.get("val_loss", metrics.get("loss", 1.0)), self.current_epoch + 1)

    # -- optimizers ---------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        how, parameters = self.cell.optimization, [*self.parameters()]
        if self.cell.module == "adds a group":
            parameters = [*self.backbone.parameters()]
        if how == "L-BFGS":
            optimizers = [torch.optim.LBFGS(parameters, lr=0.05, max_iter=3, history_size=4)]
        elif how == "two groups":
            groups = [{"params": [*self.backbone.parameters()]}, {"params": [*self.head.parameters()], "lr": 3e-3}]
            optimizers = [torch.optim.AdamW(groups, lr=1e-2)]
        elif how == "amsgrad":
            optimizers = [torch.optim.Adam(parameters, lr=1e-2, amsgrad=True)]
        elif how == "momentum":
            optimizers = [torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, nesterov=True)]
        elif how == "manual, two of different rhythm":
            parts = (self.backbone, self.head)
            optimizers = [torch.optim.AdamW(part.parameters(), lr=1e-2) for part in parts]
        else:
            optimizers = [torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=1e-2)]
        if self.cell.scheduler == "none":
            return optimizers if len(optimizers) > 1 else optimizers[0]
        return optimizers, [self._scheduler(optimizer) for optimizer in optimizers]

    def _scheduler(self, optimizer: Any) -> dict[str, Any]:
        interval = self.cell.interval
        scheduler = make_scheduler(self.cell.scheduler, optimizer, 60)
        extra = {"name": "rate"} if self.cell.module == "clips" else {}  # many give a name
        every = 3 if "3rd" in interval else 2 if "2nd" in interval else 1
        validates = self.cell.validation in ("each epoch", "two loaders") and self.cell.data != "plain loader"
        monitor = "val_loss" if self.cell.unit == "epoch" and validates else "loss"
        return {"scheduler": scheduler, "interval": self.cell.unit, "frequency": every, "monitor": monitor, **extra}
