"""Several processes are one training: the same steps as one process, the same bits after a kill, one end for all."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.receipts import read_receipt
from nbkit.runtime.training.fit import fit
from nbkit.runtime.training.loader import ResumableLoader
from nbkit.runtime.training.ranks.world import World, choose_world, current_world
from tests.runtime.training.ranks.rank_support import Plain, Team, plain_loader, run_team
from tests.runtime.training.training_support import (
    FakeSession,
    Tiny,
    TinyData,
    checkpoint_of,
    digest,
    journal_of,
    run_child,
    train_tiny,
)

pytestmark = pytest.mark.kill

Digests = Callable[[int], str]
TINY = {"n": 36, "batch_size": 2, "validation": True, "augment": True, "max_steps": 40, "accumulate_grad_batches": 2}


def train_plain(folder: Path, batch_size: int, n: int = 36, **options) -> SimpleNamespace:
    session, module = FakeSession(folder), options.pop("module", None) or Plain()
    report = fit(session, module, plain_loader(batch_size, n), **{"max_steps": 30, "log_every_n_steps": 1, **options})
    weights = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    return SimpleNamespace(report=report, said=session.said, weights=weights)


def losses(run: SimpleNamespace) -> list[float]:
    return [row["loss_step"] for row in run.report.history if "loss_step" in row]


# -- the same training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_take_the_steps_of_one_with_the_joined_batch(size: int, accumulate: int, tmp_path: Path) -> None:
    options = {"accumulate_grad_batches": accumulate, "gradient_clip_val": 1.0}
    team = run_team(size, tmp_path / "team", train_plain, tmp_path / "team", 2, **options)
    alone = run_child(train_plain, tmp_path / "alone", 2 * size, **options)
    assert len(losses(alone)) == 30
    np.testing.assert_allclose(losses(team[0]), losses(alone), rtol=1e-4)
    epochs = [[row["loss_epoch"] for row in run.report.history if "loss_epoch" in row] for run in (team[0], alone)]
    np.testing.assert_allclose(*epochs, rtol=1e-4)
    for run in team:
        for name, weight in alone.weights.items():
            np.testing.assert_allclose(run.weights[name], weight, rtol=1e-3, atol=1e-5)
            assert (run.weights[name] == team[0].weights[name]).all(), "ranks must not drift apart by a bit"


def test_ranks_share_one_order_and_the_joined_batches_are_those_of_one_process() -> None:
    def batches(size: int, rank: int, batch_size: int) -> list[set[int]]:
        loader = ResumableLoader(plain_loader(batch_size), 5, rank=rank, world_size=size)
        return [{index for _, index in places} for places in loader.batch_sampler]

    shares = [batches(3, rank, 2) for rank in range(3)]
    assert [a | b | c for a, b, c in zip(*shares, strict=True)] == batches(1, 0, 6)
    assert all(not a & b for a, b in zip(shares[0], shares[1], strict=True))


def test_each_rank_draws_for_itself_and_rank_0_as_a_single_process(tmp_path: Path) -> None:
    class Noting(Plain):
        def training_step(self, batch, batch_idx):
            drawn.append((torch.rand(1).item(), random.random()))
            return super().training_step(batch, batch_idx)

    drawn: list[tuple[float, float]] = []

    def train(folder: Path) -> list[tuple[float, float]]:
        train_plain(folder, 2, module=Noting(), max_steps=5)
        return drawn

    first, second = run_team(2, tmp_path / "team", train, tmp_path / "team")
    assert first == run_child(train, tmp_path / "alone")
    assert not set(first) & set(second) and len(set(second)) == 5


def test_scores_over_all_ranks_are_shown_at_the_end_and_nobody_waits(tmp_path: Path) -> None:
    class Scored(Plain):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("of_epoch", loss, on_step=False, on_epoch=True, sync_dist=True, prog_bar=True)
            return loss

        def validation_step(self, batch, batch_idx):
            score = torch.nn.functional.mse_loss(self.net(batch[0]).squeeze(-1), batch[1])
            self.log("val_score", score, sync_dist=True, prog_bar=True)

    def train(folder: Path, size: int) -> list[float]:
        data = TinyData(batch_size=6 // size, validation=True)
        options = {"val_check_interval": 3, "monitor": "val_score", "save_every": None}
        report = fit(FakeSession(folder), Scored(), data, max_steps=20, **options)
        return [row["val_score"] for row in report.history if "val_score" in row]

    first, second = run_team(2, tmp_path / "team", train, tmp_path / "team", 2)
    assert len(first) == 6 and first == second
    np.testing.assert_allclose(first, run_child(train, tmp_path / "alone", 1), rtol=1e-4)


def test_only_rank_0_writes_speaks_and_keeps_a_receipt_with_the_joined_batch(tmp_path: Path) -> None:
    def train() -> tuple[list[str], list[str]]:
        rank = os.environ["RANK"]
        session = FakeSession(tmp_path / rank, tmp_path / "store")
        fit(session, Plain(sync=False), plain_loader(2), max_steps=10, log_every_n_steps=1)
        return session.said, [event["e"] for event in session.events]

    (said, events), silent = run_team(2, tmp_path, train)
    assert silent == ([], []) and "saved" in events
    assert [path for path in (tmp_path / "1").rglob("*") if path.is_file()] == []
    receipt = read_receipt(tmp_path / "store" / "tiny" / "checkpoints" / "step-000000010.json")
    assert (receipt.world_size, receipt.global_batch, receipt.step) == (2, 4, 10)
    # said once, and only of what is logged without syncing
    assert [line for line in said if "sync_dist" in line] == [
        "loss: logged without sync_dist=True, so the history shows rank 0's share only"
    ]


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """Gives the digest of the tiny training by so many processes that nobody killed."""

    @cache
    def digest_of(size: int) -> str:
        folder = tmp_path_factory.mktemp(f"uninterrupted-{size}")
        run_team(size, folder, train_tiny, folder, save_every=None, **TINY)
        return digest(checkpoint_of(folder))

    return digest_of


@pytest.mark.parametrize(("size", "victim"), [(2, 1), (2, 0), (3, 2), (3, 0)])
def test_a_killed_rank_stops_all_and_the_next_session_gives_the_same_bits(
    size: int, victim: int, uninterrupted: Digests, tmp_path: Path
) -> None:
    for kill in range(3):
        journal = tmp_path / f"journal-{kill}"
        team = Team(size, journal, train_tiny, tmp_path / "a", save_every=0.001, pause=0.004, **TINY)
        team.until_step(4 + 3 * kill)
        team.kill(victim)
        outcomes = team.end()
        assert outcomes[victim].signal == signal.SIGKILL
        for rank, outcome in enumerate(outcomes):
            if rank != victim:
                assert outcome.error.startswith(f"NbkitError: rank {victim} (process {team.children[victim].pid} on ")
                assert f"Training stopped on all {size} processes; the last checkpoint stands" in outcome.error
    runs = run_team(size, tmp_path / "b", train_tiny, tmp_path / "a", save_every=None, **TINY)
    assert runs[0].report.complete and runs[0].report.resumed_from >= 3
    assert digest(checkpoint_of(tmp_path / "a")) == uninterrupted(size)


def test_ranks_on_other_machines_are_handed_the_checkpoint_of_rank_0(uninterrupted: Digests, tmp_path: Path) -> None:
    def train(**options) -> tuple[int | None, int]:
        report = train_tiny(tmp_path / os.environ["RANK"], tmp_path / "store", **TINY, **options).report
        return report.resumed_from, report.steps_this_session

    team = Team(2, tmp_path / "journal", train, nodes=2, save_every=0.001, pause=0.004)
    team.until_step(9)
    team.kill(1)
    team.end()
    runs = run_team(2, tmp_path / "end", train, nodes=2)
    assert runs[0] == runs[1] and runs[0][0] > 0
    assert not list((tmp_path / "1").rglob("*.ckpt")), "what rank 1 resumed from came from rank 0"
    assert digest(checkpoint_of(tmp_path / "0")) == uninterrupted(2)


def test_all_stop_in_front_of_one_batch_at_the_wall_of_rank_0(uninterrupted: Digests, tmp_path: Path) -> None:
    def train(wall: int | None) -> tuple[int, str]:
        wall = wall if os.environ["RANK"] == "0" else None
        report = train_tiny(tmp_path / "a", steps=wall, save_every=None, **TINY).report
        return report.step, report.reason

    stops, steps = [], [0]
    for number, wall in enumerate((9, 13, None)):
        first, second = run_team(2, tmp_path / f"session-{number}", train, wall)
        assert first == second
        stops.append(first)
        journal = journal_of(tmp_path / f"session-{number}" / "journal")
        steps += [event["step"] for event in journal if event["e"] == "step"]
    assert stops == [(9, "wall"), (22, "wall"), (40, "complete")]
    assert steps == list(range(TINY["max_steps"] + 1)), "a planned stop loses no step and repeats none"
    assert digest(checkpoint_of(tmp_path / "a")) == uninterrupted(2)


@pytest.mark.parametrize("told", [0, 1])
def test_a_signal_to_any_rank_saves_and_stops_all(told: int, uninterrupted: Digests, tmp_path: Path) -> None:
    team = Team(2, tmp_path / "journal", train_tiny, tmp_path / "a", save_every=None, pause=0.01, **TINY)
    team.until_step(5)
    os.kill(team.children[told].pid, signal.SIGTERM)
    reports = [outcome.result.report for outcome in team.end()]
    assert [report.reason for report in reports] == ["SIGTERM", "SIGTERM"]
    assert reports[0].step == reports[1].step == checkpoint_of(tmp_path / "a")["global_step"] >= 5
    run_team(2, tmp_path / "b", train_tiny, tmp_path / "a", save_every=None, **TINY)
    assert digest(checkpoint_of(tmp_path / "a")) == uninterrupted(2)


@pytest.mark.parametrize("faulty", [0, 1])
def test_an_error_of_one_rank_reaches_the_others_in_words(faulty: int, tmp_path: Path) -> None:
    class Failing(Tiny):
        def training_step(self, batch, batch_idx):
            if self.global_step == 6 and self.global_rank == faulty:
                raise ValueError("this share of the batch holds no sample")
            return super().training_step(batch, batch_idx)

    def train() -> None:
        fit(FakeSession(tmp_path / "a"), Failing(), TinyData(batch_size=2), max_steps=30, save_every=None)

    (tmp_path / "a").mkdir()
    outcomes = Team(2, tmp_path / "journal", train).end()
    assert outcomes[faulty].error.startswith("ValueError: this share of the batch")
    other = outcomes[1 - faulty].error
    assert other.startswith(f"NbkitError: rank {faulty} failed: ValueError: this share of the batch holds no sample")


def test_a_save_that_rank_0_cannot_do_ends_the_others_too(tmp_path: Path) -> None:
    class Careless(Tiny):
        def on_save_checkpoint(self, checkpoint) -> None:
            checkpoint["mine"] = {"settings": self.settings}

    def train() -> None:
        fit(FakeSession(tmp_path / "a"), Careless(), TinyData(batch_size=2), max_steps=12)

    outcomes = Team(2, tmp_path / "journal", train).end()
    assert "mine.settings" in outcomes[0].error
    assert outcomes[1].error.startswith("NbkitError: rank 0 failed: UsageError: The checkpoint cannot be saved")


def test_processes_may_meet_again_for_another_training(tmp_path: Path) -> None:
    def train() -> list[int]:
        return [train_plain(tmp_path / name, 2, max_steps=steps).report.step for name, steps in (("a", 4), ("b", 6))]

    assert run_team(2, tmp_path, train) == [[4, 6], [4, 6]]


# -- other numbers of processes ---------------------------------------------------------------------------------------


def test_another_number_of_processes_is_refused_with_both_and_by_all(tmp_path: Path) -> None:
    run_team(2, tmp_path / "two", train_plain, tmp_path / "two", 2, max_steps=10)

    def train(folder: Path, **options) -> str:
        with pytest.raises(UsageError) as error:
            train_plain(folder, 2, max_steps=20, **options)
        return str(error.value)

    words = run_child(train, tmp_path / "two")
    for part in ("trained by 2 process(es) and there are 1 now", "accept_changes=True", "total batch of 4 samples"):
        assert part in words
    of_three = run_team(3, tmp_path / "three", train, tmp_path / "two")
    assert all("trained by 2 process(es) and there are 3 now" in words for words in of_three)
    other_batch = run_child(train, tmp_path / "two", accept_changes=True)
    assert "2 process(es) with a batch_size of 2: 4 samples per step. Now 1 process(es) with 2 take 2" in other_batch


@pytest.mark.parametrize(("before", "after"), [((2, 2), (1, 4)), ((1, 4), (2, 2))], ids=["2 to 1", "1 to 2"])
def test_another_number_with_the_same_joined_batch_takes_the_same_samples_if_accepted(
    before: tuple[int, int], after: tuple[int, int], tmp_path: Path
) -> None:
    def run(team: tuple[int, int], folder: str, steps: int, **options) -> SimpleNamespace:
        arguments = (tmp_path / folder, team[1])
        options["max_steps"] = steps
        if team[0] == 1:
            return run_child(train_plain, *arguments, **options)
        return run_team(team[0], tmp_path / f"{folder}-{steps}", train_plain, *arguments, **options)[0]

    run(before, "changed", 13)
    changed = run(after, "changed", 30, accept_changes=True)
    whole = run(before, "whole", 30)
    assert changed.report.resumed_from == 13
    np.testing.assert_allclose(losses(changed), losses(whole), rtol=1e-4)
    assert any("the order of sums" in line for line in changed.said)


def test_a_complete_training_is_complete_on_all_ranks(tmp_path: Path) -> None:
    done = run_team(2, tmp_path / "a", train_plain, tmp_path / "two", 2, max_steps=10)
    again = run_team(2, tmp_path / "b", train_plain, tmp_path / "two", 2, max_steps=10)
    for run in again:
        assert run.report.complete and run.report.steps_this_session == 0
        assert all((run.weights[name] == done[0].weights[name]).all() for name in run.weights)


# -- places -----------------------------------------------------------------------------------------------------------


def test_place_is_what_torchrun_says() -> None:
    told = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    assert current_world(told) == World(3, 4, 1, 2) and current_world(told).nodes == 2
    assert current_world({}) == World() == current_world({"WORLD_SIZE": "1", "RANK": "0"})


@pytest.mark.parametrize(
    "told",
    [
        {"WORLD_SIZE": "2", "RANK": "2"},
        {"WORLD_SIZE": "two"},
        {"WORLD_SIZE": "3", "RANK": "0", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"},
    ],
)
def test_numbers_that_do_not_fit_are_refused(told: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="is inconsistent"):
        current_world(told)


def test_devices_are_counted_and_those_that_are_not_there_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    cards = SimpleNamespace(accelerator="cuda", count=2, name="Tesla T4")
    for devices in (2, "2", "auto", -1):
        assert choose_world({"devices": devices}, cards) == World(0, 2, 0, 2, starts=True)
    assert choose_world({}, cards) == World()
    with pytest.raises(UsageError, match=r"this machine has 2 GPU\(s\) \(Tesla T4\)"):
        choose_world({"devices": 4}, cards)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match=r"devices=3, and torchrun started 2 process\(es\)"):
        choose_world({"devices": 3}, cards)


def test_metrics_in_the_store_are_those_of_an_unbroken_run(tmp_path: Path) -> None:
    options = {"n": 36, "batch_size": 2, "max_steps": 25, "log_every_n_steps": 1}

    def train(folder: str, **more) -> None:
        train_tiny(tmp_path / folder, tmp_path / f"{folder}-store", **options, **more)

    team = Team(2, tmp_path / "journal", train, "killed", save_every=0.001, pause=0.004)
    team.until_step(11)
    team.kill(1)
    team.end()
    for folder in ("killed", "whole"):
        run_team(2, tmp_path / f"{folder}-end", train, folder)
    rows = [
        [json.loads(line) for line in (tmp_path / f"{folder}-store" / "tiny" / "metrics.jsonl").open()]
        for folder in ("killed", "whole")
    ]
    assert rows[0] == rows[1] and len(rows[0]) >= 25
