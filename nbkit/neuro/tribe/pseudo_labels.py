"""A trained student's word on videos that the teacher never saw, and when it may be used.

A student's errors feed on themselves: its labels weigh less than the teacher's, come only from a student that is good
enough on held-out data and better than a baseline, never stand where the teacher spoke, and never on validation videos.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LOSS_WEIGHTS = {"fmri": 0.4, "teacher": 0.3, "pseudo": 0.2, "other": 0.1}
LEAST_R = 0.20


@dataclass(frozen=True)
class PseudoSettings:
    """Settings of the guards."""

    least_r: float = LEAST_R  # held-out r, which must be above
    least_std: float = 0.05  # z units; a student that hardly moves says nothing
    most_std: float = 5.0  # z units; one that moves more has run away

    @classmethod
    def free(cls) -> PseudoSettings:
        """Return the seed's."""
        return cls()

    @classmethod
    def smoke(cls) -> PseudoSettings:
        """Return the same: guards are not made smaller."""
        return cls()


class UnfitStimulus(ValueError):
    """Say that a stimulus rightly gets no pseudo-label; a loop skips it with these words."""


class PseudoLabeler:
    """Give pseudo-labels of a student that has earned it.

    Parameters
    ----------
    predict : callable
        Features of a stimulus to predictions of shape (time, outputs).
    held_out_r, baseline_r : float
        The student's mean r on held-out data, and of the best baseline there.
    taught, validation : collection of str
        Stimuli that the teacher saw, and those that scores are made on.

    Raises
    ------
    ValueError
        If the student's r is not above ``least_r`` and above the baseline's.
    """

    def __init__(
        self,
        predict: Callable[[Mapping[str, Any]], np.ndarray],
        held_out_r: float,
        baseline_r: float,
        taught: Collection[str] = (),
        validation: Collection[str] = (),
        settings: PseudoSettings | None = None,
    ) -> None:
        self.settings = settings or PseudoSettings()
        if not held_out_r > self.settings.least_r:
            raise ValueError(
                f"the student's held-out r is {held_out_r:.3f}; pseudo-labels need more than "
                f"{self.settings.least_r:g}: errors of a weaker one compound. Train phase 2 longer, or show the "
                "teacher more."
            )
        if not held_out_r > baseline_r:
            raise ValueError(f"the student's held-out r {held_out_r:.3f} is not above its baseline's {baseline_r:.3f}.")
        self.predict, self.held_out_r = predict, float(held_out_r)
        self.taught, self.validation = frozenset(taught), frozenset(validation)

    def __call__(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Label one stimulus.

        Returns
        -------
        arrays : dict
            For ``item.save``: predictions (time, outputs) in float16, video_id, held_out_r, source and weight.

        Raises
        ------
        UnfitStimulus
            If the stimulus is a validation one, the teacher saw it, or the student has nothing sound to say of it.
        """
        name = str(features["video_id"])
        if name in self.validation:
            raise UnfitStimulus(f"{name} is a validation stimulus: a label of it would leak into training.")
        if name in self.taught:
            raise UnfitStimulus(f"the teacher saw {name}: its own word is better than the student's.")
        predictions = np.asarray(self.predict(features), np.float32)
        if predictions.ndim != 2 or not np.isfinite(predictions).all():
            raise UnfitStimulus(f"the student's prediction of {name} has shape {predictions.shape} or holds NaN.")
        moves = float(predictions.std(axis=0).mean())
        if not self.settings.least_std <= moves <= self.settings.most_std:
            raise UnfitStimulus(
                f"the student's prediction of {name} moves by {moves:.3g} z on average; sound ones lie between "
                f"{self.settings.least_std:g} and {self.settings.most_std:g}."
            )
        return {
            "predictions": predictions.astype(np.float16), "video_id": np.array(name),
            "held_out_r": np.float64(self.held_out_r), "weight": np.float64(LOSS_WEIGHTS["pseudo"]),
            "source": np.array("pseudo-labels of a student; no teacher and no brain"),
        }  # fmt: skip
