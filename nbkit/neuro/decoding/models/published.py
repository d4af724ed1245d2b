"""Published scores of these models, for orientation.

Balanced accuracy on PhysioNet's motor imagery, four classes, held-out people: El Ouahidi et al. (2025), REVE,
https://arxiv.org/abs/2510.21585, table 2 and its counterpart for frozen models. They were measured on other data and
with another protocol than any run here, so they are not comparable with its scores and have a panel of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

WHAT = "PhysioNet motor imagery, 4 classes, held-out people; by El Ouahidi et al. 2025"
CHANCE = 0.25


@dataclass(frozen=True)
class Published:
    """One published score.

    Attributes
    ----------
    model, mode : str
    balanced_accuracy : float
    """

    model: str
    mode: str
    balanced_accuracy: float


PUBLISHED = (
    Published("reve", "full", 0.648), Published("cbramod", "full", 0.642), Published("labram", "full", 0.617),
    Published("biot", "full", 0.615), Published("reve", "frozen", 0.537), Published("cbramod", "frozen", 0.385),
    Published("labram", "frozen", 0.372), Published("biot", "frozen", 0.370),
)  # fmt: skip
