"""Reading shuffled windows: mapped shards beside braindecode's windowed datasets, and memory with 8 workers.

All read the same windows of the same recordings through a DataLoader in this process; the page cache is warm for all.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from nbkit.neuro.signals.bands import cumulative_frequency_levels
from nbkit.neuro.signals.hbn.synthetic import hbn_ch_names
from nbkit.neuro.signals.windows.band_levels import BandLevels
from nbkit.neuro.signals.windows.cutting import cut_windows
from nbkit.neuro.signals.windows.mapped import map_member
from nbkit.neuro.signals.windows.shards import WindowShards, write_signal
from tests.bench.limits import copy_rate
from tests.bench.rows import Row

SFREQ, LENGTH, BATCH, N_CHANS = 100, 200, 64, 129
TIMES_FASTER = 5.0


def run(quick: bool) -> list[Row]:
    """Measure windows a second, then the growth of memory over 100,000 windows."""
    recordings, seconds = (4, 60) if quick else (10, 300)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        signals = _signals(recordings, seconds)
        # first, while the workers inherit nothing but this
        memory = _memory(Path(folder, "many"), signals[0], 10_000 if quick else 100_000)
        shards = _shards(Path(folder, "shards"), signals)
        ours = _rate(shards, lambda batch: batch["window"])
        bound = "copying each once", copy_rate() / (4 * LENGTH * N_CHANS)
        half = _rate(_shards(Path(folder, "half"), signals, dtype="float16"), lambda batch: batch["window"])
        rows = [Row("the same from files of half the size (float16)", half, "windows/s", "our float32 files", ours)]
        what = f"read {LENGTH} x {N_CHANS} windows, shuffled, batch {BATCH}"
        for name, preloaded, dataset in _braindecode(Path(folder, "bdf"), signals):
            assert len(dataset) == len(shards)
            assert np.allclose(dataset[7][0] * 1e6, shards[7]["window"], atol=0.1)  # the same windows
            theirs = _rate(dataset, lambda batch: batch[0])
            note = f"{ours / theirs:.1f}x, {len(shards)} windows"
            if preloaded:
                rows.append(Row(what, ours, "windows/s", name, theirs, note=f"{note}; it holds them all in memory",
                                limit=bound[0], limit_value=bound[1]))  # fmt: skip
            else:
                met = ours >= TIMES_FASTER * theirs
                rows.append(Row(what, ours, "windows/s", name, theirs, f">= {TIMES_FASTER:g}x", met, note, *bound))
        stored = _stored_minute(Path(folder, "minute"))
    return [*rows[1:], rows[0], *stored, *memory]


def _stored_minute(folder: Path, sfreq: int = 200, n_chans: int = 21, length: int = 400) -> list[Row]:
    """Size of a stored minute with all that its bands need, and how fast the bands of windows are read."""
    signal = np.random.default_rng(3).normal(scale=20, size=(n_chans, 60 * sfreq)).astype(np.float32)
    names, starts = [f"E{number + 1}" for number in range(n_chans)], np.arange(0, 60 * sfreq - length + 1, length)
    cuts = {"windows": (starts, length, {"start_s": starts / sfreq})}
    facts = dict(sfreq=sfreq, ch_names=names, subject="1", cuts=cuts, dtype="float16")
    size = sum(path.stat().st_size for path in write_signal(folder / "ours", signal, **facts).values())
    levels = cumulative_frequency_levels(signal, sfreq)
    windows = {"signal": cut_windows(signal, starts, length), "cumulative_bands": cut_windows(levels, starts, length)}
    np.savez(folder / "before.npz", **windows)
    before = (folder / "before.npz").stat().st_size
    mib, note = 2**20, f"{before / size:.0f} times smaller"
    rows = [Row(f"a stored minute, {n_chans} channels at {sfreq} Hz", size / mib, "MiB", "windows and bands as float32",
                before / mib, "<= 0.6 MB", size <= 600_000, note)]  # fmt: skip
    ours, mapped = (
        BandLevels(WindowShards(folder / "ours", columns=())),
        map_member(folder / "before.npz", "cumulative_bands"),
    )
    began = time.perf_counter()
    ours[0]
    first = time.perf_counter() - began
    order = np.random.default_rng(0).permutation(len(ours))
    rates = [_spell(lambda i, held=held: np.array(held[i], np.float32), order) for held in (ours, mapped)]
    note = f"after {1000 * first:.0f} ms a minute of recording for the filters, once in a process"
    return [*rows, Row("bands of a window, shuffled", rates[0], "windows/s", "mapped bands", rates[1], note=note)]


def _spell(read, order, seconds: float = 0.5) -> float:
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for place in order:
            read(int(place))
        count += len(order)
    return count / passed


def _signals(recordings: int, seconds: int) -> list[np.ndarray]:
    draws = np.random.default_rng(0)
    return [draws.normal(scale=20, size=(N_CHANS, seconds * SFREQ)).astype(np.float32) for _ in range(recordings)]


def _shards(folder: Path, signals: list[np.ndarray], stride: int = SFREQ, dtype: str = "float32") -> WindowShards:
    for number, signal in enumerate(signals):
        starts = np.arange(0, signal.shape[1] - LENGTH + 1, stride)
        cuts = {"pretrain": (starts, LENGTH, {"target": np.zeros(len(starts))})}
        write_signal(
            folder / f"{number:03d}", signal, sfreq=SFREQ, ch_names=hbn_ch_names(), subject=str(number), cuts=cuts,
            dtype=dtype,
        )  # fmt: skip
    return WindowShards(folder)


def _braindecode(folder: Path, signals: list[np.ndarray]):
    """Braindecode's windows over the challenge's own file format, preloaded or not, and over epochs."""
    import mne
    from braindecode.datasets import BaseConcatDataset, RawDataset
    from braindecode.preprocessing import create_fixed_length_windows

    folder.mkdir()
    mne.set_log_level("error")
    info = mne.create_info(list(hbn_ch_names()), SFREQ, "eeg")
    for number, signal in enumerate(signals):
        raw = mne.io.RawArray(signal * 1e-6, info, verbose="error")
        mne.export.export_raw(folder / f"{number:03d}_eeg.bdf", raw, physical_range=(-500, 500), verbose="error")
    for preload in (False, True):
        raws = [mne.io.read_raw_bdf(file, preload=preload, verbose="error") for file in sorted(folder.glob("*.bdf"))]
        base = BaseConcatDataset([RawDataset(raw, {"subject": str(i)}) for i, raw in enumerate(raws)])
        for use_epochs in (False, True):
            windows = create_fixed_length_windows(
                base, window_size_samples=LENGTH, window_stride_samples=SFREQ, drop_last_window=True,
                use_mne_epochs=use_epochs, preload=preload, verbose="error",
            )  # fmt: skip
            kind = "WindowsDataset (epochs)" if use_epochs else "EEGWindowsDataset"
            yield f"braindecode {kind}, preload={preload}", preload, windows


def _rate(dataset, windows_of, seconds: float = 2.0) -> float:
    """Windows a second: the best of three spells of so long, after one batch that warms up."""
    loader, best = DataLoader(dataset, BATCH, shuffle=True), 0.0
    for attempt in range(4):
        count, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < (seconds if attempt else 0.2):
            for batch in loader:
                count += len(windows_of(batch))
                if time.perf_counter() - began > seconds:
                    break
        if attempt:
            best = max(best, count / passed)
    return best


def _memory(folder: Path, signal: np.ndarray, windows: int, workers: int = 8) -> list[Row]:
    """Growth of the workers' own memory (USS) and of all processes' share (PSS) while windows stream by."""
    import psutil

    stride = max(1, signal.shape[1] // 700)
    shards = _shards(folder, [signal] * 4, stride=stride)
    many = shards.subset(np.arange(windows) % len(shards))
    loader = DataLoader(many, 16, shuffle=True, num_workers=workers)  # small: batches on their way are no growth
    me, seen, marks = psutil.Process(), 0, []
    began = time.perf_counter()
    for batch in loader:
        seen += len(batch["window"])
        if not marks and seen >= windows // 5 or marks and seen >= windows * (1 + 4 * len(marks)) / 20:
            marks.append(_held([me, *me.children(recursive=True)]))
    seconds = time.perf_counter() - began
    pss, private = (np.array(column) / 2**20 for column in zip(*marks, strict=True))
    note = f"{len(marks)} looks from the first fifth on, {seen / seconds:.0f} windows/s with {workers} workers"
    rows = []
    for what, held in (("growth of memory (PSS)", pss), ("growth of private memory", private)):
        grown, met = float(held[-1] - held[0]), bool(held[-1] - held[0] < 0.05 * held[0])
        beside = f"held by {workers + 1} processes at the first look"
        whole = f"{what} over {seen} windows, {workers} workers"
        rows.append(Row(whole, grown, "MiB", beside, float(held[0]), "< 5 % of it", met, note))
    return rows


def _held(processes: list) -> tuple[float, float]:
    """Proportional and private memory of processes, in bytes."""
    total = [0, 0]
    for process in processes:
        said = Path(f"/proc/{process.pid}/smaps_rollup").read_text("utf-8")
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in said.splitlines()[1:]}
        total[0] += sizes["Pss"] * 1024
        total[1] += (sizes["Private_Clean"] + sizes["Private_Dirty"]) * 1024
    return total[0], total[1]
