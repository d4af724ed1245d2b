"""A loader may begin at any batch, with any number of workers, and gives what the whole epoch gives there."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.draws import order
from nbkit.runtime.training.loader import ResumableLoader, resumable_validation
from tests.runtime.training.training_support import Points


def from_(loader: ResumableLoader, epoch: int, batch: int) -> list:
    loader.load_state_dict({"epoch": epoch, "batch": batch})
    return [x for x, _ in loader]


def same(a: list, b: list) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_beginning_anywhere_gives_the_rest_of_the_epoch(shuffle: bool, drop_last: bool) -> None:
    plain = DataLoader(Points(22, augment=True), batch_size=4, shuffle=shuffle, drop_last=drop_last)
    loader = ResumableLoader(plain, seed=1)
    whole = from_(loader, 3, 0)
    assert len(whole) == len(loader) == len(plain)
    for batch in range(len(whole)):
        assert same(from_(loader, 3, batch), whole[batch:])
        assert len(loader) == len(whole)


def test_workers_play_no_part() -> None:
    batches = []
    for workers, persistent in ((0, False), (1, False), (2, False), (2, True)):
        plain = DataLoader(
            Points(20, augment=True), 3, shuffle=True, num_workers=workers, persistent_workers=persistent
        )
        loader = ResumableLoader(plain, seed=1)
        batches.append(from_(loader, 1, 2) + from_(loader, 2, 0))
        loader.end()
    assert all(same(batches[0], other) for other in batches[1:])


def test_every_item_comes_once_an_epoch_and_augmented_anew() -> None:
    loader = ResumableLoader(DataLoader(TensorDataset(torch.arange(20)), 3, shuffle=True), seed=1)
    seen = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        seen.append(torch.cat([x for (x,) in loader]))
        assert sorted(seen[-1].tolist()) == list(range(20))
        assert seen[-1].tolist() == order(1, epoch, 20).tolist()
    augmented = ResumableLoader(DataLoader(Points(4, augment=True), 4), seed=1)
    assert not same(from_(augmented, 0, 0), from_(augmented, 1, 0))


class Grouped(BatchSampler):
    """Batches of one group each, in a plain order; nbkit derives its own."""

    def __init__(self, groups: list[int], batch_size: int, drop_last: bool = False) -> None:
        self.groups, self.batch_size, self.drop_last = groups, batch_size, drop_last

    def __iter__(self):
        for group in sorted(set(self.groups)):
            own = [index for index, its in enumerate(self.groups) if its == group]
            yield from (own[begin : begin + self.batch_size] for begin in range(0, len(own), self.batch_size))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world", [1, 3])
def test_batches_of_groups_are_pure_whole_and_begin_anywhere(world: int, drop_last: bool) -> None:
    groups = [(7 * index) % 5 // 2 for index in range(41)]  # groups of three sizes
    plain = DataLoader(TensorDataset(torch.arange(41)), batch_sampler=Grouped(groups, 4, drop_last))
    ranks = [ResumableLoader(plain, 1, rank=rank, world_size=world) for rank in range(world)]
    orders = []
    for epoch in (0, 1):
        shares = []
        for loader in ranks:
            loader.load_state_dict({"epoch": epoch, "batch": 0})
            share = [x.tolist() for (x,) in loader]
            loader.load_state_dict({"epoch": epoch, "batch": 2})
            assert [x.tolist() for (x,) in loader] == share[2:] and len(loader) == len(share)
            shares.append(share)
        assert len({len(share) for share in shares}) == 1
        batches = [batch for step in zip(*shares, strict=True) for batch in step]
        assert all(len({groups[index] for index in batch}) == 1 for batch in batches)
        distinct = {tuple(batch) for batch in batches}
        flat = sorted(index for batch in distinct for index in batch)
        assert len(flat) == len(set(flat)) and (drop_last or flat == list(range(41)))
        assert not drop_last or all(len(batch) == 4 for batch in batches)
        orders.append(batches)
    assert orders[0] != orders[1] and set(map(tuple, orders[0])) != set(map(tuple, orders[1]))


def test_groups_are_part_of_a_checkpoint() -> None:
    def loader(groups: list[int]) -> ResumableLoader:
        return ResumableLoader(DataLoader(TensorDataset(torch.arange(6)), batch_sampler=Grouped(groups, 2)), 1)

    state = loader([0, 0, 0, 1, 1, 1]).state_dict()
    loader([0, 0, 0, 1, 1, 1]).load_state_dict(state)
    with pytest.raises(UsageError, match="The data differ from those of the checkpoint: groups "):
        loader([0, 0, 1, 0, 1, 1]).load_state_dict(state)
    with pytest.raises(UsageError, match=r"groups of shape \(5,\) for 6 items"):
        loader([0] * 5)


def test_skipping_reads_no_data(tmp_path) -> None:
    log = tmp_path / "read"
    loader = ResumableLoader(DataLoader(Points(40, log=str(log)), 4), seed=1)
    loader.load_state_dict({"epoch": 0, "batch": 9})
    list(loader)
    assert log.read_text().split() == ["36", "37", "38", "39"]


def test_ranks_share_an_epoch_as_distributed_sampler_does() -> None:
    for shuffle in (False, True):
        plain = DataLoader(TensorDataset(torch.arange(10)), 2, shuffle=shuffle)
        ranks = [torch.cat([x for (x,) in ResumableLoader(plain, 1, rank=r, world_size=4)]) for r in range(4)]
        assert {len(rank) for rank in ranks} == {3}
        assert set(torch.cat(ranks).tolist()) == set(range(10))


def test_weighted_sampler_is_derived() -> None:
    sampler = WeightedRandomSampler([0.0, 1.0, 1.0, 5.0], num_samples=40)
    loader = ResumableLoader(DataLoader(TensorDataset(torch.arange(4)), 4, sampler=sampler), seed=1)
    first, again = torch.cat([x for (x,) in loader]), torch.cat([x for (x,) in loader])
    assert torch.equal(first, again) and len(first) == 40 and 0 not in first


def test_batched_fetching_of_a_dataset_is_kept() -> None:
    class Fetching(Points):
        calls = 0

        def __getitems__(self, indices):
            Fetching.calls += 1
            return [self[i] for i in indices]

    loader = ResumableLoader(DataLoader(Fetching(8, augment=True), 4, shuffle=True), seed=1)
    whole = from_(loader, 0, 0)
    assert Fetching.calls == 2
    assert same(from_(loader, 0, 1), whole[1:])
    subset = ResumableLoader(DataLoader(Subset(Points(8, augment=True), range(4)), 2), seed=1)
    assert same(from_(subset, 0, 1), from_(subset, 0, 0)[1:])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(4))


class Odd(SequentialSampler):
    pass


class Scaling(DataLoader):
    """A loader that changes its batches itself."""

    def __iter__(self):
        return (100 * batch for batch in super().__iter__())


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        (lambda: DataLoader(Stream()), "IterableDataset (Stream)"),
        (lambda: DataLoader(Points(4), sampler=Odd(Points(4))), "Odd"),
        (lambda: DataLoader(Points(4), sampler=RandomSampler(Points(4), replacement=True)), "RandomSampler"),
        (lambda: DataLoader(Points(4), batch_size=None), "batch sampler"),
        (lambda: DataLoader(Points(4), batch_sampler=type("Mine", (BatchSampler,), {})([0], 1, False)), "Mine"),
        (lambda: {"a": DataLoader(Points(4))}, "dict"),
        (lambda: Scaling(Points(4)), "Scaling with an __iter__ of its own"),
    ],
)
def test_an_order_that_cannot_be_derived_is_refused(plain, words: str) -> None:
    with pytest.raises(UsageError) as error:
        ResumableLoader(plain(), seed=1)
    assert words in str(error.value) and "Allowed for training is" in str(error.value)


def test_other_data_than_the_checkpoints_are_refused_with_both_values() -> None:
    state = ResumableLoader(DataLoader(Points(20), 4), seed=1).state_dict()
    with pytest.raises(UsageError, match="samples 20 -> 24"):
        ResumableLoader(DataLoader(Points(24), 4), seed=1).load_state_dict(state)
    with pytest.raises(UsageError, match="batch_size 4 -> 5"):
        ResumableLoader(DataLoader(Points(20), 5), seed=1).load_state_dict(state)
    with pytest.raises(UsageError, match="world_size 1 -> 2"):
        ResumableLoader(DataLoader(Points(20), 4), seed=1, world_size=2).load_state_dict(state)
    accepting = ResumableLoader(DataLoader(Points(24), 4), seed=1, accept_changes=True)
    accepting.load_state_dict({**state, "batch": 5})
    assert len(list(accepting)) == 1
    with pytest.raises(UsageError, match="batch 6 of an epoch that now has 6"):
        accepting.load_state_dict({**state, "batch": 6})


def test_validation_items_draw_the_same_in_every_pass() -> None:
    loader = resumable_validation(DataLoader(Points(8, augment=True), 4), seed=1)
    first = [x for x, _ in loader]
    loader.set_epoch(5)
    assert same(first, [x for x, _ in loader])
    shuffled = DataLoader(Points(8), 4, shuffle=True)
    assert resumable_validation([shuffled], seed=1) == [shuffled]
