"""Settings of the frame in which models of a response are compared."""

from __future__ import annotations

from dataclasses import dataclass

from nbkit.ground.fields import checked


@checked
@dataclass(frozen=True)
class FrameSettings:
    """Settings of the folds, of banded ridge regression, and of the null distribution.

    ``free`` scores the split of phase 3. ``alice`` crosses held-out time with held-out people, and trains a student in
    every fold.
    """

    time_folds: int = 0  # folds over stimuli or blocks of time; 0: the one split of phase 3, with its student
    subject_folds: int = 0  # folds over people; 0: the same people, one model for each
    delay_s: float = 12.0  # longest delay of a feature, in s
    components: int = 60  # principal components of a modality, or of the teacher's predictions
    search: int = 40  # candidates of the random search for the weights of the bands
    inner_blocks: int = 5  # folds of the ridge's own cross-validation, each a block of time
    least_alpha: float = -3.0  # log10 of the regularisation
    most_alpha: float = 4.0
    residual: bool = False  # also train a student on what banded ridge leaves, and add it to the ridge
    least_shift_s: float = 20.0  # s, smallest shift of the null distribution
    confidence: float = 0.95  # of every interval
    fdr: float = 0.05  # false discovery rate of outputs
    seed: int = 2025

    @classmethod
    def free(cls) -> FrameSettings:
        """Return settings for hours of fMRI of a few people."""
        return cls()

    @classmethod
    def smoke(cls) -> FrameSettings:
        """Return a shorter search, for a test of seconds."""
        return cls(components=20, search=6, inner_blocks=3)

    @classmethod
    def alice(cls) -> FrameSettings:
        """Return settings for one story heard by many: six blocks of time, crossed with three groups of people."""
        return cls(time_folds=6, subject_folds=3, components=20, search=20, residual=True)

    @classmethod
    def haxby(cls) -> FrameSettings:
        """Return settings for one person's twelve runs of blocks: each pair of runs is held out once."""
        return cls(time_folds=6, components=8, search=6, inner_blocks=4)
