"""The farm of 60 killed for real: SIGKILL in the middle of a video, the machine's disk wiped, the store alone kept."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import nbkit
from nbkit.neuro.tribe.stimuli.segments import read_segment
from nbkit.neuro.tribe.stimuli.stimuli import segment_rows, synthetic_rows
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings
from nbkit.neuro.tribe.stimuli.teacher import SegmentMaker
from nbkit.runtime.ledger.segments import read_state
from tests.runtime.children import die, fork, reap, wait_until

WORLD = replace(SyntheticSettings.smoke(), stimuli=16, duration_s=35.0)
ROWS = [
    {**row, "key": f"{row['key'].removesuffix('_00000')}_{start:05d}", "tr_start": str(start), "tr_end": str(end)}
    for row in segment_rows(synthetic_rows(WORLD), WORLD)
    for start, end in ((0, 10), (10, 20), (20, 30), (30, 35))  # short chunks: a test of seconds
]


class Logged:
    """Note each chunk before its work begins; be killed in the middle of the n-th, once all before it are stored."""

    name = "a map of the second"

    def __init__(self, log: Path, session, kill_in: int | None) -> None:
        self.log, self.session, self.kill_in = log, session, kill_in
        self.mine: set[str] = set()

    def watch_part(self, row, start, end):
        with open(self.log, "a") as file:  # one short write, so that five processes may share the file
            file.write(f"{row['video_id']} {start} {end}\n")
        if len(self.mine) + 1 == self.kill_in:
            # a real chunk takes longer than the upload of the one before it and the next record, 2 s
            store, cache = self.session._raw_store, self.session.folder / "read"
            wait_until(lambda: self.mine <= set(read_state(store, "tribe_teacher", cache).done))
            die()
        self.mine.add(row["key"])
        seconds = np.arange(start, end, dtype=np.float32)[:, None] + int(row["index"])
        return {"predictions": np.sin(seconds * np.arange(400))}


def farm(root: Path, shard: str | None = None, kill_in: int | None = None) -> None:
    folder = root / f"machine-{os.getpid()}"  # a host gives each session a new one
    session = nbkit.open_session("tribe_teacher", store=root / "store", folder=folder, shard=shard)
    make = SegmentMaker(Logged(root / "log", session, kill_in), session.folder / "segments", WORLD)
    for item in session.work(ROWS):
        with item:
            item.save(segment=make(item))
    session.close()


def run(root: Path, shards: int, kill_in: int | None) -> tuple[Counter, int]:
    """Run all shards at the same time until they end; return how often each chunk was begun, and the kills."""
    root.mkdir(exist_ok=True)
    names = [f"{i}/{shards}" if shards > 1 else None for i in range(1, shards + 1)]
    kills = 0
    for deadly in (True, False):
        limit = kill_in if deadly else None
        children = [fork(partial(farm, root, name, limit), root / "said") for name in names]
        ended = [reap(child) for child in children]
        assert set(ended) <= {0, -signal.SIGKILL}, (root / "said").read_text()[-2000:]
        kills += ended.count(-signal.SIGKILL)
        for folder in root.glob("machine-*"):
            shutil.rmtree(folder)
        if limit is None:
            break
    return Counter((root / "log").read_text().splitlines()), kills


def seconds(begun: Counter) -> int:
    return sum((int(end) - int(start)) * n for (_, start, end), n in ((tuple(k.split()), n) for k, n in begun.items()))


def test_a_kill_in_the_middle_of_a_video_costs_a_chunk_and_five_shards_cost_what_one_does(tmp_path):
    calm, none = run(tmp_path / "one", 1, None)
    assert none == 0 and set(calm.values()) == {1} and seconds(calm) == 16 * 35
    shards, kills = run(tmp_path / "five", 5, kill_in=3)  # the third chunk of four of the shard's first video
    assert kills == 5 and set(shards) == set(calm), "each shard was killed, and nothing is missing"
    again = {chunk: n - 1 for chunk, n in shards.items() if n > 1}
    print(f"{len(calm)} chunks of 16 videos: five shards, {kills} killed, did {again} again;",
          f"{seconds(shards) / seconds(calm):.3f} times the work of one")  # fmt: skip
    assert set(again.values()) <= {1} and len(again) <= kills, "a kill costs one chunk at most"
    assert all(chunk.split()[1] == "20" for chunk in again), "the one that it was in"
    assert seconds(shards) <= 1.1 * seconds(calm)
    stored = [[read_segment(path) for path in sorted((tmp_path / name / "store").rglob("*.pt"))] for name in
              ("one", "five")]  # fmt: skip
    assert len(stored[0]) == len(stored[1]) == len(ROWS)
    assert all((a.predictions == b.predictions).all() for a, b in zip(*stored, strict=True))
