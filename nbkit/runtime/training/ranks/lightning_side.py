"""What Lightning needs to know about the processes of a training."""

from __future__ import annotations

import os
from typing import Any

from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy

from nbkit.runtime.training.ranks.world import STRATEGIES, World


class RankEnvironment(ClusterEnvironment):
    """Tell Lightning that its processes exist and are connected already."""

    def __init__(self, world: World) -> None:
        self._world = world

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
        return self._world.size

    def set_world_size(self, size: int) -> None:
        """Do nothing: the ranks are known."""

    def global_rank(self) -> int:
        return self._world.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: the ranks are known."""

    def local_rank(self) -> int:
        return self._world.local_rank

    def node_rank(self) -> int:
        return self._world.rank // self._world.local_size


class JoinedDDP(DDPStrategy):
    """DDP for processes that run already: nothing is launched, so it also works in a notebook."""

    def _configure_launcher(self) -> None:
        self._launcher = None


def trainer_options(world: World, strategy: str) -> dict[str, Any]:
    """Return the options that describe the processes to Lightning's Trainer."""
    # After its first backward pass DDP rebuilds its buckets, unless it searches for unused parameters. The bucket of
    # a gradient determines the order in which more than two summands are added, so a resumed run would differ.
    keep_buckets = world.size > 2
    return {
        "devices": world.local_size,
        "num_nodes": world.nodes,
        "strategy": JoinedDDP(
            cluster_environment=RankEnvironment(world),
            find_unused_parameters=STRATEGIES[strategy] or keep_buckets,
        ),
    }
