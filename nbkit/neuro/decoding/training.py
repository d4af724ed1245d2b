"""Train a network with some of its weights frozen, and restore its best step.

All random numbers come from the seed, so a training that is killed and started again ends with the same bits. The
weights are also evaluated before the first step, so there is always a best step. Steps whose gradient is not finite
are skipped, counted and reported.
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

from nbkit.ground.fields import checked
from nbkit.neuro.decoding.models.foundation import PRECISIONS, autocast
from nbkit.neuro.nn.lora import dead_adapters, lora_parameters
from nbkit.neuro.training.brief import BestStep, fit_once, one_device
from nbkit.neuro.training.rates import cosine_rate

_AT_ONCE = 256  # windows per forward pass without gradients
_ENOUGH_BAD = 10  # consecutive steps without a finite gradient after which a training is stopped


@checked
@dataclass(frozen=True)
class FineTuneSettings:
    """Settings of a finetuning.

    Parameters
    ----------
    steps, batch_size : int
    head_rate, backbone_rate : float
        Peak learning rates of the head, and of the backbone's weights or adapters.
    weight_decay : float
        Weight decay of matrices.
    warmup_steps : int
    grad_clip : float
        Gradient norm above which gradients are scaled down.
    r, alpha : int
        Rank of the LoRA matrices, and the numerator of their scale, alpha / r.
    dropout : float
        Dropout on the input of the LoRA matrices.
    val_fraction : float
        Share of the training side on which the best step is chosen.
    val_every : int
        Number of steps between evaluations on that share.
    precision : {"auto", "fp32", "fp16", "bf16"}
        "auto" is fp32 on a CPU, bf16 on GPUs that support it (2020 and later), and fp16 on other GPUs.
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
        """Return settings that take seconds on a CPU."""
        return cls(steps=4, batch_size=8, warmup_steps=1, r=4, alpha=8, val_every=4)

    @classmethod
    def free(cls) -> FineTuneSettings:
        """Return settings for one GPU with 16 GB."""
        return cls()

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.val_every, self.r) < 1:
            raise ValueError(
                f"Got steps={self.steps}, batch_size={self.batch_size}, val_every={self.val_every}, r={self.r}; each "
                "must be 1 or more."
            )
        if self.precision not in ("auto", *PRECISIONS):
            raise ValueError(f"There is no precision {self.precision!r}; choose one of auto, {', '.join(PRECISIONS)}.")


@dataclass
class Trained:
    """Result of a training.

    Attributes
    ----------
    history : list of dict
        A row per step with ``step``, ``train_loss``, ``grad_norm`` and ``rate``, and in some rows ``val_loss``.
    best_step : int
        The best step; 0 if no step was better than the start.
    best_loss : float
        Loss at the best step on the windows that choose it.
    weights : dict of str to Tensor
        The trained weights and running statistics at the best step.
    diagnostics : dict
        See `diagnose`.
    """

    history: list[dict[str, float]]
    best_step: int
    best_loss: float
    weights: dict[str, Tensor]
    diagnostics: dict[str, Any] = field(default_factory=dict)


def precision_of(precision: str, device: torch.device) -> tuple[str, str]:
    """Return the precision to use on a device, and the reason.

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
        return precision, "as set"
    if device.type != "cuda":
        return "fp32", f"the device is a {device.type}"
    if torch.cuda.get_device_capability(device)[0] >= 8:
        return "bf16", "the GPU supports bfloat16"
    return "fp16", "the GPU does not support bfloat16"


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
    """Train the weights that have ``requires_grad`` and restore the network to its best step.

    Parameters
    ----------
    network : nn.Module
        Maps windows to outputs of shape (windows, outputs); modules without trainable weights stay in evaluation mode.
    windows : ndarray of shape (windows, channels, time)
        In the form that the network expects.
    target : ndarray of shape (windows,)
        Class numbers, or values of about unit variance.
    chosen_on : (train, val)
        Indices of the windows to train on, and of those that choose the best step.
    settings : FineTuneSettings
    head : sequence of str
        Names of the weights that use the head's learning rate.
    classes : int
        Number of classes, which all have the same weight in the loss; 0 for a regression.
    seed : int
    device : str

    Returns
    -------
    trained : Trained
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
            precision="16-mixed" if precision == "fp16" else "32-true",  # only for the scaler; the network casts itself
        )  # fmt: skip
    network.to(place).eval()
    rows = {0: {"step": 0}} | {row["step"]: row for row in module.rows}
    for step, loss in best.losses.items():
        rows[step]["val_loss"] = loss
    history = list(rows.values())
    return Trained(history, best.step, best.lowest, best.kept, diagnose(history, best.step, settings, module.dead))


class _Training(lightning.LightningModule):
    """Train the weights of a network that have ``requires_grad`` with AdamW.

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
        """Return the share of the peak learning rates at a step; steps count from 0."""
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
        """Clip the gradients, record their norm, and skip the step if the norm is not finite."""
        row, scaler = self.rows[-1], getattr(self.trainer.precision_plugin, "scaler", None)
        if row["step"] <= 2 and lora_parameters(self.network):  # B starts at 0, so A has a gradient from step 2 on
            self.dead = dead_adapters(self.network)
        row["grad_norm"] = float(nn.utils.clip_grad_norm_(self.trained.values(), self.settings.grad_clip))
        row["rate"] = self.rate_at(row["step"] - 1)
        finite = math.isfinite(row["grad_norm"]) and math.isfinite(row["train_loss"])
        self._bad = 0 if finite else self._bad + 1
        if not finite and scaler is None:  # with a scaler, the scaler skips the step
            optimizer.zero_grad(set_to_none=True)
        self.trainer.should_stop = self._bad >= _ENOUGH_BAD


def forward(network: nn.Module, inputs: Any, device: torch.device | str, precision: str = "fp32") -> Tensor:
    """Return a network's outputs as float32, computed in batches, in evaluation mode and without gradients."""
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
    """Return diagnostics of a training, with a warning for each problem.

    Returns
    -------
    diagnostics : dict
        ``steps``, ``nonfinite_steps`` (step numbers), ``grad_norm_median``, ``grad_norm_max``, ``clipped`` (share of
        steps), ``best_step``, ``dead_adapters`` (names), ``words`` (a warning for each problem; empty if there is
        none).
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
        words.append(f"stopped at step {len(steps)} of {settings.steps} after {_ENOUGH_BAD} such steps in a row")
    if best_step == 0:
        words.append("no step was better than the untrained start on the windows that choose the best step")
    if len(finite) and finite.max() == 0:
        words.append("all gradients are zero: the trained weights have no influence on the output")
    if dead:
        words.append(
            f"{len(dead)} adapter matrices, such as {dead[0]}, got no gradient: they have no effect in the model"
        )
    return {
        "dead_adapters": list(dead), "steps": len(steps), "nonfinite_steps": bad, "best_step": best_step,
        "clipped": clipped,
        "grad_norm_median": float(np.median(finite)) if len(finite) else float("nan"),
        "grad_norm_max": float(finite.max()) if len(finite) else float("nan"), "words": words,
    }  # fmt: skip


class _Loss:
    """Cross-entropy with equal total weight of all classes, or the squared error."""

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
        raise ValueError(
            "There is no weight to train: all weights of the network have requires_grad=False. Choose another mode."
        )
    return torch.optim.AdamW(
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
    )


def _batches(places: np.ndarray, settings: FineTuneSettings, seed: int):
    """Yield indices of batches without end; an epoch's order is derived from the seed and the epoch's number."""
    size, epoch = min(settings.batch_size, len(places)), 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(places)
        for begin in range(0, len(order) - size + 1, size):
            yield torch.as_tensor(order[begin : begin + size])
        epoch += 1


def _as_written(network: nn.Module) -> Any:
    """Return a context that runs 4-bit layers uncompiled.

    On a CPU, bitsandbytes compiles them at the first call, which takes longer than a fit.
    """
    four_bits = getattr(network, "is_loaded_in_4bit", False)
    return torch.compiler.set_stance("force_eager") if four_bits else nullcontext()


def _running_statistics(network: nn.Module) -> dict[str, Tensor]:
    """Return what a training changes without a gradient: running statistics of batch norms that are not frozen."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, norms) and any(weight.requires_grad for weight in module.parameters()):
            found |= {f"{name}.{buffer}": value for buffer, value in module.named_buffers()}
    return found


def _training_mode(network: nn.Module) -> None:
    """Put only modules with trainable weights in training mode, so that frozen ones compute the same as before."""
    network.train()
    for module in network.modules():
        if not any(weight.requires_grad for weight in module.parameters()) and any(True for _ in module.parameters()):
            module.eval()
