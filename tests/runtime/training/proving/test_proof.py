"""The proof finds planted faults and their causes, passes what is exact, and leaves everything as it was."""

from __future__ import annotations

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.proving.interpreters import Interpreters
from nbkit.runtime.training.proving.proof import prove
from tests.runtime.training.proving.plants import PLANTS, Data, Plain
from tests.runtime.training.training_support import FakeSession

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def interpreters(tmp_path_factory):
    with Interpreters(tmp_path_factory.mktemp("proofs") / "log.txt") as running:
        yield running


@pytest.fixture
def session(tmp_path):
    return FakeSession(tmp_path / "session")


@pytest.mark.parametrize(("module", "data", "kind", "named"), PLANTS.values(), ids=PLANTS.keys())
def test_a_planted_fault_is_found_with_its_cause(session, interpreters, module, data, kind, named):
    report = prove(session, module(), data(), steps=12, stops=3, interpreters=interpreters)
    assert not report.exact, report.words()
    assert report.cause is not None and report.cause.kind == kind, report.words()
    assert named in " ".join(report.cause.where), report.words()
    assert report.first is not None and report.first.trained


def test_what_is_exact_is_proved(session, interpreters):
    report = prove(session, Plain(), Data(), steps=12, stops=5, accumulate_grad_batches=2, interpreters=interpreters)
    assert report.exact and report.steps == 12 and len(report.stops) == 5, report.words()
    assert any(words.startswith("killed") for words in report.stops)


def test_a_training_that_fails_is_told_as_such(session, interpreters):
    module = Plain()
    module.net = torch_linear(3)
    with pytest.raises(UsageError, match="fails by itself, in one go: RuntimeError"):
        prove(session, module, Data(), steps=12, stops=3, interpreters=interpreters)


def torch_linear(width: int):
    import torch

    return torch.nn.Linear(width, 1)
