"""A fault at the n-th operation of one training session: words, nothing lost, and the bits of an uninterrupted run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nbkit.runtime.disk import DiskError
from nbkit.runtime.training.checkpoint_io import write_checkpoint
from tests.runtime.items.nth_fault_items import short_waits
from tests.runtime.store.nth_fault import striking_disk
from tests.runtime.training.faults import nth_fault_training
from tests.runtime.training.faults.nth_fault_training import KINDS, faulty_session, uninterrupted

pytestmark = pytest.mark.train


@pytest.fixture(autouse=True)
def _short_waits():
    with short_waits():
        yield


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return uninterrupted(tmp_path_factory.mktemp("whole"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_fault_at_an_nth_operation_of_a_training(tmp_path: Path, kind: str, expected: str) -> None:
    # each kind at another place, once and lasting in turn; bench_faults takes them all
    index = KINDS.index(kind)
    n = {"memory": 611, "store": 2 + index}.get(kind.split()[0], 11 + 13 * index)
    outcome = faulty_session(tmp_path, kind, n, bool(index % 2) and kind != "memory", expected)
    assert outcome.struck and not outcome.faults, f"{n} {outcome.struck[:1]}: {outcome.faults}"


def test_full_disk_in_a_save_is_told_with_what_it_needs_and_what_is_free(tmp_path: Path) -> None:
    path = tmp_path / "step-000000004.ckpt"
    with striking_disk([tmp_path], 28, 3), pytest.raises(DiskError) as error:
        write_checkpoint({"a": torch.zeros(500_000), "b": torch.zeros(250_000)}, path)
    words = str(error.value)
    assert "about 3.0 MB were needed" in words and "MB are free" in words and path.name in words
    assert not list(tmp_path.iterdir())


def test_the_sweep_sees_a_receipt_of_half_a_checkpoint(
    tmp_path: Path, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(tree: object, path: Path) -> tuple[int, str]:
        return write_checkpoint(tree, path)[0] + 1, "0" * 64

    monkeypatch.setattr("nbkit.runtime.training.checkpoint_io.write_checkpoint", careless)
    outcome = faulty_session(tmp_path, "store before permanent", 9, False, expected)
    assert any("not what its receipt records" in fault for fault in outcome.faults)


def test_the_sweep_sees_another_end(tmp_path: Path, expected: str) -> None:
    assert nth_fault_training.STEPS == 20
    outcome = faulty_session(tmp_path, "store after passing", 9, False, expected[::-1])
    assert any("differs" in fault for fault in outcome.faults)
