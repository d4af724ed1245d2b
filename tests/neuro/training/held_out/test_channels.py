"""Which channels a network uses: a planted one is found, and nothing is where there is nothing to lose."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.neuro.decoding.rivals.scalp import scalp_of_split
from nbkit.neuro.plots.scalp.use import plot_use
from nbkit.neuro.training.held_out.channels import channel_use, largest_by_chance, near

NAMES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2", "T7", "T8")
O1, SFREQ = 4, 100.0


class Side(torch.utils.data.Dataset):
    """Windows of some people, whose target is the amplitude of O1."""

    def __init__(self, people: int, classes: bool, seed: int, each: int = 10) -> None:
        rng = np.random.default_rng(seed)
        count = people * each
        self.subjects = np.array([f"s{n}" for n in np.repeat(np.arange(people), each)])
        number = rng.permuted(np.tile(np.arange(each) % 2, (people, 1)), axis=1).ravel()
        self.target = number.astype(float) if classes else number + 0.2 * rng.normal(size=count)
        tone = np.sin(2 * np.pi * 10 * np.arange(100) / SFREQ + rng.uniform(0, 6, (count, 1)))
        self.windows = rng.normal(size=(count, len(NAMES), 100))
        self.windows[:, O1] += (2.0 * (1 + self.target))[:, None] * tone

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, row: int) -> dict:
        return {"window": torch.tensor(self.windows[row], dtype=torch.float32), "target": self.target[row]}

    def column(self, name: str) -> np.ndarray:
        return self.target


def data_of(classes: bool = True, people: int = 8):
    sides = {"train_dataset": Side(6, classes, 0), "test_dataset": Side(people, classes, 1)}
    words = {"classes": ("low", "high") if classes else (), "ch_names": NAMES, "sfreq": SFREQ}
    return SimpleNamespace(**sides, **words, batched=lambda side: side)


class Reads(torch.nn.Module):
    """A network that reads the deviation of some channels, and no other."""

    target, device = "target", torch.device("cpu")

    def __init__(self, channels: list[int], classes: bool) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes

    def predicted(self, windows):
        value = windows[:, self.channels].std(-1).mean(1) / 1.42 - 1.1
        chance = torch.sigmoid(4 * (value - 0.5))
        return torch.stack([1 - chance, chance], 1) if self.classes else value


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
def test_the_channel_that_a_network_reads_is_found_and_no_other(classes):
    data = data_of(classes)
    use = channel_use(Reads([O1], classes), data)
    assert np.flatnonzero(use.rise > use.reached).tolist() == [O1] and use.low[O1] > 0
    assert not use.rise[np.arange(len(NAMES)) != O1].any(), "what it does not read costs nothing"
    assert abs(use.shuffled[O1]) < 0.25 * use.rise[O1], "with shuffled targets there is nothing to lose"
    assert (use.people, use.windows, use.together) == (8, 80, 1)
    assert use.words()[0].startswith("the network without O1: error + ") and "1 are above it" in use.words()[-1]


def test_a_network_that_has_learned_nothing_uses_no_channel():
    found = []
    for seed in range(12):
        data = data_of()
        data.test_dataset = Side(8, True, seed + 10)
        use = channel_use(Reads([0, 2, 3], True), data, seed=seed)  # channels that hold no target
        found.append((use.rise > use.reached).any())
    assert np.mean(found) <= 0.1  # 5 % by chance; measured over 200: 0.015
    few = channel_use(Reads([O1], True), data_of(people=4))
    assert not (few.rise > few.reached).any() and "five people" in few.words()[-1]


def test_the_number_of_windows_is_bounded_for_all_people_alike():
    use = channel_use(Reads([O1], True), data_of(), most=40)
    assert use.windows == 40 and use.people == 8 and use.rise.argmax() == O1


def test_channels_of_a_dense_net_go_together_and_those_without_a_place_alone():
    net = [f"E{number}" for number in range(1, 129)]
    groups = near(net)
    assert all(number in group for number, group in enumerate(groups)) and 2 <= np.median(list(map(len, groups))) <= 8
    assert near(NAMES) == [[number] for number in range(len(NAMES))]
    assert near(["X1", "X2"]) == [[0], [1]]


def test_chance_is_the_largest_of_all_channels_after_changes_of_sign():
    rng = np.random.default_rng(0)
    hits = [(rises := rng.normal(size=(5, 8))).mean(1).max() > largest_by_chance(rises) for _ in range(300)]
    assert 0.02 <= np.mean(hits) <= 0.09  # 5 %


def test_a_channel_alone_is_scored_on_the_test_subjects_and_both_are_drawn():
    for classes in (True, False):
        data = data_of(classes)
        alone = scalp_of_split(data, bands=((8.0, 13.0),))
        assert alone.score[0].argmax() == O1 and alone.score[0, O1] > alone.reached and alone.people == 8
        figure = plot_use(channel_use(Reads([O1], classes), data), alone, stand_in="made up")
        titles = [axes.get_title().replace("\n", ": ") for axes in figure.axes]
        assert "Network: Channel exchanged" in titles and "Network: The same, targets shuffled" in titles
