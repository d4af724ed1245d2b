"""Google Drive through the loopback: throughput, memory, resuming, and a storm of faults and kills.

Beside it stands what PyDrive2 offers: its calls in sequence, and its file system. The Drive is a process of its own on
this machine with 20 ms of simulated latency for small files and none for the large one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nbkit.runtime.store.drive.access import DriveAccess, headless_settings
from nbkit.runtime.store.drive.credential import DriveCredential, read_credential
from nbkit.runtime.store.drive.store import DriveStore
from tests.bench.rows import Row
from tests.runtime.store.drive import drive_storm
from tests.runtime.store.drive.drive_loopback import LoopbackProcess

_SMALL = 64 << 10
_CHUNK = 8 << 20
_ROOT = Path(__file__).parents[2]


def run(quick: bool) -> list[Row]:
    """Return throughput, memory, bytes sent twice after a kill, and what a storm left."""
    with tempfile.TemporaryDirectory() as folder:
        rows = _small_files(Path(folder), 100 if quick else 500)
        rows += _large_file(Path(folder), (64 if quick else 1024) << 20)
        return rows + _storm(Path(folder), *((60, 9) if quick else (500, 40)))


# -- PyDrive2 by itself ------------------------------------------------------------------------------------------------


def plain_auth(credential: DriveCredential) -> Any:
    """Give PyDrive2's own login, its service pointed at the loopback."""
    from pydrive2.auth import GoogleAuth

    auth = GoogleAuth(settings=headless_settings(credential), http_timeout=60)
    auth.LoadCredentials()
    auth.service = DriveAccess(credential).service()
    return auth


def plain_upload(auth: Any, folder: str, path: Path) -> None:
    """Upload a file as PyDrive2's documentation shows it."""
    from pydrive2.drive import GoogleDrive

    file = GoogleDrive(auth).CreateFile({"title": path.name, "parents": [{"id": folder}]})
    file.SetContentFile(str(path))
    file.Upload()


# -- small files -------------------------------------------------------------------------------------------------------


def _small_files(folder: Path, n: int) -> list[Row]:
    files = []
    for i in range(n):
        files.append(folder / f"small-{i:04d}")
        files[-1].write_bytes(os.urandom(_SMALL))

    def ours(credential: DriveCredential, id: str) -> None:
        store = DriveStore(id, credential)
        with ThreadPoolExecutor(store.uploads_at_once) as pool:
            list(pool.map(lambda path: store.connect().put(path, f"items/{path.name}"), files))

    def sequence(credential: DriveCredential, id: str) -> None:
        auth = plain_auth(credential)
        for path in files:
            plain_upload(auth, id, path)

    def file_system(credential: DriveCredential, id: str) -> None:
        from pydrive2.fs import GDriveFileSystem

        fs = GDriveFileSystem(id, google_auth=plain_auth(credential))
        for path in files:
            fs.put_file(str(path), f"{id}/items/{path.name}")

    def ours_two(credential: DriveCredential, id: str) -> None:
        store = DriveStore(id, credential)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda path: store.connect().put(path, f"items/{path.name}"), files))

    def ours_one(credential: DriveCredential, id: str) -> None:
        store = DriveStore(id, credential)
        for path in files:
            store.put(path, f"items/{path.name}")

    seconds = {}
    for way in (ours, sequence, file_system, ours_two, ours_one):
        with LoopbackProcess(folder / f"drive-{way.__name__}", latency=0.02) as drive:
            credential = read_credential(drive.credential, "the bench")
            began = time.perf_counter()
            way(credential, drive.url.removeprefix("gdrive://"))
            seconds[way] = time.perf_counter() - began
            held = drive.control()["files"]
            assert len(held) == n, f"{len(held)} of {n} files arrived"
    rate = {way: n / s for way, s in seconds.items()}
    return [
        Row(f"drive: {n} files of 64 KB at 20 ms", rate[ours], "files/s", "PyDrive2 calls in sequence", rate[sequence],
            ">= 4 x", rate[ours] >= 4 * rate[sequence], f"{rate[ours] / rate[sequence]:.1f} x, 8 threads"),
        Row("  the same", rate[ours], "files/s", "PyDrive2's GDriveFileSystem", rate[file_system], ">= 4 x",
            rate[ours] >= 4 * rate[file_system], f"{rate[ours] / rate[file_system]:.1f} x"),
        Row("  with the outbox's 2 threads", rate[ours_two], "files/s", "PyDrive2 calls in sequence", rate[sequence]),
        Row("  with 1 thread", rate[ours_one], "files/s", "PyDrive2 calls in sequence", rate[sequence]),
    ]  # fmt: skip


# -- one large file ----------------------------------------------------------------------------------------------------


def _large_file(folder: Path, size: int) -> list[Row]:
    path = folder / "large.bin"
    with open(path, "wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    mb = size / 1e6

    with LoopbackProcess(folder / "drive-large") as drive:
        began = time.perf_counter()
        told = _child(drive, path).communicate()[0]
        ours = mb / (time.perf_counter() - began)
        memory = json.loads(told)
        growth = (memory["peak"] - memory["start"]) / 1e6
    _empty(folder / "drive-large")
    with LoopbackProcess(folder / "drive-plain") as drive:
        began = time.perf_counter()
        told = _plain_child(drive, path).communicate()[0]
        plain = mb / (time.perf_counter() - began)
        memory = json.loads(told)
        plain_growth = (memory["peak"] - memory["start"]) / 1e6
    _empty(folder / "drive-plain")
    with LoopbackProcess(folder / "drive-fs") as drive:
        memory = json.loads(_plain_child(drive, path, _BY_FILE_SYSTEM).communicate()[0])
        fs_growth = (memory["peak"] - memory["start"]) / 1e6
    _empty(folder / "drive-fs")
    again, plain_again = _killed(folder, path, size, _child), _killed(folder, path, size, _plain_child)
    path.unlink()
    return [
        Row(f"drive: memory above start, {mb:.0f} MB up", growth, "MB", "PyDrive2's calls", plain_growth, "< 64 MB",
            growth < 64),
        Row("  the same", growth, "MB", "PyDrive2's GDriveFileSystem, open('wb')", fs_growth, "< 64 MB", growth < 64),
        Row("  rate, hashing before and process start included", ours, "MB/s", "PyDrive2, which checks nothing", plain),
        Row("  sent again after a SIGKILL at half", again, "MB", "PyDrive2", plain_again, "<= 2 chunks (17 MB)",
            again <= 2 * _CHUNK / 1e6),
    ]  # fmt: skip


def _child(drive: LoopbackProcess, path: Path) -> subprocess.Popen:
    id = drive.url.removeprefix("gdrive://")
    put = [sys.executable, "-m", "tests.runtime.store.drive.drive_child", id, str(path), "large.bin", str(_CHUNK)]
    environ = {**os.environ, "NBKIT_DRIVE_CREDENTIAL": drive.credential}
    return subprocess.Popen(put, env=environ, cwd=_ROOT, stdout=subprocess.PIPE, text=True)


_BY_CALLS = "plain_upload(auth, sys.argv[1], Path(sys.argv[2]))"
_BY_FILE_SYSTEM = """
from pydrive2.fs import GDriveFileSystem
fs = GDriveFileSystem(sys.argv[1], google_auth=auth)
with open(sys.argv[2], "rb") as source, fs.open(f"{sys.argv[1]}/large.bin", "wb") as target:
    while block := source.read(1 << 20):
        target.write(block)
"""


def _plain_child(drive: LoopbackProcess, path: Path, way: str = _BY_CALLS) -> subprocess.Popen:
    lines = (
        "import json, sys",
        "from pathlib import Path",
        "from nbkit.runtime.store.drive.credential import find_credential",
        "from tests.bench.bench_drive import plain_auth, plain_upload",
        "from tests.runtime.store.drive.drive_child import memory",
        "auth = plain_auth(find_credential()); start = memory('VmRSS')",
        way,
        "print(json.dumps({'start': start, 'peak': memory('VmHWM')}))",
    )
    put = [sys.executable, "-c", "\n".join(lines), drive.url.removeprefix("gdrive://"), str(path)]
    environ = {**os.environ, "NBKIT_DRIVE_CREDENTIAL": drive.credential}
    return subprocess.Popen(put, env=environ, cwd=_ROOT, stdout=subprocess.PIPE, text=True)


def _killed(folder: Path, path: Path, size: int, start: Callable[[LoopbackProcess, Path], subprocess.Popen]) -> float:
    """Kill an upload at half and do it again; give the megabytes that went more than once."""
    with LoopbackProcess(folder / "drive-killed") as drive:
        child = start(drive, path)
        while drive.control()["counts"].get("bytes of chunks", 0) < size // 2:
            assert child.poll() is None, "the upload ended before it could be killed"
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        told = start(drive, path).communicate()[0]
        assert told, "the second upload failed"
        seen = drive.control()
        assert [s for _, _, s in seen["files"]] == [size]
    _empty(folder / "drive-killed")
    return (seen["counts"]["bytes of chunks"] - size) / 1e6


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


# -- the storm ---------------------------------------------------------------------------------------------------------


def _storm(folder: Path, n: int, kills: int) -> list[Row]:
    found = drive_storm.run_storm(folder / "storm", n, kills, rate=0.25, seed=1)
    assert threading.active_count() < 50
    return [
        Row(f"drive storm: {n} items, 3 sessions, SIGKILLs", found.kills, "kills", target=f">= {kills // 2}",
            met=found.kills >= kills // 2, note=f"{found.wiped} machines wiped, {found.seconds:.0f} s"),
        Row("  requests that failed", 100 * found.failing, "%", target=">= 20 %", met=found.failing >= 0.2,
            note=f"of {found.requests}, {len(found.failed)} kinds"),
        Row("  files missing, twice or hurt; records missing", len(found.faults), "faults", target="0",
            met=not found.faults, note="; ".join(found.faults[:2])),
    ]  # fmt: skip
