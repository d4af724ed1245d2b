"""Pieces of a batch: chosen from measured memory, doubled once where it runs out, kept with the run."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

from nbkit.runtime.errors import NbkitError
from nbkit.runtime.training.bounds import pieces as subject
from nbkit.runtime.training.bounds.pieces import pieces_for
from nbkit.runtime.training.fit import fit
from tests.runtime.training.training_support import (
    FakeSession,
    StopAt,
    Tiny,
    TinyData,
    checkpoint_of,
    digest,
    run_child,
)


class Cut(Tiny):
    """A training whose steps come in pieces; the memory is enough for so many rows at a time, from a step on."""

    def __init__(self, room: int = 100, from_step: int = 0, pieces: int = 1) -> None:
        super().__init__()
        self.pieces, self.__dict__["room"], self.__dict__["from_step"] = pieces, room, from_step
        self.__dict__["sizes"] = []

    def step_parts(self, batch, batch_idx):
        x, y = batch
        rows = -(-len(x) // self.pieces)
        for piece in range(self.pieces):
            some = slice(piece * rows, (piece + 1) * rows)
            if self.global_step >= self.from_step and len(x[some]) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words")
            self.sizes.append(len(x[some]))
            yield "loss", super().training_step((x[some], y[some]), batch_idx) * len(x[some]) / len(x)

    def training_step(self, batch, batch_idx):
        return sum(loss for _, loss in self.step_parts(batch, batch_idx))


def trained(folder: Path, module: Cut, steps: int = 12, stop: int | None = None):
    session = FakeSession(folder)
    callbacks = [StopAt(session, stop)] if stop else []
    report = fit(session, module, TinyData(batch_size=8), max_steps=steps, save_every=None, callbacks=callbacks)
    return report, digest(checkpoint_of(folder)), session.said, module.pieces


def test_the_pieces_are_the_fewest_that_fit() -> None:
    for batch, each, fixed, room in product((1, 8, 96, 128), (0.0, 1.0, 3.0), (0.0, 50.0), (60.0, 100.0, 200.0, 1e9)):
        rows = max(1, batch // 16) * 2

        def bytes_of(count: int, each=each, fixed=fixed) -> float:
            return fixed + each * count

        found = pieces_for(batch, rows, bytes_of(rows - rows // 2), bytes_of(rows), room)
        powers = [2**n for n in range(10) if 2**n < 2 * batch]
        fits = [n for n in powers if bytes_of(-(-batch // n)) <= room]
        assert found == (fits[0] if fits else powers[-1])


def test_memory_that_runs_out_at_the_first_step_begins_again_in_twice_the_pieces(tmp_path: Path) -> None:
    (report, state, said, pieces), straight = run_child(
        lambda: (trained(tmp_path / "a", Cut(room=4)), trained(tmp_path / "b", Cut(pieces=2)))
    )
    assert report.complete and pieces == 2 and report.chosen == {"pieces": 2}
    assert state == straight[1], "the same bits as a run that began with two pieces"
    assert any("The memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB)" in line for line in said)


def test_memory_that_runs_out_later_goes_on_from_the_state_before_that_step(tmp_path: Path) -> None:
    report, _, said, pieces = run_child(trained, tmp_path, Cut(room=4, from_step=6))
    assert report.complete and pieces == 2 and report.resumed_from == 6, said


def test_a_later_session_keeps_the_pieces(tmp_path: Path) -> None:
    def sessions():
        trained(tmp_path / "a", Cut(room=4), stop=5)
        module = Cut()  # another machine, with room for all
        report, state, said, pieces = trained(tmp_path / "a", module)
        return report, state, said, pieces, set(module.sizes), trained(tmp_path / "b", Cut(pieces=2))[1]

    report, state, said, pieces, sizes, straight = run_child(sessions)
    assert report.resumed_from == 5 and pieces == 2 and max(sizes) == 4 and state == straight
    assert any("trained in 2 pieces" in line for line in said)


def test_memory_that_runs_out_twice_is_an_error_in_words(tmp_path: Path) -> None:
    def train() -> str:
        with pytest.raises(NbkitError) as error:
            trained(tmp_path, Cut(room=1))
        return str(error.value)

    words = run_child(train)
    assert "in 2 pieces: CUDA out of memory. Tried to allocate 2.00 GiB" in words and "SETTINGS" in words


def test_a_module_without_pieces_meets_the_error_itself(tmp_path: Path) -> None:
    class Whole(Tiny):
        def training_step(self, batch, batch_idx):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def train() -> None:
        with pytest.raises(torch.OutOfMemoryError):
            fit(FakeSession(tmp_path), Whole(), TinyData(), max_steps=5)

    run_child(train)


def test_on_a_gpu_the_pieces_are_measured_on_a_copy(tmp_path: Path, monkeypatch) -> None:
    rows_seen = []

    def peak(module, batch, precision):
        rows_seen.append(len(batch[0]))
        assert module is not watched and precision == "32-true"
        return 10.0 + 100.0 * len(batch[0])

    watched = Cut()
    monkeypatch.setattr(subject, "peak", peak)
    monkeypatch.setattr(Cut, "cuda", lambda module: module)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    weights = sum(weight.nbytes for weight in watched.parameters())
    for room, pieces in ((10_000, 1), (900, 2), (500, 4), (1, 32)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda room=room: ((room + 3 * weights) / 0.85, 0))
        cutting = subject.Cutting(watched, TinyData(batch_size=16), {}, "cuda", "32-true", True, print)
        draws = torch.random.get_rng_state()
        cutting._begin(None)
        assert watched.pieces == cutting.chosen["pieces"] == min(pieces, 16), room
        assert torch.equal(draws, torch.random.get_rng_state())
    assert set(rows_seen) == {1, 2}
