"""What Lightning asks about the processes of a training, answered from a place."""

from __future__ import annotations

import os
from typing import Any

from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy

from nbkit.runtime.training.ranks.place import STRATEGIES, Place


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


def trainer_options(place: Place, strategy: str) -> dict[str, Any]:
    """Return what Lightning's Trainer has to know of the processes."""
    # After its first backward pass DDP lays its buckets out anew, unless it looks for unused parameters. Where a
    # gradient lies decides in which order more than two summands are added, so a resumed run would add otherwise.
    keep_buckets = place.size > 2
    return {
        "devices": place.local_size,
        "num_nodes": place.nodes,
        "strategy": JoinedDDP(
            cluster_environment=RankEnvironment(place),
            find_unused_parameters=STRATEGIES[strategy] or keep_buckets,
        ),
    }
