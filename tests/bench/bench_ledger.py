"""Recording items: one JSON file rewritten, joblib.Memory, raw SQLite, and the ledger

Every way is measured in the same run on the same disk, so that the ratios hold where the times do not.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nbkit.runtime.ledger import Ledger, Output
from nbkit.runtime.manifest import read_manifest
from nbkit.runtime.segments import encode_line, fold_store, segment_of
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.work import pending
from tests.bench.rows import Row

_ROUNDS = 7
_HASH = "0123456789abcdef" * 4


def run(quick: bool) -> list[Row]:
    """Measure recording, finding the next pending item, and opening a store on a fresh machine."""
    sizes = {"1k": 1_000, "100k": 20_000 if quick else 100_000, "1M": 100_000 if quick else 1_000_000}
    with tempfile.TemporaryDirectory() as folder:
        return _recording(Path(folder), sizes) + _opening(Path(folder), sizes["1M"])


def _key(i: int) -> str:
    return f"sub-{i % 1000:04d}/run-{i:07d}"


def _median_us(record: Callable[[int], object], first: int, n: int) -> float:
    """Give the median over rounds of the mean time of one of n calls, in microseconds."""
    rounds = []
    for start in range(first, first + n * _ROUNDS, n):
        began = time.perf_counter()
        for i in range(start, start + n):
            record(i)
        rounds.append((time.perf_counter() - began) / n * 1e6)
    return statistics.median(rounds)


def _recording(folder: Path, sizes: dict[str, int]) -> list[Row]:
    rows: list[Row] = []
    ours: dict[str, float] = {}
    samples = 2000
    for name, n in sizes.items():
        ledger = Ledger(folder / f"ours-{n}", "bench", "s", FolderStore(folder / f"store-{n}"))
        raw = _raw_sqlite(folder / f"raw-{n}.sqlite")
        _fill(ledger, raw, n)

        def record(i: int, ledger: Ledger = ledger) -> None:
            ledger.done(_key(i), [Output(f"bench/items/{_key(i)}.npz", 4096, _HASH)], 0.05)

        def insert(i: int, raw: sqlite3.Connection = raw) -> None:
            raw.execute("INSERT INTO items VALUES(?,?)", (_key(i), "done"))

        # in turns, so that a busy machine hits both alike
        pairs = [(_median_us(record, n + r * 10**6, samples // 4), _median_us(insert, n + r * 10**6, samples // 4))
                 for r in range(1, 4)]  # fmt: skip
        ours[name], beside = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append(_row(f"record an item, {name} recorded", ours[name], "raw SQLite", beside, 25, 2.5))
        json_us = _json_rewritten(folder / f"{n}.json", n) if n <= 100_000 else None
        rows.append(Row(f"record an item, {name} recorded", ours[name], "us", "one JSON file rewritten", json_us))
        ledger.release()
        raw.close()
    rows.append(Row("record an item", ours["1k"], "us", "joblib.Memory", _joblib(folder / "joblib")))
    growth = ours["1M"] / ours["1k"]
    rows.append(Row("cost of an item, 1M recorded over 1k", growth, "x", "", None, "<= 1.3", growth <= 1.3))
    return rows


def _row(what: str, us: float, alternative: str, beside: float, most_us: float, most_ratio: float) -> Row:
    met = us <= most_us and us <= most_ratio * beside
    target = f"<= {most_us} us and {most_ratio} x raw SQLite"
    return Row(what, us, "us", alternative, beside, target, met, f"{us / beside:.2f} x")


def _fill(ledger: Ledger, raw: sqlite3.Connection, n: int) -> None:
    """Bring both to n recorded items quickly; how is not what is measured."""
    lines = (encode_line({"e": "done", "k": _key(i), "o": [[f"bench/items/{_key(i)}.npz", 4096, _HASH]], "s": 0.05})
             for i in range(n))  # fmt: skip
    ledger._db.execute("BEGIN")
    ledger._db.executemany("INSERT INTO records(session, line) VALUES('s', ?)", ((line,) for line in lines))
    ledger._db.execute("COMMIT")
    ledger.here.update((_key(i), i + 1) for i in range(n))
    raw.execute("BEGIN")
    raw.executemany("INSERT INTO items VALUES(?,?)", ((_key(i), "done") for i in range(n)))
    raw.execute("COMMIT")


def _raw_sqlite(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("CREATE TABLE items(key TEXT, state TEXT)")
    return db


def _json_rewritten(path: Path, n: int) -> float:
    table = {_key(i): "done" for i in range(n)}

    def record(i: int) -> None:
        table[_key(i)] = "done"
        path.write_text(json.dumps(table))

    times = []
    for i in range(5):
        began = time.perf_counter()
        record(n + i)
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)


def _joblib(folder: Path) -> float:
    from joblib import Memory

    @Memory(folder, verbose=0).cache
    def item(key: str) -> str:
        return "done"

    return _median_us(lambda i: item(_key(i)), 0, 100)


def _opening(folder: Path, n: int) -> list[Row]:
    store = _recorded_store(folder / "recorded", n, sessions=10)
    manifest = read_manifest([{"key": _key(i)} for i in range(n + 1)])
    times = []
    for fresh in range(3):
        began = time.perf_counter()
        ledger = Ledger(folder / f"machine-{fresh}", "bench", f"fresh{fresh}", store)
        times.append(time.perf_counter() - began)
        assert len(ledger.fold.done) == n
        if fresh < 2:
            ledger.release()
            del ledger
    began = time.perf_counter()
    assert manifest.keys[next(iter(pending(ledger, manifest)))] == _key(n)
    next_ms = (time.perf_counter() - began) * 1e3
    ledger.release()
    table, plain = folder / "done.json", time.perf_counter
    table.write_text(json.dumps({_key(i): "done" for i in range(n)}))
    began = plain()
    json.loads(table.read_text())
    beside = plain() - began
    opening, said = statistics.median(times), f"{n:,} items" if n < 10**6 else ""
    return [
        Row("open a store of 1M recorded items, fresh machine", opening, "s", "load one JSON file", beside, "<= 5 s",
            opening <= 5, said),
        Row("next pending item of 1M, all others done", next_ms, "ms", "", None, "<= 100 ms", next_ms <= 100, said),
        Row("read and check a manifest of 1M rows", _manifest_seconds(folder, n), "s", note=said),
    ]  # fmt: skip


def _recorded_store(folder: Path, n: int, sessions: int) -> FolderStore:
    store = FolderStore(folder)
    part = n // sessions
    for s in range(sessions):
        lines = [encode_line({"e": "done", "k": _key(i), "o": [[f"bench/items/{_key(i)}.npz", 4096, _HASH]], "s": 0.05})
                 for i in range(s * part, (s + 1) * part)]  # fmt: skip
        segment, data = segment_of("bench", f"s{s}", 1, lines)
        path = store.path(segment.name)
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    assert len(list(store.list("bench/ledger/"))) == sessions
    assert len(fold_store(store, "bench", folder / "unused").done) == sessions * part
    return store


def _manifest_seconds(folder: Path, n: int) -> float:
    path = folder / "many.tsv"
    path.write_text("key\tpath\n" + "".join(f"{_key(i)}\tdata/{i}.edf\n" for i in range(n)))
    began = time.perf_counter()
    read_manifest(path)
    seconds = time.perf_counter() - began
    os.unlink(path)
    return seconds
