"""Common part of phases 2 and 3: a student, its losses, and its correlation in validation.

A loss term is computed where its target exists: steps without a teacher or fMRI value and outputs without signal have
no weight. All random draws use torch's generator, and all schedules are functions of the step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nbkit.neuro.training.optimization import ClippedModule
from nbkit.neuro.tribe.handover import read_checkpoint, take_weights
from nbkit.neuro.tribe.metrics import PearsonSums, mean_r
from nbkit.neuro.tribe.runs.runs import stimulus_of
from nbkit.neuro.tribe.runs.windows import Batch
from nbkit.neuro.tribe.stimuli.segments import FUSION_DIM
from nbkit.neuro.tribe.student.fusion import MODALITIES
from nbkit.neuro.tribe.student.losses import LossWeights, feature_loss, masked_mse, parcel_means, temporal_loss
from nbkit.neuro.tribe.student.student import Prediction, StudentSettings, TinyTribe, drop_modalities


class SupervisedTribe(ClippedModule):
    """Lightning module that trains a student on a teacher's predictions, on fMRI, or on both.

    Parameters
    ----------
    settings : dataclass
        With ``student`` (StudentSettings), ``weights`` (LossWeights) and ``grad_clip``.
    parcel : Tensor of shape (outputs,), int, optional
        Number of the parcel (or network, if outputs are parcels) of each output, from 0; below 0 for none. Without it,
        the loss has no parcel term.
    backbones : dict of str to Module, optional
        Compute the features of a modality from the batch's raw clips (see `nbkit.neuro.tribe.readers.unfrozen`).
    network : int array of shape (outputs,), optional
        Network of each output, for a student with gates for each (see `TinyTribe.set_networks`).

    Raises
    ------
    ValueError
        If there is not one parcel number per output.
    """

    phase = ""

    def __init__(
        self,
        settings: Any,
        parcel: Tensor | None = None,
        backbones: dict[str, nn.Module] | None = None,
        network: Any = None,
    ) -> None:
        super().__init__()
        student: StudentSettings = settings.student
        self.settings = settings
        self.weights: LossWeights = settings.weights
        self.student = TinyTribe(student)
        if network is not None and student.gate_networks > 1:
            self.student.set_networks(network)
        self.feature_head = nn.Linear(student.dim, FUSION_DIM)
        self.backbones = nn.ModuleDict(backbones or {})
        if parcel is not None and tuple(parcel.shape) != (student.n_vertices,):
            raise ValueError(
                f"There are {tuple(parcel.shape)} parcel numbers for {student.n_vertices} outputs; give one for each."
            )
        self.n_parcels = 0 if parcel is None else int(parcel.max()) + 1
        self.register_buffer("parcel", torch.zeros(0).long() if parcel is None else parcel.long(), persistent=False)
        self._sums: dict[str, PearsonSums] = {}
        self._means: dict[str, list[float]] = {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        made = {**asdict(self.settings.student), "tr": self.student.hrf.tr}
        checkpoint["tribe"] = {"phase": self.phase, "student": made, "stimuli": stimuli_of(self)}
        if self.backbones:
            checkpoint["tribe"]["unfrozen"] = sorted(self.backbones)

    def start_from(self, path: str | Path | None) -> list[str]:
        """Load the weights of an earlier phase.

        Parameters
        ----------
        path : str or Path, optional
            Checkpoint; without one, all weights stay random.

        Returns
        -------
        fresh : list of str
            Names of the weights that were not loaded; ["all"] without a path.
        """
        if not path:
            return ["all"]
        fresh = take_weights(self.student, path)
        state = read_checkpoint(path)["state_dict"]
        head = {name: state[f"feature_head.{name}"] for name in ("weight", "bias") if f"feature_head.{name}" in state}
        if head:
            self.feature_head.load_state_dict(head)
        return fresh

    def dropout(self, step: int) -> float:
        """Return the probability of dropping a modality at a step."""
        raise NotImplementedError

    def shorten(self, batch: Batch, step: int) -> Batch:
        """Return the batch in the form that training uses at a step."""
        return batch

    def predict(self, batch: Batch, present: Tensor | None = None) -> Prediction:
        """Return the student's prediction for a batch."""
        features = {name: batch[name] for name in MODALITIES}
        for name, backbone in self.backbones.items():
            features[name] = backbone(batch[f"raw_{name}"])
        return self.student(features, batch["subject"], batch["present"] if present is None else present)

    def terms(self, batch: Batch, said: Prediction) -> dict[str, Tensor]:
        """Return each loss term that has a weight and a target."""
        weights, keep, weight = self.weights, batch["keep"], batch["weight"]
        made: dict[str, Tensor] = {"aux": said.routed.loss}
        has_teacher, has_bold = "teacher" in batch, "bold" in batch
        if weights.bold and has_bold:
            made["bold"] = masked_mse(said.bold, batch["bold"], batch["bold_valid"], weight, keep)
        if has_teacher:
            real = batch["teacher_valid"] & ~batch["pseudo"][:, None]
            if weights.teacher:
                made["teacher"] = masked_mse(said.bold, batch["teacher"], real, weight, keep)
            if weights.pseudo:
                pseudo = batch["teacher_valid"] & batch["pseudo"][:, None]
                made["pseudo"] = masked_mse(said.bold, batch["teacher"], pseudo, weight, keep)
            if weights.feature:
                told = self.feature_head(said.pooled)
                made["feature"] = feature_loss(told, batch["fusion"], batch["fusion_valid"], weight)
        if weights.temporal or weights.parcels:
            target, valid = _smooth_target(batch, has_teacher, has_bold)
            if weights.temporal:
                made["temporal"] = temporal_loss(said.bold, target, valid, weight, keep)
            if weights.parcels and self.n_parcels:
                kept = keep[:, None]
                mine, its = (
                    parcel_means(values.float() * kept, self.parcel, self.n_parcels) for values in (said.bold, target)
                )
                made["parcels"] = masked_mse(mine, its, valid, weight)
        return made

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        step = self.global_step
        batch = self.shorten(batch, step)
        present = drop_modalities(batch["present"], self.dropout(step))
        said = self.predict(batch, present)
        made = self.terms(batch, said)
        loss = self.weights.total(made)
        self.log("train_loss", loss, prog_bar=True)
        self.log_dict({f"train_{name}": value for name, value in made.items()})
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums, self._means = {}, {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        said = self.predict(batch)
        for name in ("bold", "teacher"):
            if name in batch:
                sums = self._sums.setdefault(name, PearsonSums(said.bold.shape[-1], self.device))
                sums.add(said.bold.float() * batch["keep"][:, None], batch[name], batch[f"{name}_valid"])
        made = {f"val_{name}": value for name, value in self.terms(batch, said).items()}
        made["val_loss"] = self.weights.total(self.terms(batch, said))
        made["val_entropy"] = said.routed.entropy.mean()
        for name, value in made.items():
            self._means.setdefault(name, []).append(float(value))

    def on_validation_epoch_end(self) -> None:
        scores = {name: sum(values) / len(values) for name, values in self._means.items()}
        for name, sums in self._sums.items():
            if not sums.truth_moves():
                raise ValueError(
                    f"The validation stimuli have {sums.steps} steps with a {name} response, and it never "
                    f"changes, so nothing can be scored. A clip must be longer than the delay of the response: choose "
                    "longer stimuli with VAL_PREFIX, or leave out the short ones."
                )
            r = mean_r(sums.r().cpu())
            scores[f"val_r_{name}"] = 0.0 if r != r else r  # a constant prediction scores 0
        scores["val_r"] = scores.get("val_r_bold", scores.get("val_r_teacher", 0.0))
        self.log_dict(scores)
        self._sums, self._means = {}, {}  # a checkpoint holds no validation


def score_rows(history: Sequence[Mapping[str, Any]], experts: int) -> list[dict[str, Any]]:
    """Return the result rows of the last validation, each with a baseline; empty before the first validation."""
    logged = [row for row in history if "val_r" in row]
    if not logged:
        return []
    last = logged[-1]
    made = [
        ("r_fmri", last.get("val_r_bold"), 0.0, "mean response"),
        ("r_teacher", last.get("val_r_teacher"), 0.0, "mean response"),
        ("feature_cosine", None if "val_feature" not in last else 1 - last["val_feature"], 0.0, "a random direction"),
        ("router_entropy", last["val_entropy"], math.log(experts), "all experts equally likely"),
    ]
    return [
        {"name": name, "value": value, "unit": "nat" if name == "router_entropy" else "1", "baseline": baseline,
         "baseline_is": baseline_is}
        for name, value, baseline, baseline_is in made
        if value is not None
    ]  # fmt: skip


def stimuli_of(module: Any) -> list[str]:
    """Return the names of the stimuli that a module is trained on, for its checkpoint."""
    data = getattr(getattr(module, "_trainer", None), "datamodule", None)
    runs = getattr(getattr(data, "train_dataset", None), "runs", ())
    return sorted({stimulus_of(run.name) for run in runs})


def _smooth_target(batch: Batch, has_teacher: bool, has_bold: bool) -> tuple[Tensor, Tensor]:
    """Return the target of the temporal loss: the teacher's response if a sample has one, else the fMRI.

    Differences of a measured response between steps are mostly noise.
    """
    if not has_bold:
        return batch["teacher"], batch["teacher_valid"]
    if not has_teacher:
        return batch["bold"], batch["bold_valid"]
    taught = batch["teacher_valid"].any(1)[:, None]
    valid = torch.where(taught, batch["teacher_valid"], batch["bold_valid"])
    return torch.where(taught[..., None], batch["teacher"], batch["bold"]), valid
