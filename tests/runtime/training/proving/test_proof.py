"""The proof finds planted faults and their causes, passes what is exact, and leaves everything as it was."""

from __future__ import annotations

import random
import threading
import time

import cloudpickle
import lightning
import numpy as np
import pytest
import torch

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.training.proving.interpreters import Interpreters
from nbkit.runtime.training.proving.proof import prove
from tests.runtime.training.proving.plants import (
    PLANTS,
    Data,
    FunctionAttribute,
    FunctionSwapped,
    LossSwapped,
    OtherModule,
    Plain,
    Rows,
)
from tests.runtime.training.training_support import FakeSession, Tiny, TinyData

pytestmark = pytest.mark.train
LONG = {"limit": "20min"}  # a busy machine would have time for fewer stops


@pytest.fixture(scope="module")
def interpreters(tmp_path_factory):
    with Interpreters(tmp_path_factory.mktemp("proofs") / "log.txt") as running:
        yield running


@pytest.fixture
def session(tmp_path):
    return FakeSession(tmp_path / "session")


@pytest.mark.parametrize(("module", "data", "kind", "named"), PLANTS.values(), ids=PLANTS.keys())
def test_a_planted_fault_is_found_with_its_cause(session, interpreters, module, data, kind, named):
    report = prove(session, module(), data(), steps=10, stops=2, interpreters=interpreters, **LONG)
    assert not report.exact, report.words()
    assert report.cause is not None and report.cause.kind == kind, report.words()
    assert named in " ".join(report.cause.where), report.words()
    assert report.first is not None and report.first.trained


@pytest.mark.parametrize("module", [OtherModule, FunctionAttribute])
def test_what_was_a_fault_once_is_proved(session, interpreters, module):
    report = prove(session, module(), Data(), steps=10, stops=2, interpreters=interpreters, **LONG)
    assert report.exact, report.words()


@pytest.mark.parametrize("module", [LossSwapped, FunctionSwapped])
def test_what_a_training_refuses_its_proof_refuses_in_the_same_words(session, interpreters, module):
    with pytest.raises(NbkitError, match="shape") as error:
        prove(session, module(), Data(), steps=10, stops=2, interpreters=interpreters, **LONG)
    assert "Traceback" not in str(error.value)


def _generators():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_what_is_exact_is_proved_and_everything_is_left_as_it_was(session, interpreters):
    module, data, store = Tiny(), TinyData(validation=True, augment=True), session.folder / "none"
    before = cloudpickle.dumps((module, data)), _generators()
    report = prove(
        session, module, data, steps=12, stops=6, accumulate_grad_batches=2, monitor="val_loss", seed=3,
        interpreters=interpreters, **LONG,
    )  # fmt: skip
    assert report.exact and report.steps == 12 and len(report.stops) == 6, report.words()
    kinds = {words.partition(":")[0] for words in report.stops}
    assert kinds >= {
        "mid-epoch", "first batch of an epoch", "in a validation", "while gradients are accumulated", "killed"
    }  # fmt: skip
    assert report.words().startswith("Exact: 12 steps, stopped 6 times (")
    assert (cloudpickle.dumps((module, data)), _generators()) == before
    assert not list(session.folder.iterdir()) and not store.exists() and not session.events


def test_a_plain_loader_is_proved_too(session, interpreters):
    assert prove(session, Plain(), Data().train_dataloader(), steps=8, stops=1, interpreters=interpreters, **LONG).exact


class Timed(Plain):
    """Logs how fast it is."""

    def factor(self) -> float:
        self.log("rate", time.perf_counter())
        return 1.0


def test_a_measured_time_among_the_metrics_harms_nothing(session, interpreters):
    report = prove(session, Timed(), Data(), steps=10, stops=2, log_every_n_steps=1, interpreters=interpreters, **LONG)
    assert report.exact and report.notes == ("metric rate",), report.words()


class Saying(Plain):
    """Names a session that holds locks, as a class of a notebook names the global one."""

    def __init__(self, session, of="say"):
        super().__init__()
        self.open, self.of = session, of

    def factor(self) -> float:
        getattr(self.open, self.of)("a step")
        return 1.0


@pytest.fixture
def locked(session):
    session.lock = threading.Lock()
    return session


def test_the_session_that_a_training_names_is_the_trials_own(locked, interpreters):
    given = {"callbacks": [lightning.pytorch.callbacks.LambdaCallback(on_train_end=lambda *_: locked.say("the end"))]}
    report = prove(locked, Saying(locked), Data(), steps=8, stops=1, interpreters=interpreters, **given, **LONG)
    assert report.exact, report.words()
    assert not locked.said and not locked.events


def test_what_a_proofs_session_has_not_is_named(locked, interpreters):
    with pytest.raises(UsageError, match="session.inputs is not there in a proof"):
        prove(locked, Saying(locked, "inputs"), Data(), steps=8, stops=1, interpreters=interpreters, **LONG)


class Once(Plain):
    """Cannot be loaded."""

    def on_load_checkpoint(self, checkpoint):
        raise ValueError("there is no second time")


def test_a_resume_that_fails_is_a_finding(session, interpreters):
    report = prove(session, Once(), Data(), steps=10, stops=2, interpreters=interpreters, **LONG)
    assert not report.exact and "It could not resume: ValueError: there is no second time" in report.words()


class Slow(Rows):
    def shift(self, index: int) -> float:
        time.sleep(0.05)
        return 0.0


def test_slow_steps_are_proved_as_far_as_the_time_goes(session, interpreters):
    report = prove(session, Plain(), Data(Slow()), steps=100, stops=2, limit="40s", interpreters=interpreters)
    assert report.exact and 4 < report.steps < 100, report.words()


def test_a_training_that_fails_by_itself_is_told_as_such(session, interpreters):
    module = Plain()
    module.net = torch.nn.Linear(3, 1)
    with pytest.raises(UsageError, match="fails by itself, in one go: RuntimeError"):
        prove(session, module, Data(), steps=10, stops=2, interpreters=interpreters, **LONG)


def test_what_fit_refuses_is_refused_in_its_words(session, interpreters):
    with pytest.raises(UsageError, match="names a validation metric"):
        prove(
            session, Plain(), Data().train_dataloader(), steps=10, monitor="val_loss", interpreters=interpreters, **LONG
        )


def test_what_cannot_be_copied_is_named(session, interpreters):
    data = Data()
    data.lock = threading.Lock()
    with pytest.raises(UsageError, match=r"The data cannot be copied for a proof: .*open them in setup\(\)"):
        prove(session, Plain(), data, interpreters=interpreters, **LONG)


@pytest.mark.parametrize("wrong", [{"steps": 2}, {"stops": 0}, {"steps": True}, {"stops": 1.5}])
def test_steps_and_stops_are_numbers(session, wrong):
    with pytest.raises(UsageError, match="must be a whole number from"):
        prove(session, Plain(), Data(), **wrong)
