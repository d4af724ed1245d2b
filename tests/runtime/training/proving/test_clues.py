"""Clues in the user's code: clocks, entropy, hashes, files and threads, with their places."""

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
import torch

from nbkit.runtime.training.proving.clues import clues_of


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
        self.share = 0.5


def test_what_a_dataset_calls_is_found_with_its_place():
    found = {(kind, call, place.partition(",")[0]) for kind, call, place, _ in clues_of(Innocent(), Suspect(), [])}
    expected = {
        ("clock", "time", "Suspect.clock"), ("clock", "perf_counter", "Suspect.clock"),
        ("clock", "now", "Suspect.clock"), ("clock", "monotonic", "scaled"), ("entropy", "urandom", "Suspect.entropy"),
        ("entropy", "uuid4", "Suspect.entropy"), ("entropy", "token_bytes", "Suspect.entropy"),
        ("entropy", "getpid", "Suspect.entropy"), ("generator", "default_rng", "Suspect.unseeded"),
        ("hash", "hash", "Suspect.hashed"), ("hash", "a set", "Suspect.hashed"), ("file", "open", "Suspect.filed"),
        ("thread", "Thread", "Suspect.threaded"),
        ("epoch start", "share", "Innocent.on_train_epoch_start"),
    }  # fmt: skip
    assert found == expected
