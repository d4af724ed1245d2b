"""The item loop on a real Dask cluster of several processes: kills of a worker and of the session lose nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.runtime.items.spread import workers_of

pytest.importorskip("distributed", reason="distributed is not installed")
COUNT = 18


def process(row: dict) -> dict:
    """Make an array from a row; the item named in `kills` ends its worker, the first time or always."""
    with open(row["log"], "a") as log:
        log.write(f"{row['key']}\n")
    time.sleep(float(row["seconds"]))
    struck = Path(row["log"] + ".struck")
    if row["key"] == row["kills"] and (row["always"] == "True" or not struck.exists()):
        struck.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    number = int(row["key"][1:])
    return {"x": np.random.default_rng(number).normal(size=16), "name": np.array(row["key"])}


@pytest.fixture(scope="module")
def cluster():
    from dask import config
    from distributed import LocalCluster

    quiet = {"distributed.scheduler.allowed-failures": 1, "distributed.worker.daemon": True}
    with config.set(quiet), LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1", silence_logs=50
    ) as opened:  # fmt: skip
        yield opened


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster) as opened:
        opened.wait_for_workers(2, timeout=60)
        yield opened


def rows_in(folder: Path, kills: str = "", always: bool = False, seconds: float = 0.01) -> list[dict]:
    common = {"log": str(folder / "log"), "kills": kills, "always": always, "seconds": seconds}
    return [{"key": f"k{number:02d}", **common} for number in range(COUNT)]


def begun(folder: Path) -> Counter:
    return Counter((folder / "log").read_text().split())


def done_records(store: Path) -> Counter:
    """Count the done records of each key in all segments, as they lie in the store."""
    lines = [line for path in store.rglob("*.jsonl") for line in path.read_text().splitlines()]
    return Counter(record["k"] for record in map(json.loads, lines) if record["e"] == "done")


def outputs(store: Path) -> dict[str, list]:
    found = {}
    for path in sorted((store / "toy" / "items").glob("*.npz")):
        with np.load(path) as content:
            found[path.stem] = [content["x"].tolist(), str(content["name"])]
    return found


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> dict[str, list]:
    """What the same function makes in one process."""
    folder = tmp_path_factory.mktemp("serial")
    session = nbkit.open_session("toy", store=folder / "store", folder=folder / "work")
    session.map(process, rows_in(folder))
    assert session.close()["complete"]
    return outputs(folder / "store")


def test_a_cluster_makes_what_one_process_makes(tmp_path, client, serial):
    session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    assert workers_of(client.get_executor()) == 2
    session.map(process, rows_in(tmp_path), executor=client.get_executor())
    assert session.close()["complete"]
    assert outputs(tmp_path / "store") == serial and set(done_records(tmp_path / "store").values()) == {1}


def test_a_killed_worker_loses_nothing_and_does_nothing_twice(tmp_path, client, serial):
    session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    session.map(process, rows_in(tmp_path, kills="k07"), executor=client.get_executor())
    summary = session.close()
    assert summary == summary | {"complete": True, "done": COUNT, "failed": 0}
    assert begun(tmp_path)["k07"] == 2, "Dask gave the item to another worker"
    assert outputs(tmp_path / "store") == serial
    assert done_records(tmp_path / "store") == Counter(serial.keys())


def test_an_item_that_kills_every_worker_is_recorded_as_failed(tmp_path, client, serial):
    session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    session.map(process, rows_in(tmp_path, kills="k03", always=True), executor=client.get_executor(), at_once=1)
    summary = session.close()
    assert (summary["done"], summary["left"]) == (COUNT - 1, 1)
    assert "KilledWorker" in session.ledger.state.errors["k03"] and begun(tmp_path)["k03"] == 2
    again = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    again.map(process, rows_in(tmp_path), executor=client.get_executor(), accept_changes=True)  # nothing kills now
    assert again.close()["complete"] and outputs(tmp_path / "store") == serial


SESSION = """
import sys
from pathlib import Path
from distributed import Client
import nbkit
from tests.runtime.items.test_dask import process, rows_in

address, folder = sys.argv[1], Path(sys.argv[2])
with Client(address) as client:
    session = nbkit.open_session("toy", store=folder / "store", folder=folder / "work")
    session.map(process, rows_in(folder, seconds=0.15), executor=client.get_executor(), at_once=2)
"""


def test_a_killed_session_goes_on_and_records_nothing_twice(tmp_path, root, cluster, client, serial):
    command = [sys.executable, "-c", SESSION, cluster.scheduler_address, str(tmp_path)]
    killed = subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists() or len(begun(tmp_path)) < 6:
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    before = begun(tmp_path)
    assert len(before) < COUNT
    session = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    session.map(process, rows_in(tmp_path, seconds=0.15), executor=client.get_executor())
    assert session.close()["complete"]
    assert outputs(tmp_path / "store") == serial and done_records(tmp_path / "store") == Counter(serial.keys())
    twice = [key for key, times in begun(tmp_path).items() if times > 1]
    assert len(twice) <= 4, "what was in work at the kill, and what its result had not yet come back of"
