"""Train a network with some of its weights frozen, and leave it at its best step.

Everything random is drawn from the seed: a training that was killed and is begun again ends with the same bits. The
weights are looked at before the first step too, so there is always a best one; steps whose gradient is not finite are
skipped, counted and said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.decoding.models.foundation import PRECISIONS, autocast
from nbkit.neuro.nn.lora import dead_adapters, lora_parameters
from nbkit.neuro.training.brief import BestStep, fit_once, one_device
from nbkit.neuro.training.rates import cosine_rate

_AT_ONCE = 256  # windows of a forward pass without gradients
_ENOUGH_BAD = 10  # steps without a finite gradient, one after the other, after which a training is given up


@dataclass(frozen=True)
class FineTuneSettings:
    """Sizes of a finetuning.

    Parameters
    ----------
    steps, batch_size : int
    head_rate, backbone_rate : float
        Peak learning rates of the head, and of the backbone's weights or adapters.
    weight_decay : float
        Of matrices.
    warmup_steps : int
    grad_clip : float
        Norm above which gradients are scaled down.
    r, alpha : int
        Rank of the LoRA matrices and their scale, alpha / r.
    dropout : float
        On the way into the LoRA matrices.
    val_fraction : float
        Share of the training side on which the best step is chosen.
    val_every : int
        Steps between looks at it.
    precision : {"auto", "fp32", "fp16", "bf16"}
        auto: fp32 on a CPU; on a card bf16 where it has it (2020 and later), else fp16.
    """

    steps: int = 400
    batch_size: int = 64
    head_rate: float = 1e-3
    backbone_rate: float = 1e-4
    weight_decay: float = 0.05
    warmup_steps: int = 20
    grad_clip: float = 1.0
    r: int = 16
    alpha: int = 32
    dropout: float = 0.05
    val_fraction: float = 0.2
    val_every: int = 20
    precision: str = "auto"

    @classmethod
    def smoke(cls) -> FineTuneSettings:
        """Sizes of seconds on a CPU."""
        return cls(steps=4, batch_size=8, warmup_steps=1, r=4, alpha=8, val_every=4)

    @classmethod
    def free(cls) -> FineTuneSettings:
        """Sizes of one 16 GB card."""
        return cls()

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.val_every, self.r) < 1:
            raise ValueError(
                f"steps={self.steps}, batch_size={self.batch_size}, val_every={self.val_every}, r={self.r}; each is 1 "
                "or more."
            )
        if self.precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision {self.precision!r} is none of auto, {', '.join(PRECISIONS)}.")


@dataclass
class Trained:
    """What a training was.

    Attributes
    ----------
    history : list of dict
        A row a step: ``step``, ``train_loss``, ``grad_norm``, ``rate``, at some ``val_loss``.
    best_step : int
        0 where no step was better than the start.
    best_loss : float
        On the windows that the step is chosen on.
    weights : dict of str to Tensor
        Those that were trained, at the best step, and the running statistics beside them.
    diagnostics : dict
        See `diagnose`.
    """

    history: list[dict[str, float]]
    best_step: int
    best_loss: float
    weights: dict[str, Tensor]
    diagnostics: dict[str, Any] = field(default_factory=dict)


def precision_of(precision: str, device: torch.device) -> tuple[str, str]:
    """Return a precision that "auto" stands for, and why.

    Parameters
    ----------
    precision : {"auto", "fp32", "fp16", "bf16"}
    device : torch.device

    Returns
    -------
    precision : {"fp32", "fp16", "bf16"}
    why : str
    """
    if precision != "auto":
        return precision, "as asked for"
    if device.type != "cuda":
        return "fp32", f"on a {device.type}"
    if torch.cuda.get_device_capability(device)[0] >= 8:
        return "bf16", "the card has bfloat16"
    return "fp16", "the card has no bfloat16"


def train(
    network: nn.Module,
    windows: np.ndarray,
    target: np.ndarray,
    chosen_on: tuple[np.ndarray, np.ndarray],
    settings: FineTuneSettings,
    *,
    head: Sequence[str],
    classes: int,
    seed: int,
    device: str = "cpu",
) -> Trained:
    """Train the weights that have ``requires_grad`` and put the network back to its best step.

    Parameters
    ----------
    network : nn.Module
        From windows to (windows, outputs); modules without a weight to train stay in evaluation.
    windows : ndarray of shape (windows, channels, time)
        As the network takes them.
    target : ndarray of shape (windows,)
        Class numbers, or values of about unit variance.
    chosen_on : (train, val)
        Positions to train on, and to choose the step on.
    settings : FineTuneSettings
    head : sequence of str
        Names of the weights that take the head's rate.
    classes : int
        0 for a regression; classes weigh the same however many windows they have.
    seed : int
    device : str
    """
    place, (fit_on, val_on) = torch.device(device), chosen_on
    precision, _ = precision_of(settings.precision, place)
    network.to(place)
    inputs = torch.as_tensor(np.ascontiguousarray(windows), dtype=torch.float32)
    wanted = torch.as_tensor(target, dtype=torch.long if classes else torch.float32)
    loss_of = _Loss(_class_weights(target[fit_on], classes).to(place) if classes else None)
    module = _Training(network, loss_of, settings, set(head), precision)
    moved = module.trained | _running_statistics(network)

    def val_loss() -> float:
        return float(loss_of(forward(network, inputs[val_on], place, precision), wanted[val_on].to(place)))

    best = BestStep(val_loss, settings.val_every, moved)
    batches = ((inputs[batch], wanted[batch]) for batch in _batches(fit_on, settings, seed))
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        fit_once(
            module, batches, steps=settings.steps, callbacks=[best], **one_device(device),
            precision="16-mixed" if precision == "fp16" else "32-true",  # for the scaler; the network casts itself
        )  # fmt: skip
    network.to(place).eval()
    rows = {0: {"step": 0}} | {row["step"]: row for row in module.rows}
    for step, loss in best.losses.items():
        rows[step]["val_loss"] = loss
    history = list(rows.values())
    return Trained(history, best.step, best.lowest, best.kept, diagnose(history, best.step, settings, module.dead))


class _Training(lightning.LightningModule):
    """Train those weights of a network that have ``requires_grad``, by AdamW.

    Attributes
    ----------
    trained : dict of str to Parameter
    rows : list of dict
        ``step``, ``train_loss``, ``grad_norm`` and ``rate`` of each step.
    dead : list of str
        Adapter matrices without a gradient.
    """

    def __init__(
        self, network: nn.Module, loss_of: _Loss, settings: FineTuneSettings, head: set[str], precision: str
    ) -> None:
        super().__init__()
        self.network, self.loss_of, self.settings, self.head = network, loss_of, settings, head
        self.half = precision
        self.trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        self.rows: list[dict[str, float]] = []
        self.dead: list[str] = []
        self._bad = 0

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = _optimizer(self.network, self.head, self.settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate_at)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate_at(self, step: int) -> float:
        """Return the share of the peak rates at a step, from 0."""
        return cosine_rate(step, self.settings.steps, self.settings.warmup_steps, 0.0)

    def on_train_start(self) -> None:
        _training_mode(self.network)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        windows, wanted = batch
        with autocast(self.device, self.half), _as_written(self.network):
            outputs = self.network(windows)
        loss = self.loss_of(outputs.float(), wanted)
        self.rows.append({"step": len(self.rows) + 1, "train_loss": float(loss.detach())})
        return loss

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        """Clip the gradients, note their norm, and skip a step that is not finite."""
        row, scaler = self.rows[-1], getattr(self.trainer.precision_plugin, "scaler", None)
        if row["step"] <= 2 and lora_parameters(self.network):  # at the second, A has its gradient as well as B
            self.dead = dead_adapters(self.network)
        row["grad_norm"] = float(nn.utils.clip_grad_norm_(self.trained.values(), self.settings.grad_clip))
        row["rate"] = self.rate_at(row["step"] - 1)
        finite = math.isfinite(row["grad_norm"]) and math.isfinite(row["train_loss"])
        self._bad = 0 if finite else self._bad + 1
        if not finite and scaler is None:  # a scaler skips such a step by itself
            optimizer.zero_grad(set_to_none=True)
        self.trainer.should_stop = self._bad >= _ENOUGH_BAD


def forward(network: nn.Module, inputs: Any, device: torch.device | str, precision: str = "fp32") -> Tensor:
    """Return a network's outputs without gradients, some windows at a time, in evaluation, in float32."""
    place = torch.device(device)
    network.eval()
    made = []
    with torch.inference_mode(), autocast(place, precision), _as_written(network):
        for part in torch.as_tensor(inputs, dtype=torch.float32).split(_AT_ONCE):
            made.append(network(part.to(place)).float())
    return torch.cat(made)


def diagnose(
    history: Sequence[dict[str, float]], best_step: int, settings: FineTuneSettings, dead: Sequence[str] = ()
) -> dict[str, Any]:
    """Say what went wrong in a training, if anything did.

    Returns
    -------
    diagnostics : dict
        ``steps``, ``nonfinite_steps`` (positions), ``grad_norm_median``, ``grad_norm_max``, ``clipped`` (share of
        steps), ``best_step``, ``dead_adapters`` (names), ``words`` (a line for each thing to worry about; empty where
        there is none).
    """
    steps = [row for row in history if "train_loss" in row]
    norms = np.array([row["grad_norm"] for row in steps])
    finite = norms[np.isfinite(norms)]
    bad = [int(row["step"]) for row in steps if not np.isfinite([row["train_loss"], row["grad_norm"]]).all()]
    clipped = float((finite > settings.grad_clip).mean()) if len(finite) else 0.0
    words = []
    if bad:
        words.append(f"{len(bad)} of {len(steps)} steps had a loss or gradient that is not finite, first step {bad[0]}")
    if len(steps) < settings.steps:
        words.append(f"given up at step {len(steps)} of {settings.steps}: {_ENOUGH_BAD} such steps one after the other")
    if best_step == 0:
        words.append("no step was better than the untrained start on the windows that the step is chosen on")
    if len(finite) and finite.max() == 0:
        words.append("all gradients are zero: nothing that is trained reaches the output")
    if dead:
        words.append(
            f"{len(dead)} adapter matrices got no gradient, {dead[0]} among them: they are not part of the model"
        )
    return {
        "dead_adapters": list(dead), "steps": len(steps), "nonfinite_steps": bad, "best_step": best_step,
        "clipped": clipped,
        "grad_norm_median": float(np.median(finite)) if len(finite) else float("nan"),
        "grad_norm_max": float(finite.max()) if len(finite) else float("nan"), "words": words,
    }  # fmt: skip


class _Loss:
    """Cross-entropy with classes weighing the same, or the squared error."""

    def __init__(self, weigh: Tensor | None) -> None:
        self.weigh = weigh

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self.weigh is None:
            return F.mse_loss(outputs[:, 0], target)
        return F.cross_entropy(outputs, target, self.weigh)


def _class_weights(target: np.ndarray, classes: int) -> Tensor:
    counts = np.bincount(target, minlength=classes)
    return torch.as_tensor(len(target) / (classes * np.maximum(counts, 1)), dtype=torch.float32)


def _optimizer(network: nn.Module, head: set[str], settings: FineTuneSettings) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            rate = settings.head_rate if name in head else settings.backbone_rate
            groups.setdefault((rate, settings.weight_decay if weight.dim() > 1 else 0.0), []).append(weight)
    if not groups:
        raise ValueError("no weight of the network is to be trained: all have requires_grad=False.")
    return torch.optim.AdamW(
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
    )


def _batches(places: np.ndarray, settings: FineTuneSettings, seed: int):
    """Positions of batches without end; an epoch's order is derived from the seed and its number."""
    size, epoch = min(settings.batch_size, len(places)), 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(places)
        for begin in range(0, len(order) - size + 1, size):
            yield torch.as_tensor(order[begin : begin + size])
        epoch += 1


def _as_written(network: nn.Module) -> Any:
    """4-bit layers uncompiled: bitsandbytes compiles them on a CPU at the first call, which takes longer than a fit."""
    four_bits = getattr(network, "is_loaded_in_4bit", False)
    return torch.compiler.set_stance("force_eager") if four_bits else nullcontext()


def _running_statistics(network: nn.Module) -> dict[str, Tensor]:
    """What a training moves without a gradient: the statistics of norms over batches that are not frozen."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, norms) and any(weight.requires_grad for weight in module.parameters()):
            found |= {f"{name}.{buffer}": value for buffer, value in module.named_buffers()}
    return found


def _training_mode(network: nn.Module) -> None:
    """Dropout and batch statistics only where something is trained: a frozen module is the function that it was."""
    network.train()
    for module in network.modules():
        if not any(weight.requires_grad for weight in module.parameters()) and any(True for _ in module.parameters()):
            module.eval()
