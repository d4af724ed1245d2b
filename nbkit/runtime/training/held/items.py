"""Items of a dataset whose random numbers depend on (seed, epoch, index) only, whichever generator draws them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset, Subset, get_worker_info

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.draws import derive, seed_item, seed_validation_item
from nbkit.runtime.training.held.generators import digest_of, generators_in, reseed
from nbkit.runtime.training.held.values import NotPlain, digest, form_of

_OWN = {"dataset", "seed", "training", "holders", "_many", "_generators", "_seen"}
_WORKER = "Caught UsageError in DataLoader worker"


class SeededItems(Dataset):
    """The user's dataset; the global generators, and all that it holds itself, are seeded before each item.

    Parameters
    ----------
    dataset : Dataset
    collate : callable
        Its generators are seeded too, with those of the last item of a batch.
    seed : int
    training : bool
        False for validation: the same numbers in every epoch.
    """

    def __init__(self, dataset: Dataset, collate: Any, seed: int, training: bool) -> None:
        self.dataset, self.seed, self.training = dataset, seed, training
        self.holders = (dataset, collate)
        # torch's Subset implements __getitems__ as a plain loop, which would seed only its first item
        self._many = hasattr(dataset, "__getitems__") and not isinstance(dataset, Subset)
        self._generators: list[Any] = []
        self._seen: tuple[int, int] | None = None  # process and epoch whose generators are known

    # a worker_init_fn reads and sets attributes of what it takes for its dataset
    def __getattr__(self, name: str) -> Any:
        if name in _OWN or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.dataset, name, value)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, places: list[tuple[int, int]]) -> list[Any]:
        if not self._many:
            return [self[place] for place in places]
        # one seed for the whole batch: the dataset fetches all of its items in one call
        indices = [index for _, index in places]
        return self._read(places[0], lambda: self.dataset.__getitems__(indices))

    def __getitem__(self, place: tuple[int, int]) -> Any:
        return self._read(place, lambda: self.dataset[place[1]])

    def _read(self, place: tuple[int, int], read: Callable[[], Any]) -> Any:
        now = (os.getpid(), place[0])
        if self._seen == now:
            self._seed(place)
            return read()
        first = self._seen is None or self._seen[0] != now[0]
        self._generators, self._seen = generators_in(self.holders), now
        watched = first and self.training and get_worker_info() is not None
        before = digest_of(self.holders) if watched else b""
        self._seed(place)
        item = read()
        if len(found := generators_in(self.holders)) > len(self._generators):
            self._generators = found  # made by the first item, from numbers that nobody knows
            self._seed(place)
            item = read()
        elif watched and digest_of(self.holders) != before:
            self._check_again(place, read, item)
        return item

    def _seed(self, place: tuple[int, int]) -> None:
        epoch, index = place
        if self.training:
            seed_item(self.seed, epoch, index)
        else:
            seed_validation_item(self.seed, epoch, index)
        if self._generators:
            word, position = ("held", place) if self.training else ("held validation", (index,))
            reseed(self._generators, derive(word, self.seed, *position))

    def _check_again(self, place: tuple[int, int], read: Callable[[], Any], item: Any) -> None:
        """Raise an error if an item differs when it is read again, because the dataset has changed meanwhile."""
        self._seed(place)
        try:
            same = digest(form_of(read())) == digest(form_of(item))
        except NotPlain:
            return
        if not same:
            raise UsageError(
                f"{type(self.dataset).__name__} gave two different items for the index {place[1]}: it keeps something "
                "from one item to the next, and each of its workers keeps its own, so that no later session could go "
                "on from there. Let an item depend on its index and on random numbers only, or take num_workers=0, "
                "where what it keeps is saved. Nothing was trained in this session."
            )


def said_in_worker(error: BaseException) -> str:
    """Return what a worker has refused, without its traceback; "" for any other error."""
    text = str(error)
    if not isinstance(error, UsageError) or not text.startswith(_WORKER):
        return ""
    return text.rpartition("UsageError: ")[2].strip()
