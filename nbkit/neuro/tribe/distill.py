"""Distillation (phase 2): train the student on the teacher's predictions.

The teacher's responses are delayed to the time of measurement beforehand (see `clock`), so the causal haemodynamic
layer can represent them. Time and modality embeddings stay as phase 1 trained them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nbkit.ground.fields import checked
from nbkit.neuro.training.rates import one_cycle
from nbkit.neuro.tribe.runs.windows import TribeData
from nbkit.neuro.tribe.schedules import optimizer_of, steps_of_epochs, windows_of_hours
from nbkit.neuro.tribe.student.losses import LossWeights
from nbkit.neuro.tribe.student.student import StudentSettings
from nbkit.neuro.tribe.supervised import SupervisedTribe

_WINDOW_S = 149.0  # length of a window: 100 steps of 1.49 s


@checked
@dataclass(frozen=True)
class DistillSettings:
    """Settings of phase 2; the defaults are those of the seed project for its 320 h.

    ``free`` is for 1000 parcels and 30 h, ``sprint`` for the two-day plan without phase 1, ``minimum`` for one Kaggle
    session and ``smoke`` for seconds.
    """

    student: StudentSettings = field(default_factory=StudentSettings)
    weights: LossWeights = field(default_factory=LossWeights.distill)
    lr_head: float = 1e-3  # gates, haemodynamic layer, shared layer, subjects, vertices
    lr_projectors: float = 1e-4
    lr_fusion: float = 1e-4
    lr_embeddings: float = 0.0  # 0: frozen
    weight_decay: float = 0.01
    warm: float = 0.1  # share of the steps with a rising learning rate
    grad_clip: float = 1.0
    dropout: float = 0.3  # probability of dropping a modality
    batch_size: int = 8
    times: int = 100
    steps: int = steps_of_epochs(10, windows_of_hours(320, _WINDOW_S), 8)

    @classmethod
    def free(cls) -> DistillSettings:
        """Return settings for 30 h of teacher predictions on one T4-class GPU."""
        return cls(StudentSettings.free(), steps=steps_of_epochs(10, windows_of_hours(30, _WINDOW_S), 8))

    @classmethod
    def sprint(cls) -> DistillSettings:
        """Return settings for the two-day sprint: 5 h of teacher predictions and no phase 1, so nothing is frozen."""
        return cls(
            StudentSettings.free(), LossWeights.sprint_distill(), lr_projectors=3e-4, lr_fusion=3e-4,
            lr_embeddings=3e-4, dropout=0.2, times=50, steps=steps_of_epochs(20, windows_of_hours(5, _WINDOW_S / 2), 8),
        )  # fmt: skip

    @classmethod
    def minimum(cls) -> DistillSettings:
        """Return settings for the seed project's minimum run: 3 epochs over 2 h."""
        return cls(StudentSettings.free(), steps=steps_of_epochs(3, windows_of_hours(2, _WINDOW_S), 8))

    @classmethod
    def smoke(cls) -> DistillSettings:
        """Return small settings for a test of seconds on two CPU cores."""
        return cls(
            StudentSettings.smoke(), lr_head=4e-3, lr_projectors=1e-3, lr_fusion=1e-3, dropout=0.1, batch_size=4,
            times=20, steps=240,
        )  # fmt: skip


class DistillTribe(SupervisedTribe):
    """Lightning module that trains a student on the predictions and features of a teacher.

    Parameters
    ----------
    settings : DistillSettings
    parcel, backbones
        See `SupervisedTribe`.
    """

    phase = "distill"

    def dropout(self, step: int) -> float:
        return self.settings.dropout

    def configure_optimizers(self) -> dict[str, Any]:
        s = self.settings
        rates = {
            "backbones": 0.0, "projectors": s.lr_projectors, "embeddings": s.lr_embeddings, "fusion": s.lr_fusion,
            "head": s.lr_head,
        }  # fmt: skip
        return optimizer_of(self, rates, s.weight_decay, lambda step: one_cycle(step, s.steps, s.warm))


def distill_data(settings: DistillSettings, train: list, val: list, num_workers: int = 0) -> TribeData:
    """Return the data of phase 2: windows of ``settings.times`` steps."""
    return TribeData(train, val, settings.times, None, settings.batch_size, num_workers)
