"""fMRI training (phase 3): train the student on measured responses, with the teacher as regularisation.

Windows start at half length, and the probability of dropping modalities decreases. Both depend only on the optimizer
step, so a resumed training continues exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nbkit.ground.fields import checked
from nbkit.neuro.training.rates import one_cycle, stage
from nbkit.neuro.tribe.runs.windows import Batch, TribeData, halves
from nbkit.neuro.tribe.schedules import optimizer_of, steps_of_epochs, windows_of_hours
from nbkit.neuro.tribe.student.losses import LossWeights
from nbkit.neuro.tribe.student.student import StudentSettings
from nbkit.neuro.tribe.supervised import SupervisedTribe

STORIES_WEIGHT = 0.3  # loss weight of subjects who only heard stories (LeBel et al., 2023), without video
_WINDOW_S = 149.0  # length of a window: 100 steps of 1.49 s


@checked
@dataclass(frozen=True)
class FmriSettings:
    """Settings of phase 3; the defaults are those of the seed project for 264 h.

    ``free`` is for 1000 parcels and the public 65 h of four subjects, ``pseudo`` adds pseudo-labels of an earlier
    student, ``sprint`` is for the two-day plan, ``minimum`` for one Kaggle session and ``smoke`` for seconds.
    """

    student: StudentSettings = field(default_factory=StudentSettings)
    weights: LossWeights = field(default_factory=LossWeights.fmri)
    lr_backbones: float = 5e-6  # Whisper and MobileViT, if they are trained; MiniLM never is
    lr_projectors: float = 1e-5
    lr_fusion: float = 5e-5  # and embeddings
    lr_head: float = 1e-4
    weight_decay: float = 0.01
    warm: float = 0.05  # share of the steps with a rising learning rate
    grad_clip: float = 1.0
    dropout_first: float = 0.3  # probability of dropping a modality, in epochs 1 to 3 of 10
    dropout_then: float = 0.1  # in epochs 4 to 6
    dropout_last: float = 0.0  # in epochs 7 to 10
    dropout_first_until: float = 0.3  # share of the steps
    dropout_then_until: float = 0.6
    batch_size: int = 4
    times: int = 100
    times_first: int = 50  # until the share ``times_first_until`` of the steps; from epoch 4 on, windows are whole
    times_first_until: float = 0.3
    steps: int = steps_of_epochs(10, windows_of_hours(264, _WINDOW_S), 4)
    newcomer: int = -1  # number of a person (in the order of names) who is left out, for 65 to add; -1: nobody
    unfreeze: str | None = None  # "audio+video": Whisper's encoder and MobileViT are trained too, from the clips of 61
    blocks: int = 1  # blocks of time that each run is cut into, to hold some of them out of a single stimulus

    @classmethod
    def free(cls) -> FmriSettings:
        """Return settings for 65 h of each of four subjects on one T4-class GPU."""
        return cls(StudentSettings.free(), steps=steps_of_epochs(10, windows_of_hours(4 * 65, _WINDOW_S), 4))

    @classmethod
    def pseudo(cls) -> FmriSettings:
        """Return ``free`` with pseudo-labels of a phase-2 student whose r is above 0.20."""
        return cls(StudentSettings.free(), LossWeights.fmri_pseudo(), steps=cls.free().steps)

    @classmethod
    def sprint(cls) -> FmriSettings:
        """Return settings for the two-day sprint: one subject, one season (15 h), 8 epochs, whole windows."""
        return cls(
            StudentSettings.free(), LossWeights.sprint_fmri(), lr_backbones=0.0, times_first=100,
            steps=steps_of_epochs(8, windows_of_hours(15, _WINDOW_S), 4),
        )  # fmt: skip

    @classmethod
    def minimum(cls) -> FmriSettings:
        """Return settings for the seed project's minimum run: 3 epochs over one episode of 45 minutes."""
        return cls(StudentSettings.free(), steps=steps_of_epochs(3, windows_of_hours(0.75, _WINDOW_S), 4))

    @classmethod
    def alice(cls) -> FmriSettings:
        """Return settings for one story of 12 minutes and six regions (Brennan et al., 2016), cut into six blocks."""
        student = StudentSettings(
            n_vertices=6, dim=64, hidden=96, experts=4, expert_hidden=128, max_times=256, n_subjects=28, tr=2.0,
            dropout=0.2, hrf_taps=12,
        )  # fmt: skip
        return cls(
            student, lr_projectors=3e-4, lr_fusion=3e-4, lr_head=1e-3, dropout_first=0.0, dropout_then=0.0,
            times=64, times_first=32, batch_size=4, steps=120, blocks=6,
        )  # fmt: skip

    @classmethod
    def haxby(cls) -> FmriSettings:
        """Return settings for one person's blocks of pictures and 530 voxels of a slice (Haxby et al., 2001)."""
        student = StudentSettings(
            n_vertices=530, dim=64, hidden=96, experts=4, expert_hidden=128, max_times=256, n_subjects=1, tr=2.5,
            dropout=0.2, hrf_taps=9,
        )  # fmt: skip
        return cls(
            student, lr_projectors=3e-4, lr_fusion=3e-4, lr_head=1e-3, dropout_first=0.0, dropout_then=0.0,
            times=60, times_first=30, batch_size=4, steps=120,
        )  # fmt: skip

    @classmethod
    def smoke(cls) -> FmriSettings:
        """Return small settings for a test of seconds on two CPU cores."""
        return cls(
            StudentSettings.smoke(),
            lr_projectors=5e-4,
            lr_fusion=5e-4,
            lr_head=3e-3,
            times=20,
            times_first=10,
            steps=120,
        )


class FmriTribe(SupervisedTribe):
    """Lightning module that trains a student on measured responses.

    Parameters
    ----------
    settings : FmriSettings
    parcel, backbones
        See `SupervisedTribe`.
    """

    phase = "fmri"

    def dropout(self, step: int) -> float:
        s = self.settings
        values = (s.dropout_first, s.dropout_then, s.dropout_last)
        return stage(step, s.steps, values, (s.dropout_first_until, s.dropout_then_until))

    def times(self, step: int) -> int:
        """Return the length of windows, in steps of time, at an optimizer step."""
        s = self.settings
        return int(stage(step, s.steps, (s.times_first, s.times), (s.times_first_until,)))

    def shorten(self, batch: Batch, step: int) -> Batch:
        times = self.times(step)
        return batch if times == batch["text"].shape[1] else halves(batch, times)

    def configure_optimizers(self) -> dict[str, Any]:
        s = self.settings
        rates = {
            "backbones": s.lr_backbones, "projectors": s.lr_projectors, "embeddings": s.lr_fusion,
            "fusion": s.lr_fusion, "head": s.lr_head,
        }  # fmt: skip
        return optimizer_of(self, rates, s.weight_decay, lambda step: one_cycle(step, s.steps, s.warm))


def fmri_data(settings: FmriSettings, train: list, val: list, num_workers: int = 0) -> TribeData:
    """Return the data of phase 3: windows of ``settings.times`` steps."""
    return TribeData(train, val, settings.times, None, settings.batch_size, num_workers)
