"""Trainings by several processes that find each other as torchrun's do, and can be killed one by one.

The processes are forks of the test runner, which has torch and lightning imported already.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import lightning
import torch
from torch.utils.data import DataLoader

from tests.runtime.training.training_support import Child, Outcome, Points, TinySettings, journal_of


class Plain(lightning.LightningModule):
    """A regression without draws of its own: one process and several differ in the order of sums alone."""

    def __init__(self, width: int = 8, pause: float = 0.0, sync: bool = True) -> None:
        super().__init__()
        self.settings, self.pause, self.sync = TinySettings(width=width), pause, sync
        torch.manual_seed(7)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        if self.pause:
            time.sleep(self.pause)
        loss = torch.nn.functional.mse_loss(self.net(x).squeeze(-1), y)
        self.log("loss", loss, on_step=True, on_epoch=True, sync_dist=self.sync)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def plain_loader(batch_size: int, n: int = 36) -> DataLoader:
    return DataLoader(Points(n), batch_size, shuffle=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def environments(size: int, nodes: int = 1) -> list[dict[str, str]]:
    """Return what torchrun puts into the environment of each of so many processes."""
    local = size // nodes
    shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": local, "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    shared["OMP_NUM_THREADS"] = 1  # more would add in another order
    ranks = [{**shared, "RANK": rank, "LOCAL_RANK": rank % local} for rank in range(size)]
    return [{name: str(value) for name, value in told.items()} for told in ranks]


class Team:
    """Processes with the environment that torchrun gives; rank 0 keeps a journal.

    Parameters
    ----------
    size : int
    journal : Path
    function, *args, **kwargs
        What each of them calls.
    nodes : int
        Machines that they believe to be on.
    """

    def __init__(
        self, size: int, journal: Path, function: Callable[..., Any], *args: Any, nodes: int = 1, **kwargs: Any
    ) -> None:
        self.journal, self.children = journal, []
        for rank, environment in enumerate(environments(size, nodes)):
            environment |= {"NBKIT_JOURNAL": str(journal)} if rank == 0 else {}
            with mock.patch.dict(os.environ, environment):
                self.children.append(Child(function, *args, **kwargs))

    def until_step(self, step: int) -> None:
        """Wait until rank 0 has done so many steps in this session."""
        while sum(event["e"] == "step" for event in journal_of(self.journal)) < step:
            assert all(child.alive() for child in self.children), "a process ended before it was meant to"
            time.sleep(0.005)

    def kill(self, rank: int) -> None:
        os.kill(self.children[rank].pid, signal.SIGKILL)

    def end(self) -> list[Outcome]:
        return [child.end() for child in self.children]


def run_team(size: int, folder: Path, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Sequence[Any]:
    """Run to the end and give every rank's result."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = Team(size, folder / "journal", function, *args, **kwargs).end()
    assert all(outcome.error is None and outcome.signal is None for outcome in outcomes), outcomes
    return [outcome.result for outcome in outcomes]
