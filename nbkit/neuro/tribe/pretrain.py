"""Pretraining (phase 1): train the fusion transformer on features alone.

A step fuses four views: all modalities, some hidden, chunks shuffled, and a causal one. The first three go through the
transformer together. All schedules depend only on the optimizer step.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from nbkit.ground.fields import checked
from nbkit.neuro.training.optimization import ClippedModule
from nbkit.neuro.training.rates import cosine_rate, ramp
from nbkit.neuro.tribe import pretext
from nbkit.neuro.tribe.runs.windows import Batch, TribeData
from nbkit.neuro.tribe.schedules import optimizer_of, steps_of_epochs, windows_of_hours
from nbkit.neuro.tribe.student.fusion import MODALITIES
from nbkit.neuro.tribe.student.student import StudentSettings, Trunk


@checked
@dataclass(frozen=True)
class PretrainSettings:
    """Settings of phase 1; the defaults are those of the seed project for its 1770 h.

    ``free`` is for 100 h of features on one T4-class GPU, ``minimum`` for the seed project's minimum run and ``smoke``
    for seconds.
    """

    student: StudentSettings = field(default_factory=StudentSettings)
    mmr: float = 0.4
    cmc: float = 0.2
    ntp: float = 0.2
    top: float = 0.1
    aux: float = 0.01
    aux_first: float = 0.1  # weight of the routers' loss at the first step
    temperature_first: float = 2.0  # temperature of the routers at the first step; it falls to 1
    router_steps: int = 1000  # steps until both reach their final values
    lr: float = 3e-4
    weight_decay: float = 0.01
    warm: float = 0.05  # share of the steps with a rising learning rate
    grad_clip: float = 1.0
    batch_size: int = 32
    times: int = 60  # steps of a window, 0.5 s each
    stride: int = 30
    step_s: float = 0.5
    steps: int = steps_of_epochs(25, windows_of_hours(1770, 30, 15), 32)

    @classmethod
    def free(cls) -> PretrainSettings:
        """Return settings for 100 h of features: 25 epochs, in sessions of 5 to 8."""
        return cls(StudentSettings.free(), steps=steps_of_epochs(25, windows_of_hours(100, 30, 15), 32))

    @classmethod
    def minimum(cls) -> PretrainSettings:
        """Return settings for the seed project's minimum run: 5 epochs over 12 h."""
        return cls(StudentSettings.free(), steps=steps_of_epochs(5, windows_of_hours(12, 30, 15), 32))

    @classmethod
    def smoke(cls) -> PretrainSettings:
        """Return small settings for a test of seconds on two CPU cores."""
        return cls(
            StudentSettings.smoke(), router_steps=20, lr=2e-3, batch_size=8, times=20, stride=10, step_s=1.49, steps=60
        )


class PretrainTribe(ClippedModule):
    """Lightning module that trains a trunk on the four tasks of `pretext`.

    Parameters
    ----------
    settings : PretrainSettings
    """

    def __init__(self, settings: PretrainSettings) -> None:
        super().__init__()
        self.settings = settings
        self.trunk = Trunk(settings.student)
        self.heads = pretext.PretextHeads(settings.student.dim)
        self._sums: dict[str, list[Tensor]] = {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["tribe"] = {"phase": "pretrain", "student": asdict(self.settings.student)}

    def scores(
        self, batch: Batch, shown: Tensor, order: Tensor, temperature: float = 1.0
    ) -> tuple[dict[str, pretext.Score], dict[str, Tensor]]:
        """Compute the score of each task, and the routers' statistics.

        Parameters
        ----------
        batch : dict
            A batch of `RunWindows`.
        shown : Tensor of shape (batch, 3), bool
            Modalities of the masked view.
        order : Tensor of shape (batch, 4)
            Order of the chunks in the shuffled view.
        temperature : float
            Temperature of the routers.

        Returns
        -------
        scores : dict of str to Score
            Keys mmr, cmc, ntp and top.
        routers : dict of str to Tensor
            Loss, entropy (in nats) and share of each expert.
        """
        features = {name: batch[name] for name in MODALITIES}
        present, seen, trunk = batch["present"], batch["seen"], self.trunk
        moved = {name: pretext.shuffle_chunks(value, order) for name, value in features.items()}
        projected = trunk.project(features)
        views = (
            trunk.embed(projected, present),
            trunk.embed(projected, shown),
            trunk.embed(trunk.project(moved), present),
        )
        fused, routed = trunk.fusion(torch.cat(views), temperature=temperature)
        full, masked, shuffled = fused.chunk(3)
        causal, routed_causal = trunk(features, present, causal=True, temperature=temperature)
        full_mean, masked_mean, shuffled_mean, causal_mean = (v.mean(2) for v in (full, masked, shuffled, causal))
        made = {
            "mmr": pretext.reconstruction(self.heads, masked, projected, present & ~shown, seen),
            "cmc": pretext.contrast(self.heads, masked_mean, full_mean, seen),
            "ntp": pretext.next_step(self.heads, causal_mean, full_mean, seen),
            "top": pretext.temporal_order(self.heads, shuffled_mean, order),
        }
        routers = {
            "loss": (3 * routed.loss + routed_causal.loss) / 4,  # weighted by the number of views
            "entropy": routed.entropy.mean(),
            "share": routed.share.mean(0),
        }
        return made, routers

    def aux_weight(self, step: int) -> float:
        """Return the weight of the routers' loss at a step."""
        return ramp(step, self.settings.aux_first, self.settings.aux, self.settings.router_steps)

    def temperature(self, step: int) -> float:
        """Return the temperature of the routers at a step."""
        return ramp(step, self.settings.temperature_first, 1.0, self.settings.router_steps)

    def total(self, made: dict[str, pretext.Score], routers: dict[str, Tensor], step: int) -> Tensor:
        """Return the weighted sum of all losses at a step."""
        settings = self.settings
        tasks = sum(getattr(settings, name) * score.loss for name, score in made.items())
        return tasks + self.aux_weight(step) * routers["loss"]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        step = self.global_step
        shown = pretext.draw_masks(batch["present"])
        order = pretext.draw_orders(len(shown), self.device)
        made, routers = self.scores(batch, shown, order, self.temperature(step))
        loss = self.total(made, routers, step)
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({f"train_{name}": score.loss for name, score in made.items()} | {"train_aux": routers["loss"]})
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        order = pretext.fixed_orders(len(batch["present"]))
        shown = pretext.fixed_masks(batch["present"])
        made, routers = self.scores(batch, shown, order.to(self.device))
        tasks = sum(getattr(self.settings, name) * score.loss for name, score in made.items())
        seen = {
            "val_loss": tasks + self.settings.aux * routers["loss"], "val_mmr_cos": made["mmr"].monitor,
            "val_cmc_r1": made["cmc"].monitor, "val_ntp_cos": made["ntp"].monitor, "val_top": made["top"].monitor,
            "val_entropy": routers["entropy"], "val_share_low": routers["share"].min(),
            "val_share_high": routers["share"].max(),
            "val_cmc_chance": torch.tensor(1.0 / max(1, int(batch["seen"].sum()))),
        }  # fmt: skip
        for name, value in seen.items():
            self._sums.setdefault(name, []).append(value.detach().float().cpu())

    def on_validation_epoch_end(self) -> None:
        self.log_dict({name: torch.stack(values).mean().item() for name, values in self._sums.items()})
        self._sums = {}  # a checkpoint holds no validation

    def configure_optimizers(self) -> dict[str, Any]:
        s = self.settings
        rates = dict.fromkeys(("projectors", "embeddings", "fusion", "head"), s.lr)
        warmup = max(1, round(s.warm * s.steps))
        return optimizer_of(self, rates, s.weight_decay, lambda step: cosine_rate(step, s.steps, warmup, 0.0))


def pretrain_data(settings: PretrainSettings, train: list, val: list, num_workers: int = 0) -> TribeData:
    """Return the data of phase 1: windows of ``times`` steps, ``stride`` steps apart."""
    return TribeData(train, val, settings.times, settings.stride, settings.batch_size, num_workers)


def monitor_rows(history: list[dict[str, Any]], experts: int) -> list[dict[str, Any]]:
    """Return the result rows of the last validation, each with a baseline; empty before the first validation."""
    logged = [row for row in history if "val_mmr_cos" in row]
    if not logged:
        return []
    last, even = logged[-1], 1 / experts
    return [
        {"name": "mmr_cosine", "value": last["val_mmr_cos"], "unit": "1", "baseline": 0.0,
         "baseline_is": "a random direction"},
        {"name": "cmc_r1", "value": last["val_cmc_r1"], "unit": "1", "baseline": last["val_cmc_chance"],
         "baseline_is": "chance"},
        {"name": "temporal_order", "value": last["val_top"], "unit": "1", "baseline": 0.5, "baseline_is": "chance"},
        {"name": "router_entropy", "value": last["val_entropy"], "unit": "nat", "baseline": math.log(experts),
         "baseline_is": "all experts equally likely"},
        {"name": "busiest_expert", "value": last["val_share_high"], "unit": "1", "baseline": even,
         "baseline_is": "equal shares"},
        {"name": "idlest_expert", "value": last["val_share_low"], "unit": "1", "baseline": even,
         "baseline_is": "equal shares"},
    ]  # fmt: skip
