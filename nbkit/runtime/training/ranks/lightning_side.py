"""What Lightning asks about the processes of a training, answered from a place."""

from __future__ import annotations

import os

from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy

from nbkit.runtime.training.ranks.ranks import Place


class RankEnvironment(ClusterEnvironment):
    """Tell Lightning that its processes exist and have met already."""

    def __init__(self, place: Place) -> None:
        self._place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._place.size

    def set_world_size(self, size: int) -> None:
        """Do nothing: the place is known."""

    def global_rank(self) -> int:
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: the place is known."""

    def local_rank(self) -> int:
        return self._place.local_rank

    def node_rank(self) -> int:
        return self._place.rank // self._place.local_size


class JoinedDDP(DDPStrategy):
    """DDP among processes that are there already: with nothing to launch, it works in a notebook, too."""

    def _configure_launcher(self) -> None:
        self._launcher = None
