"""Toy phases that work in simulated hours at the loopback of Kaggle."""

from __future__ import annotations

import ast
import json
import random
import zlib
from datetime import timedelta
from pathlib import Path

from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.ledger.segments import encode_line, segment_of
from nbkit.runtime.store.folder import FolderStore
from tests.tools.kaggle.kaggle_loopback import Loopback

TOYS = {"prepare": (10, "cpu", (), 0.0), "long_train": (20, "gpu", ("prepare",), 37.0),
        "other_train": (30, "gpu", ("prepare",), 15.0)}  # fmt: skip
STEPS_AN_HOUR = 100


class Simulated:
    """Do what the notebooks would do: advance in the store while their runs last."""

    def __init__(self, server: Loopback, store: FolderStore, folder: Path, seed: int = 1) -> None:
        self.server, self.store, self.folder = server, store, folder
        self.random, self.steps, self.sessions, self.told = random.Random(seed), {}, 0, []
        server.on_run = self.begin

    def begin(self, ref, request, run) -> None:
        slug = ref.removeprefix("mary/nbkit-").replace("-", "_")
        cells = json.loads(request["text"])["cells"]
        parameters = {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(cells[0]["source"]).body}
        limit = float(parameters["LIMIT"].rstrip("s")) / 3600
        self.told.append((slug, limit, run.limit.total_seconds() / 3600))
        assert parameters["STORE"] == self.store.url and limit < run.limit.total_seconds() / 3600
        total = TOYS[slug][3] or 2.0
        left = total - self.steps.get(slug, 0) / STEPS_AN_HOUR
        hours = min(left, limit)
        if self.random.random() < 0.25:  # a machine that dies
            hours *= self.random.random()
            run.message = "the machine died"
        run.takes = timedelta(hours=hours)
        run.finish = lambda: self.end(slug, hours, total, bool(run.message))

    def end(self, slug: str, hours: float, total: float, died: bool) -> str:
        self.sessions += 1
        step = min(self.steps.get(slug, 0) + round(hours * STEPS_AN_HOUR), int(total * STEPS_AN_HOUR))
        self.steps[slug] = step
        complete = step >= int(total * STEPS_AN_HOUR)
        session = f"s{self.sessions:04d}"
        now = self.server.now.timestamp()
        if TOYS[slug][1] == "cpu":
            records = [{"e": "open", "t": now}]
            records += [{"e": "done", "k": f"k{n}", "o": [], "s": 36.0} for n in range(step)]
            records += [] if died else [{"e": "close", "t": now, "complete": complete, "done": step, "left": 0}]
        else:
            records = [{"e": "open", "t": now}]
            receipt = Receipt(slug, step, 0, 0, 1, "0" * 64, complete, max_steps=int(total * STEPS_AN_HOUR), time=now)
            path = receipt.write(self.folder)
            self.store.put(path, f"{slug}/checkpoints/{path.name}")
        segment, data = segment_of(slug, session, 1, [encode_line(record) for record in records])
        assert f"{zlib.crc32(data):08x}" == segment.crc
        (self.folder / "segment").write_bytes(data)
        self.store.put(self.folder / "segment", segment.name)
        return "ERROR" if died else "COMPLETE"
