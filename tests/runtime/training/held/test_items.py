"""Generators that data hold draw the same for an item, whatever was read before it and by whichever worker."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, default_collate, get_worker_info

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.held.generators import generators_in, reseed
from nbkit.runtime.training.loader import ResumableLoader
from tests.runtime.training.exact.sessions import assert_same, in_sessions, one_session
from tests.runtime.training.training_support import Points, Tiny, TinyData

N, BATCH = 24, 4
GENERATORS = {
    "numpy Generator": (lambda: np.random.default_rng(), lambda g: g.random()),
    "numpy Philox": (lambda: np.random.Generator(np.random.Philox()), lambda g: g.random()),
    "numpy RandomState": (lambda: np.random.RandomState(), lambda g: g.rand()),
    "random.Random": (lambda: random.Random(), lambda g: g.random()),
    "torch.Generator": (lambda: torch.Generator(), lambda g: float(torch.rand((), generator=g))),
}
_GLOBAL = np.random.default_rng()


class Holding(Dataset):
    """Items of their index and what is drawn; ``drawn`` says from where."""

    def __init__(self, draw: Callable[[Any], float] | None = None, **held: Any) -> None:
        vars(self).update(held)
        self.draw = draw

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, self.draw(self) if self.draw else 0.0], dtype=torch.float64)


class Transform:
    def __init__(self, generator: Any, draw: Any) -> None:
        self.generator, self.draw = generator, draw

    def __call__(self) -> float:
        return self.draw(self.generator)


def _lazily(data: Any) -> float:
    if getattr(data, "lazy", None) is None:
        data.lazy = np.random.default_rng()
    return data.lazy.random()


def _from_global(data: Any) -> float:
    return _GLOBAL.random()


class Collate:
    def __init__(self) -> None:
        self.rng = np.random.default_rng()

    def __call__(self, items: list[Any]) -> torch.Tensor:
        return default_collate(items) + self.rng.random()


class InEveryWorker(Holding):
    @staticmethod
    def begin(worker: int) -> None:
        info = get_worker_info()
        assert info is not None
        info.dataset.rng = np.random.default_rng(worker)


def _noise(generator: Any) -> Callable[[], float]:
    return lambda: generator.random()


KINDS: dict[str, Callable[[], Dataset]] = {
    **{
        f"{name} in {where}": functools.partial(hold, make, draw)
        for name, (make, draw) in GENERATORS.items()
        for where, hold in {
            "an attribute": lambda make, draw: Holding(lambda d: draw(d.rng), rng=make()),
            "a transform": lambda make, draw: Holding(lambda d: d.steps[1](), steps=[0, Transform(make(), draw)]),
        }.items()
    },
    "closure": lambda: Holding(lambda d: d.noise(), noise=_noise(np.random.default_rng())),
    "partial": lambda: Holding(lambda d: d.noise(), noise=functools.partial(_noise(random.Random()))),
    "method": lambda: Holding(lambda d: d.noise(), noise=np.random.default_rng().random),
    "global": lambda: Holding(_from_global),
    "made by the first item": lambda: Holding(_lazily),
    "a Subset of it": lambda: Subset(Holding(lambda d: d.rng.random(), rng=np.random.default_rng()), range(N)),
    "a ConcatDataset of two": lambda: ConcatDataset(
        [Subset(Holding(lambda d: d.rng.random(), rng=np.random.default_rng()), range(N // 2)) for _ in "ab"]
    ),
}


def batches(plain: DataLoader, epoch: int, start: int, training: bool = True) -> list[torch.Tensor]:
    loader = ResumableLoader(plain, 1, training=training)
    loader.load_state_dict({"epoch": epoch, "batch": start})
    found = list(loader)
    loader.end()
    return found


def _same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(x.equal(y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_draws_the_same_from_wherever_its_epoch_is_read(kind: str) -> None:
    plain = functools.partial(DataLoader, batch_size=BATCH, shuffle=True)
    whole = batches(plain(KINDS[kind]()), 2, 0)
    assert _same(batches(plain(KINDS[kind]()), 2, 2), whole[2:])
    assert not _same(batches(plain(KINDS[kind]()), 3, 0), whole)
    drawn = torch.cat(whole)[:, 1]
    assert len(drawn.unique()) == N, "every item has numbers of its own"


@pytest.mark.parametrize("kind", ["numpy Generator in a transform", "global", "made by the first item"])
def test_workers_draw_what_the_main_process_draws(kind: str) -> None:
    plain = functools.partial(DataLoader, batch_size=BATCH, shuffle=True)
    whole = batches(plain(KINDS[kind]()), 2, 0)
    assert _same(batches(plain(KINDS[kind](), num_workers=2), 2, 1), whole[1:])


def test_generators_of_collate_functions_and_of_workers() -> None:
    plain = functools.partial(DataLoader, batch_size=BATCH, num_workers=2)
    collated = [batches(plain(Holding(), collate_fn=Collate()), 1, start)[2 - start :] for start in (0, 2)]
    assert _same(*collated)
    made = functools.partial(plain, worker_init_fn=InEveryWorker.begin)
    drawn = [batches(made(InEveryWorker(lambda d: d.rng.random())), 1, start)[2 - start :] for start in (0, 2)]
    assert _same(*drawn)


def test_validation_draws_the_same_in_every_pass() -> None:
    data = Holding(lambda d: d.rng.random(), rng=np.random.default_rng())
    first = batches(DataLoader(data, BATCH), 0, 0, training=False)
    assert _same(batches(DataLoader(data, BATCH), 5, 0, training=False), first)


def test_two_generators_draw_different_numbers() -> None:
    both = [np.random.default_rng(), np.random.default_rng()]
    reseed(both, b"x" * 32)
    assert both[0].random() != both[1].random()
    assert generators_in([both, {"again": both[0]}]) == both


# -- a dataset that keeps something from one item to the next ---------------------------------------------------------


class Counting(Points):
    def __init__(self, n: int = 36) -> None:
        super().__init__(n)
        self.read = 0

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        x, y = super().__getitem__(index)
        return x * (1 + 0.001 * self.read), y


class Caching(Points):
    def __init__(self, n: int = 36) -> None:
        super().__init__(n)
        self.cache: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        return self.cache.setdefault(index, super().__getitem__(index))


def _data(kind: type, workers: int) -> TinyData:
    data = TinyData(workers=workers, validation=True)
    data.train = kind()
    data.val_dataloader = lambda: DataLoader(kind(12), batch_size=4)
    return data


@pytest.mark.train
@pytest.mark.parametrize("kind", [Counting, Caching])
def test_what_a_dataset_keeps_is_saved_where_it_is_read(kind: type, tmp_path: Path) -> None:
    assert_same(tmp_path, Tiny, data=lambda: _data(kind, 0), steps=(5,), max_steps=22)


def test_what_workers_keep_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        one_session(tmp_path, Tiny(), _data(Counting, 2))
    assert str(refusal.value).startswith("Counting gave two different items") and "num_workers=0" in str(refusal.value)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_cache_in_workers_is_not_refused(tmp_path: Path) -> None:
    in_sessions(tmp_path, Tiny, data=lambda: _data(Caching, 2), max_steps=3)
