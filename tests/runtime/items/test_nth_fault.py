"""A fault at the n-th operation of the disk, the store or the memory: words, nothing lost, nothing doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbkit.ground import files
from nbkit.runtime.ledger.ledger import Ledger
from tests.runtime.items.nth_fault_items import faulty_session, short_waits, sweep, traceback_in

DISKS = [f"{where} {number}" for where in ("work", "store-disk") for number in ("ENOSPC", "EIO", "EROFS", "EDQUOT")]
STORES = [f"store {how} {kind}" for how in ("before", "after", "half") for kind in ("passing", "permanent")]


@pytest.fixture(autouse=True)
def _short_waits():
    with short_waits():
        yield


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("kind", [*DISKS, *STORES])
def test_fault_of_the_surroundings_at_an_nth_operation(tmp_path: Path, kind: str, lasting: bool) -> None:
    # each kind has other places, so that all together come close to every n; bench_faults takes every n
    stride, first = (2, 0) if kind.startswith("store ") else (31, (DISKS.index(kind) * 5 + lasting * 17) % 31)
    outcomes = sweep(tmp_path, kind, lasting, lambda n: n % stride == first)
    wrong = [f"{o.n} {o.struck[:1]}: {o.faults}" for o in outcomes if o.faults]
    assert not wrong, "\n".join(wrong[:5])
    assert len(outcomes) >= 1, f"only {len(outcomes)} sessions met a fault"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_memory_that_ends_at_an_nth_call(tmp_path: Path) -> None:
    outcomes = sweep(tmp_path, "memory", False, lambda n: n % 61 == 5)
    wrong = [f"{o.n} {o.struck[:1]}: {o.faults}" for o in outcomes if o.faults]
    assert not wrong, "\n".join(wrong[:5])
    assert len(outcomes) >= 10


@pytest.mark.parametrize("target", ["_make_calls", "Outbox._run", "Watch._run", "Claiming._bring"])
def test_a_thread_that_finds_no_memory_to_begin_is_begun_again(tmp_path: Path, target: str) -> None:
    for n in range(1, 4):
        outcome = faulty_session(tmp_path / str(n), f"memory :{target}", n, False)
        assert not outcome.faults, outcome.faults
    assert faulty_session(tmp_path / "first", f"memory :{target}", 1, False).struck, "no thread of this name"


def test_full_disk_is_told_with_place_and_room(tmp_path: Path) -> None:
    told = [
        o.error for n in range(30, 60, 6) if (o := faulty_session(tmp_path / str(n), "work ENOSPC", n, False)).error
    ]
    assert told and all("lane-0" in words and "MB" in words for words in told if "is full" in words), told
    assert any("is full" in words and "were needed" in words and "done again" in words for words in told), told


def test_the_sweep_sees_a_record_before_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(path: Path, write, temp: Path | None = None) -> tuple[int, str]:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            hashing = files._Hashing(file)
            try:
                write(hashing)
            except OSError:
                pass  # half a file that counts
        return hashing.size, hashing.digest.hexdigest()

    monkeypatch.setattr("nbkit.runtime.items.work.write_atomically", careless)
    # which operation is the n-th differs from run to run, so each is struck until one shows it
    assert any(faulty_session(tmp_path / str(n), "work ENOSPC", n, False).faults for n in range(5, 200))


def test_only_what_python_says_of_a_generator_is_no_traceback_of_ours() -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in trace\n    raise error\nMemoryError: \n'
    ignored = f"1/4Exception ignored in: <generator object covers.<genexpr> at 0x7f>\n{trace}"
    assert not traceback_in(ignored) and not traceback_in(f"{ignored}fine\n{ignored}")
    assert traceback_in(trace) and traceback_in(ignored + trace) and traceback_in(trace + ignored)
    assert traceback_in(f"Exception ignored in: <function Session.__del__ at 0x7f>\n{trace}")
    assert traceback_in(ignored.replace("MemoryError: ", "KeyError: 1"))


def test_the_sweep_sees_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove_upload(self: Ledger, row: int) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Ledger, "remove_upload", remove_upload)
    assert any("traceback" in fault for fault in faulty_session(tmp_path, "work EIO", 1000, False).faults)
