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

from nbkit.runtime.items.naming import check_names
from nbkit.runtime.items.work import pending
from nbkit.runtime.ledger.ledger import Ledger, Output
from nbkit.runtime.ledger.manifest import read_manifest
from nbkit.runtime.ledger.rows import Rows
from nbkit.runtime.ledger.segments import encode_line, read_state, segment_of
from nbkit.runtime.store.folder import FolderStore
from tests.bench.limits import append_seconds
from tests.bench.rows import Row

_TURNS = 15
_HASH = "0123456789abcdef" * 4


def run(quick: bool) -> list[Row]:
    """Measure recording, finding the next pending item, and opening a store on a fresh machine."""
    sizes = {"1k": 1_000, "100k": 20_000 if quick else 100_000, "1M": 100_000 if quick else 1_000_000}
    with tempfile.TemporaryDirectory() as folder:
        return _recording(Path(folder), sizes) + _opening(Path(folder), sizes["1M"])


def _key(i: int) -> str:
    return f"sub-{i % 1000:04d}/run-{i:07d}"


def _mean_us(record: Callable[[int], object], first: int, n: int = 300) -> float:
    """Return the mean time of one of n calls, in microseconds."""
    began = time.perf_counter()
    for i in range(first, first + n):
        record(i)
    return (time.perf_counter() - began) / n * 1e6


def _recording(folder: Path, sizes: dict[str, int]) -> list[Row]:
    stores = {}
    for name, n in sizes.items():
        ledger = Ledger(folder / f"ours-{n}", "bench", "s", FolderStore(folder / f"store-{n}"))
        stores[name] = ledger, _raw_sqlite(folder / f"raw-{n}.sqlite")
        _fill(*stores[name], n)
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(_TURNS):  # all in turns, so that a busy machine hits all alike
        for name, (ledger, raw) in stores.items():
            first = 10**7 + turn * 10**5
            times.setdefault((name, "ours"), []).append(_mean_us(lambda i, it=ledger: _record(it, i), first))
            times.setdefault((name, "raw"), []).append(_mean_us(lambda i, it=raw: _insert(it, i), first))
    us = {which: statistics.median(turns) for which, turns in times.items()}
    line = encode_line({"e": "done", "k": _key(0), "o": [[f"bench/items/{_key(0)}.npz", 4096, _HASH]], "s": 0.05})
    append = 1e6 * append_seconds(folder, len(line), sync=False)
    rows = [_row(f"record an item, {name} recorded", us[name, "ours"], us[name, "raw"], append) for name in sizes]
    for name, n in sizes.items():
        if n <= 100_000:
            beside = _json_rewritten(folder / f"{n}.json", n)
            what = f"record an item, {name} recorded"
            rows.append(Row(what, us[name, "ours"], "us", "one JSON file rewritten", beside))
    rows.append(Row("record an item", us["1k", "ours"], "us", "joblib.Memory", _joblib(folder / "joblib")))
    growth, raws = us["1M", "ours"] / us["1k", "ours"], us["1M", "raw"] / us["1k", "raw"]
    rows.append(Row("an item at 1M recorded over one at 1k", growth, "x", "raw SQLite", raws, "<= 1.3", growth <= 1.3))
    for ledger, raw in stores.values():
        ledger.release()
        raw.close()
    return rows


def _record(ledger: Ledger, i: int) -> None:
    ledger.done(_key(i), [Output(f"bench/items/{_key(i)}.npz", 4096, _HASH)], 0.05, row=1234567890)


def _insert(raw: sqlite3.Connection, i: int) -> None:
    raw.execute("INSERT INTO items VALUES(?,?)", (_key(i), "done"))


def _row(what: str, us: float, beside: float, append: float) -> Row:
    met = us <= 25 and us <= 2.5 * beside
    return Row(what, us, "us", "raw SQLite", beside, "<= 25 us and 2.5 x raw SQLite", met, f"{us / beside:.2f} x",
               "appending its line", append)  # fmt: skip


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

    return statistics.median(_mean_us(lambda i: item(_key(i)), turn * 100, 100) for turn in range(5))


def _opening(folder: Path, n: int) -> list[Row]:
    store = _recorded_store(folder / "recorded", n, sessions=10)
    # half of the manifest is done, as in the middle of a phase
    manifest = read_manifest([{"key": _key(i)} for i in (*range(n // 2), *range(n, n + n // 2))])
    times = []
    for fresh in range(3):
        began = time.perf_counter()
        ledger = Ledger(folder / f"machine-{fresh}", "bench", f"fresh{fresh}", store)
        times.append(time.perf_counter() - began)
        assert len(ledger.state.done) == n
        if fresh < 2:
            ledger.release()
            del ledger
    began = time.perf_counter()
    assert manifest.keys[next(iter(pending(ledger, manifest)))] == _key(n)
    next_ms = (time.perf_counter() - began) * 1e3
    began = time.perf_counter()
    assert not Rows(dict(zip(manifest.keys, manifest.digests(), strict=True))).changed(
        manifest.keys, manifest.digests(), ledger.is_done
    )
    comparing = (time.perf_counter() - began) / 1.5  # the digests of each row twice, the comparison once
    began = time.perf_counter()
    check_names(manifest, ledger)
    naming = time.perf_counter() - began
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
        Row("next pending item of 1M, the first 500k done", next_ms, "ms", "", None, "<= 100 ms", next_ms <= 100, said),
        Row("read and check a manifest of 1M rows", _manifest_seconds(folder, n), "s", note=said),
        Row("compare the rows of 1M items with what they were done with", comparing, "s", "", None, "<= 3 s",
            comparing <= 3, said),
        Row("check the output names of 1M items", naming, "s", "", None, "<= 3 s", naming <= 3, said),
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
    assert len(read_state(store, "bench", folder / "unused").done) == sessions * part
    return store


def _manifest_seconds(folder: Path, n: int) -> float:
    path = folder / "many.tsv"
    path.write_text("key\tpath\n" + "".join(f"{_key(i)}\tdata/{i}.edf\n" for i in range(n)))
    began = time.perf_counter()
    read_manifest(path)
    seconds = time.perf_counter() - began
    os.unlink(path)
    return seconds
