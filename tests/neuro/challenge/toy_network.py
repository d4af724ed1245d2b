"""A network for a zip, that rests on names of two modules and on a name that both have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.neuro.challenge.toy_parts import Scale, shift

_EPS = 0.25


@dataclass(frozen=True)
class Sizes:
    """How large it is; its annotations name what no file needs."""

    channels: int = 129
    names: dict[str, Path] | None = None  # noqa: F821

    @property
    def doubled(self) -> int:
        return 2 * self.channels


class Toy(nn.Module):
    """The mean of each channel, weighted.

    More words that nobody needs to read there.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.sizes = Scale(), Sizes(channels)
        self.linear = nn.Linear(self.sizes.channels, 1)

    def forward(self, windows: Tensor) -> Tensor:
        from tests.neuro.challenge.toy_parts import half as halved

        return shift(self.scale(self.linear(halved(windows).mean(dim=-1)))) + _EPS


class Newer(Toy):
    """One that torch 2.2.2 cannot run."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = torch.nn.RMSNorm(channels)


class Unknown(Toy):
    """One that needs what scoring does not have."""

    def forward(self, windows: Tensor) -> Tensor:
        import lightning

        return super().forward(windows) * len(lightning.__version__)
