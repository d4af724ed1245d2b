"""Clues in the user's code, and what they mean for two runs that differ."""

from __future__ import annotations

import datetime
import os
import secrets
import threading
import time
import uuid
from time import perf_counter

import lightning
import numpy as np
import pytest
import torch

from nbkit.runtime.training.proving.causes import REMEDIES, Cause, not_repeatable
from nbkit.runtime.training.proving.clues import clues_of
from nbkit.runtime.training.proving.compare import Difference


class Suspect(torch.utils.data.Dataset):
    def __init__(self) -> None:
        self.transform = scaled

    def clock(self):
        return time.time(), perf_counter(), datetime.datetime.now()

    def entropy(self):
        return os.urandom(4), uuid.uuid4(), secrets.token_bytes(4), os.getpid()

    def unseeded(self):
        return np.random.default_rng()

    def hashed(self):
        return hash("x"), list({"a", "b"})

    def filed(self, path):
        with open(path) as file:
            return [file.read() for _ in range(2)]

    def threaded(self):
        return threading.Thread(target=self.filed)


def scaled(x):
    return x * time.monotonic()


class Innocent(lightning.LightningModule):
    def forward(self, x):
        time.sleep(0)
        generator = torch.Generator().manual_seed(3)
        return x + torch.randn(2, generator=generator) + float(np.random.default_rng([1, 2]).normal())

    def on_train_epoch_start(self):
        pass


def test_what_a_dataset_calls_is_found_with_its_place():
    found = {(kind, call, place.partition(",")[0]) for kind, call, place, _ in clues_of(Innocent(), Suspect(), [])}
    expected = {
        ("clock", "time", "Suspect.clock"), ("clock", "perf_counter", "Suspect.clock"),
        ("clock", "now", "Suspect.clock"), ("clock", "monotonic", "scaled"), ("entropy", "urandom", "Suspect.entropy"),
        ("entropy", "uuid4", "Suspect.entropy"), ("entropy", "token_bytes", "Suspect.entropy"),
        ("entropy", "getpid", "Suspect.entropy"), ("generator", "default_rng", "Suspect.unseeded"),
        ("hash", "hash", "Suspect.hashed"), ("hash", "a set", "Suspect.hashed"), ("file", "open", "Suspect.filed"),
        ("thread", "Thread", "Suspect.threaded"),
        ("epoch start", "on_train_epoch_start", "Innocent.on_train_epoch_start"),
    }  # fmt: skip
    assert found == expected


CLUES = [["clock", "time", "here", "data"], ["entropy", "uuid4", "there", "module"]]


@pytest.mark.parametrize(
    ("name", "on_gpu", "clues", "kind"),
    [
        ("batch[0]", True, CLUES[:1], "clock"),
        ("weight a", False, CLUES, "entropy"),
        ("weight a", True, CLUES, "entropy"),
        ("weight a", True, CLUES[:1], "kernels"),  # the clock is in the data, and the batches were equal
        ("weight a", True, [], "kernels"),
        ("weight a", False, [], "not repeatable"),
    ],
)
def test_equal_batches_that_give_other_weights_on_a_gpu_are_its_kernels(name, on_gpu, clues, kind):
    assert not_repeatable(Difference(1, 0, 1, name, "1", "2"), clues, on_gpu).kind == kind


@pytest.mark.parametrize("kind", REMEDIES)
def test_every_cause_has_words_and_a_remedy(kind):
    words = Cause(kind, ("at this place",)).words()
    assert words.startswith("The likeliest cause is ") and "(at this place). " in words and words.endswith(".")
