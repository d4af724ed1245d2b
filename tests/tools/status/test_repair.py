"""Repair: what is lost or damaged in a store is made again, whatever it was and whatever the order of the records."""

from __future__ import annotations

import hashlib
import itertools
import random
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.ledger.segments import LedgerState, read_state
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.newest import newest_step
from nbkit.tools.commands.cli import run
from nbkit.tools.status.verify import verify_store, words

KEYS = ("a", "b", "sub/c")


def session_once(root: Path) -> tuple[dict, list[str]]:
    """Run a session of the phase; give its summary and the items it did."""
    session, did = nbkit.open_session("toy", store=root / "store", folder=root / "work"), []
    for item in session.work([{"key": key} for key in KEYS]):
        with item:
            did.append(item.key)
            item.save(x=np.arange(100))
    return session.close(), did


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert session_once(tmp_path)[0]["complete"]
    folder = tmp_path / "store/toy/checkpoints"
    folder.mkdir()
    for step in (10, 20):
        content = f"weights {step}".encode() * 1000
        (folder / f"step-{step:09d}.ckpt").write_bytes(content)
        Receipt("toy", step, 0, step, len(content), hashlib.sha256(content).hexdigest()).write(folder)
    (tmp_path / "store/toy/results.json").write_text('{"metrics": {}}')
    return tmp_path / "store"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


HURTS = [flip, half, Path.unlink, lambda path: path.write_bytes(b"")]


@pytest.mark.parametrize("hurt", HURTS, ids=["flipped", "half", "deleted", "empty"])
@pytest.mark.parametrize("lost", [("a",), ("sub/c", "b"), KEYS])
def test_lost_items_are_done_again_and_only_they(store, tmp_path, hurt, lost) -> None:
    for key in lost:
        hurt(store / f"toy/items/{key}.npz")
    found = verify_store(str(store), repair=True)
    assert set(found.repaired) == {f"toy/items/{key}.npz" for key in lost} == set(found.faults)
    assert "pending again" in words(found)
    summary, did = session_once(tmp_path)
    assert summary["complete"] and sorted(did) == sorted(lost) and summary["done"] == len(KEYS)
    assert not verify_store(str(store)).faults
    assert session_once(tmp_path)[1] == [], "done again for good"


def test_an_item_is_lost_twice(store, tmp_path) -> None:
    for _ in range(3):
        flip(store / "toy/items/a.npz")
        verify_store(str(store), repair=True)
        assert session_once(tmp_path)[1] == ["a"]
    assert not verify_store(str(store)).faults


# a checkpoint without a receipt does not exist, so a receipt is not deleted here
@pytest.mark.parametrize(("part", "hurt"), [("ckpt", hurt) for hurt in HURTS] + [("json", h) for h in HURTS[:2]])
def test_a_damaged_generation_is_set_aside_and_the_one_before_is_used(store, hurt, part) -> None:
    hurt(store / f"toy/checkpoints/step-000000020.{part}")
    found = verify_store(str(store), repair=True)
    assert found.faults and set(found.faults) <= set(found.repaired)
    assert "training resumes from step 10" in words(found)
    assert newest_step(FolderStore(store), "toy") == 10
    assert list((store / "toy/checkpoints/damaged").iterdir()), "nothing is thrown away"
    assert not verify_store(str(store)).faults


def test_damaged_results_are_set_aside(store, tmp_path) -> None:
    (store / "toy/results.json").write_text("{")
    found = verify_store(str(store), repair=True)
    assert list(found.repaired) == ["toy/results.json"] and (store / "toy/damaged/results.json").exists()
    assert session_once(tmp_path)[0]["complete"]


def test_without_repair_nothing_is_changed_and_a_fault_of_reading_is_no_loss(store, monkeypatch) -> None:
    from nbkit.runtime.errors import StoreError

    def listing() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}

    flip(store / "toy/items/a.npz")
    before = listing()
    verify_store(str(store))
    assert listing() == before

    real = FolderStore.get

    def get(self, name, path, sha256=None):
        if name.endswith(".npz"):
            raise StoreError("unreachable on purpose")
        return real(self, name, path, sha256)

    monkeypatch.setattr(FolderStore, "get", get)
    found = verify_store(str(store), repair=True)
    assert len(found.faults) == 3 and not found.repaired
    assert listing() == before


def test_the_command_says_what_it_did(store, capsys) -> None:
    assert run(["verify", "--store", str(store)]) == 0
    flip(store / "toy/items/a.npz")
    assert run(["verify", "--store", str(store)]) == 1 and "--repair" in capsys.readouterr().out
    assert run(["verify", "--repair", "--store", str(store)]) == 3
    assert "REPAIRED toy/items/a.npz" in capsys.readouterr().out
    assert run(["verify", "--store", str(store)]) == 0


@pytest.mark.parametrize("slugs", [[], ["toy"]])
def test_a_store_that_is_not_there_is_refused(tmp_path, slugs) -> None:
    with pytest.raises(UsageError, match="does not exist or holds nothing"):
        verify_store(str(tmp_path / "nothing-here"), slugs or None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/holiday.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="holds nothing"):
        verify_store(str(tmp_path / "other"), slugs or None)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def records(rng: random.Random) -> list[tuple[str, dict]]:
    """Return records of some sessions about two items, with losses."""
    found = []
    for number in range(rng.randrange(2, 7)):
        key, turn = rng.choice("ab"), rng.randrange(3)
        if turn and rng.random() < 0.4:
            record = {"e": "lost", "k": key, "r": turn}
        else:
            output = [f"p/items/{key}.npz", rng.randrange(3), "0" * 64]
            record = {"e": "done", "k": key, "o": [output]} | ({"r": turn} if turn else {})
        found.append((f"s{number}", record))
    return found


def expected(found: list[tuple[str, dict]]) -> dict[str, set[int]]:
    """Return by definition what is done: the outputs of the newest round, where no loss is newer."""
    done: dict[str, set[int]] = {}
    for key in "ab":
        rounds = {r.get("r", 0) for _, r in found if r["e"] == "done" and r["k"] == key}
        lost = max((r["r"] for _, r in found if r["e"] == "lost" and r["k"] == key), default=0)
        if rounds and max(rounds) >= lost:
            newest = max(rounds)
            done[key] = {
                r["o"][0][1] for _, r in found if r["e"] == "done" and (r["k"], r.get("r", 0)) == (key, newest)
            }
    return done


@pytest.mark.parametrize("seed", range(40))
def test_the_order_of_the_records_does_not_matter(seed: int) -> None:
    found = records(random.Random(seed))
    for order in itertools.islice(itertools.permutations(found), 200):
        state = LedgerState()
        for session, record in order:
            state.add(session, [(1, dict(record))])
        assert {k: {o[1] for o in outputs} for k, outputs in state.done.items()} == expected(found)


def test_losses_outlive_the_merging_of_sessions(store, tmp_path) -> None:
    for _ in range(3):
        flip(store / "toy/items/b.npz")
        verify_store(str(store), repair=True)
        session_once(tmp_path)
    flip(store / "toy/items/b.npz")
    verify_store(str(store), repair=True)
    for number in range(3):
        state = read_state(FolderStore(store), "toy", tmp_path / f"check-{number}")
        assert set(state.done) == {"a", "sub/c"} and state.rounds.lost == {"b": 4} and not state.damaged
        nbkit.open_session("toy", store=store, folder=tmp_path / "work").close()
    assert session_once(tmp_path)[1] == ["b"]


@pytest.mark.parametrize("text", ["[]", '{"metrics": [1]}', '{"metrics": {}, "data": "\\ud800"}', "{", '"x"', ""])
def test_results_that_no_session_takes_are_named_and_set_aside(store: Path, tmp_path: Path, text: str) -> None:
    (store / "toy/results.json").write_text(text)
    session = nbkit.open_session("toy", store=store, folder=tmp_path / "w")
    with pytest.raises(UsageError, match="'nbkit verify toy --repair' sets it aside"):
        session.result("m", 1.0, unit="1", baseline=0.5, baseline_is="chance")
    session._leave()
    assert list(verify_store(str(store)).faults) == ["toy/results.json"]
    assert run(["verify", "toy", "--repair", "--store", str(store)]) == 3
    assert (store / "toy/damaged/results.json").read_text() == text
    session = nbkit.open_session("toy", store=store, folder=tmp_path / "w2")
    session.result("m", 1.0, unit="1", baseline=0.5, baseline_is="chance")
    session.close()
    assert not verify_store(str(store)).faults


def test_a_repair_that_could_do_nothing_does_not_name_itself_as_the_next_step(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (segment,) = (store / "toy/ledger").rglob("*.jsonl")
    flip(segment)
    assert run(["verify", "toy", "--repair", "--store", str(store)]) == 1
    said = capsys.readouterr().out
    assert "None of them could be dealt with" in said and "'nbkit verify --repair' makes" not in said
    assert run(["verify", "toy", "--store", str(store)]) == 1
    assert "'nbkit verify --repair' makes" in capsys.readouterr().out
