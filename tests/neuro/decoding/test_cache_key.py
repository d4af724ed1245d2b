"""The key of a cached embedding: every setting of the objects that make one is changed in turn."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from nbkit.neuro.decoding.cache import EmbeddingCache, context_of
from nbkit.neuro.decoding.frozen import FrozenEmbedding
from nbkit.neuro.decoding.models.foundation import FoundationModel
from nbkit.neuro.decoding.models.registry import load_model
from nbkit.neuro.signals.intake.cleaning import Cleaning

NAMES = ("C3", "Cz", "C4")


class Toy(nn.Module):
    """A network whose output hangs on a weight, a number and a function."""

    def __init__(self, power=2, function=torch.tanh):
        super().__init__()
        self.weight, self.power, self.function = nn.Parameter(torch.ones(3)), power, function

    def forward(self, windows):
        return self.function((windows.mean(-1) * self.weight) ** self.power)


PLACES = {name: (0.01 * number, 0.02, 0.09) for number, name in enumerate(NAMES)}
GIVEN = dict(
    key="toy", backbone=Toy(), ch_names=NAMES, sfreq=100.0, n_times=50, dim=3, normalisation="microvolt",
    weights="random, seed 0", lora_targets=(), positions=PLACES, template=None, device="cpu", farthest=30.0, seen=None,
    cleaning=Cleaning(100.0, 0.5, 40.0),
)  # fmt: skip
OTHERS = dict(
    key="toy2", backbone=Toy(power=3), ch_names=NAMES[::-1], sfreq=128.0, n_times=40, dim=4, normalisation="hundredth",
    weights="random, seed 1", lora_targets=("a",), positions=dict(zip(NAMES, list(PLACES.values())[::-1], strict=True)),
    template="standard_1020", device="meta", farthest=60.0, seen=("S1",),
    cleaning=Cleaning(100.0, 0.5, 45.0),
)  # fmt: skip
NO_EMBEDDING = {"lora_targets", "seen", "device"}  # what changes none; the device is that of the computation


def key_of(model=None, **of_embedding):
    given = {"ch_names": NAMES, "sfreq": 100.0} | of_embedding
    embedding = FrozenEmbedding(model or FoundationModel(**GIVEN), **given)
    return context_of(embedding.made_of(embedding.model))


def test_every_setting_of_a_model_is_listed_here():
    assert list(inspect.signature(FoundationModel).parameters) == list(GIVEN) == list(OTHERS)


@pytest.mark.parametrize("name", [name for name in GIVEN if name not in NO_EMBEDDING])
def test_each_setting_of_a_model_changes_the_key(name):
    changed = FoundationModel(**GIVEN | {name: OTHERS[name]})
    assert key_of(changed) != key_of() == key_of(FoundationModel(**GIVEN | {"backbone": Toy()}))


def test_what_changes_no_embedding_changes_no_key():
    for name in ("lora_targets", "seen"):
        assert key_of(FoundationModel(**GIVEN | {name: OTHERS[name]})) == key_of()


@pytest.mark.parametrize("change", [{"function": torch.sigmoid}, {"power": 4}], ids=["function", "power"])
def test_a_network_counts_with_all_it_is_made_of(change):
    assert key_of(FoundationModel(**GIVEN | {"backbone": Toy(**change)})) != key_of()
    later = FoundationModel(**GIVEN | {"backbone": Toy()})
    later.new_setting = 3  # one that somebody adds counts without being listed
    assert key_of(later) != key_of()


def test_each_parameter_of_the_embedding_counts():
    others = {"ch_names": NAMES[::-1], "sfreq": 128.0, "precision": "bf16"}
    no_embedding = {"model", "weights", "seed", "cache", "batch_size", "device"}  # the model has its fingerprint
    assert set(others) | no_embedding == set(FrozenEmbedding().get_params(deep=False))
    for name, value in others.items():
        assert key_of(**{name: value}) != key_of()
    for name, value in {"batch_size": 7, "seed": 3}.items():
        assert key_of(**{name: value}) == key_of()


def test_reversed_positions_are_never_served_stale(tmp_path):
    names = list("abcdefghi")
    places = [(np.sin(x) * 0.08, np.cos(x) * 0.08, 0.03) for x in np.linspace(0, 6, 8)] + [(0.0, 0.0, 0.095)]
    windows, cache = np.random.default_rng(0).normal(size=(4, 9, 100)).astype(np.float32), EmbeddingCache(tmp_path)
    found = []
    for order in (places, places[::-1]):
        at = dict(zip(names, order, strict=True))
        given = GIVEN | {
            "ch_names": ("Cz", "C3", "Pz"),
            "positions": at,
            "farthest": 90.0,
            "backbone": Toy(),
            "cleaning": None,
        }
        model = FoundationModel(**given)
        embedding = FrozenEmbedding(model, names, 100.0, cache=cache)
        kept = embedding.fit_transform(windows)
        np.testing.assert_array_equal(kept, FrozenEmbedding(model, names, 100.0).fit_transform(windows))
        found.append(kept)
    assert np.abs(found[0] - found[1]).max() > 0.01 and cache.use.computed == 8


def test_a_fingerprint_does_not_change_by_embedding():
    model = load_model("cbramod", window=2.0)
    before = model.fingerprint
    model.embed(np.zeros((1, 19, 400), np.float32))
    model.__dict__.pop("fingerprint")
    assert model.fingerprint == before == load_model("cbramod", window=2.0).fingerprint
