"""The data of the matrix: loaders and data modules in the kinds that users make of them."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader, Dataset, IterableDataset, WeightedRandomSampler

from tests.runtime.training.training_support import Points

DATAS = (
    "in order", "shuffled", "weighted", "weighted, not replaced", "iterable", "list of loaders", "dict of loaders",
    "combined loader", "workers", "persistent workers", "stateful module", "drop last", "own sampler",
    "own batch sampler", "many at once", "generator in the dataset", "augmented", "plain loader", "own collate",
)  # fmt: skip


class Held(Points):
    """Draws from a generator of its own."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.generator = torch.Generator().manual_seed(11)

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn(4, generator=self.generator), y


class ManyAtOnce(Points):
    """Fetches a batch in one call."""

    def __getitems__(self, indices: list[int]) -> Any:
        noise = 0.05 * torch.randn(len(indices), 4)
        return [(self.x[i] + noise[n], self.y[i]) for n, i in enumerate(indices)]


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        points = Points(14)
        return (points[i] for i in range(14))


class OwnSampler(torch.utils.data.Sampler):
    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Any:
        return iter(torch.randperm(self.n).tolist())

    def __len__(self) -> int:
        return self.n


def _collate(items: list[Any]) -> Any:
    x, y = (torch.stack([item[i] for item in items]) for i in (0, 1))
    return x + 0.01 * torch.randn_like(x), y


POINTS, BATCH = 14, 4  # four batches an epoch, of which the last has two points


class Data(lightning.LightningDataModule):
    """Training and validation loaders in one of the kinds of the matrix."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell, self.batch_size = cell, BATCH

    def train_dataloader(self) -> Any:
        return train_loader(self.cell.data)


class Validated(Data):
    """Has validation loaders too."""

    def val_dataloader(self) -> Any:
        loader = DataLoader(Points(6), batch_size=3)
        return [loader, DataLoader(Points(4), batch_size=4)] if self.cell.validation == "two loaders" else loader


class Counting(Validated):
    """Keeps a count that changes the batches, and does all that Lightning asks for to keep it."""

    seen = 0

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if not self.trainer.training:
            return batch
        self.seen += 1
        return [batch[0] * (1 + 0.01 * self.seen), batch[1]]

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


def data_class(cell: Any) -> type[Data]:
    """Return the kind of data module that a cell has."""
    if cell.data == "stateful module":
        return Counting
    return Data if cell.validation == "none" else Validated


def train_loader(kind: str) -> Any:
    """Return the training loader of a kind."""

    def plain(dataset: Dataset | None = None, **options: Any) -> DataLoader:
        return DataLoader(dataset if dataset is not None else Points(POINTS), **{"batch_size": BATCH, **options})

    several = [plain(shuffle=True), plain(Points(10))]
    if kind == "weighted":
        return plain(sampler=WeightedRandomSampler(torch.arange(1.0, POINTS + 1), POINTS))
    if kind == "weighted, not replaced":
        return plain(sampler=WeightedRandomSampler(torch.arange(1.0, POINTS + 1), 11, replacement=False))
    made = {
        "iterable": lambda: plain(Stream()),
        "list of loaders": lambda: several,
        "dict of loaders": lambda: dict(zip("ab", several, strict=True)),
        "combined loader": lambda: CombinedLoader(several, "min_size"),
        "workers": lambda: plain(Points(POINTS, augment=True), shuffle=True, num_workers=2),
        "persistent workers": lambda: plain(Points(POINTS), shuffle=True, num_workers=1, persistent_workers=True),
        "drop last": lambda: plain(shuffle=True, drop_last=True),
        "own sampler": lambda: plain(sampler=OwnSampler(POINTS)),
        "own batch sampler": lambda: DataLoader(Points(POINTS), batch_sampler=[[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]),
        "many at once": lambda: plain(ManyAtOnce(POINTS), shuffle=True),
        "generator in the dataset": lambda: plain(Held(POINTS), shuffle=True),
        "augmented": lambda: plain(Points(POINTS, augment=True), shuffle=True),
        "own collate": lambda: plain(shuffle=True, collate_fn=_collate),
        "shuffled": lambda: plain(shuffle=True),
        "plain loader": lambda: plain(shuffle=True),
    }
    return made[kind]() if kind in made else plain()
