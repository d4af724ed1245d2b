"""Frozen embeddings: cold, from the cache, hashed, and shared, against coco-pipe's own path

The same windows go through the same CBraMod of random weights (they take as long as trained ones); coco-pipe gets it
where it would download. Its cache is a dictionary of the process: a second process embeds again, where ours reads.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from tests.bench.rows import Row


def run(quick: bool) -> list[Row]:
    """Measure on CUDA where there is one, else on a CPU thread, at sizes that take seconds."""
    import torch

    cuda, threads = torch.cuda.is_available(), torch.get_num_threads()
    if not cuda:
        torch.set_num_threads(1)
    count = 2048 if cuda else 32 if quick else 128
    where = "CUDA" if cuda else "CPU, 1 thread"
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        rows = [*_embedding(Path(folder), count, where), _hashing(), _sharing(Path(folder, "shared"))]
    torch.set_num_threads(threads)
    return rows


def _embedding(folder: Path, count: int, where: str) -> list[Row]:
    from nbkit.neuro.decoding.cache import EmbeddingCache
    from nbkit.neuro.decoding.frozen import FrozenEmbedding
    from nbkit.neuro.decoding.tasks import stand_in

    task = stand_in(count)
    theirs = _coco(task)
    ours = FrozenEmbedding("cbramod", task.ch_names, task.sfreq).fit(task.windows)
    model = ours._model_for(task.windows)  # coco-pipe gives the network uV, ours hundreds of them, as its authors do
    same = float(np.abs(theirs.transform(task.windows) - model.embed(task.windows)).max()) if theirs else None
    best = {"ours": 1e9, "theirs": 1e9, "kept": 1e9, "again": 1e9, "again_theirs": 1e9}
    for turn in range(7):  # turn by turn: single ones scatter by a tenth
        best["ours"] = min(best["ours"], _seconds(lambda: ours.transform(task.windows)))
        if theirs:
            best["theirs"] = min(best["theirs"], _seconds(lambda: theirs.transform(task.windows)))
        cache = folder / f"cache{turn}"
        ours.set_params(cache=EmbeddingCache(cache))
        best["kept"] = min(best["kept"], _seconds(lambda: ours.transform(task.windows)))
        ours.set_params(cache=EmbeddingCache(cache))  # as in a process of its own: nothing is known, all is read
        best["again"] = min(best["again"], _seconds(lambda: ours.transform(task.windows)))
        ours.set_params(cache=None)
    if theirs:
        theirs.set_params(cache_embeddings=True)
        theirs.transform(task.windows)
        best["again_theirs"] = _seconds(lambda: theirs.transform(task.windows))
    rate, other = count / best["ours"], count / best["theirs"] if theirs else None
    speed = best["ours"] / best["again"]
    agree = "coco-pipe is not installed" if same is None else f"largest difference at the same scale {same:.0e}"
    note = f"{where}; {count} windows of 19 channels x 2 s; {agree}; with writing the cache {count / best['kept']:.1f}"
    met = None if other is None else rate >= other
    from_dict = best["theirs"] / best["again_theirs"] if theirs else None
    return [
        Row("embedding, cold", rate, "windows/s", "coco-pipe 0.0.3", other, "at least as fast", met, note),
        Row("embedding, second run", speed, "x as fast as embedding", "coco-pipe's dictionary, same process", from_dict,
            ">= 50", speed >= 50, f"from disk by a fresh cache, {1e3 * best['again']:.1f} ms for {count} windows"),
    ]  # fmt: skip


def _hashing() -> Row:
    import hashlib

    from nbkit.neuro.decoding.cache import window_digests

    windows = np.random.default_rng(0).normal(size=(64, 64, 1000)).astype(np.float32)
    best = {"ours": 1e9, "copied": 1e9, "whole": 1e9}
    for _ in range(9):  # turn by turn, so that other work on the machine falls on all alike
        best["ours"] = min(best["ours"], _cpu(lambda: window_digests(windows)))
        best["copied"] = min(best["copied"], _cpu(lambda: [hashlib.sha256(w.tobytes()).hexdigest() for w in windows]))
        best["whole"] = min(best["whole"], _cpu(lambda: hashlib.sha256(windows).digest()))
    rate, other, whole = (windows.nbytes / seconds / 1e9 for seconds in best.values())
    note = (
        "in the processor's time; SHA-256 through OpenSSL, by the processor's own instructions where it has them; "
        "256 kB a window"
    )
    return Row("hashing windows", rate, "GB/s", "with a copy of each window", other, ">= 1 on a core", rate >= 1, note,
               "all windows in one go", whole)  # fmt: skip


def _sharing(folder: Path) -> Row:
    from nbkit.neuro.decoding.cache import EmbeddingCache

    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        asked = pool.map(_share, [folder] * 4, chunksize=1)
    cache = EmbeddingCache(folder)
    entries = [digest for path in cache.packs() for digest in _digests(path)]
    good = len(set(entries)) == len(entries) == 256 and sum(asked) == 256
    note = f"computed by each of 4 processes: {asked}; packs that did not match their hash: {cache.use.damaged}"
    return Row("windows computed for 4 processes that want the same 256", float(sum(asked)), "windows",
               "without a shared cache", 1024.0, "256, each kept once", good, note)  # fmt: skip


def _share(folder: Path) -> int:
    from nbkit.neuro.decoding.cache import EmbeddingCache

    asked = []

    def compute(windows: np.ndarray) -> np.ndarray:
        asked.append(len(windows))
        time.sleep(0.02)
        return windows.mean((1, 2))[:, None]

    windows = np.random.default_rng(0).normal(size=(256, 4, 100)).astype(np.float32)
    made = EmbeddingCache(folder, block=8).embed(windows, {"model": "toy"}, compute)
    if not np.array_equal(made[:, 0], windows.mean((1, 2))):
        raise AssertionError("the cache gave other embeddings than were computed")
    return sum(asked)


def _digests(path: Path) -> list[bytes]:
    from nbkit.neuro.decoding.cache import _parsed

    found = _parsed(path.read_bytes(), path.stem)
    return [b""] * 2 if found is None else found[1]


def _coco(task):
    """coco-pipe's transformer with our random network in the place of the one it would download."""
    try:
        from coco_pipe.decoding.foundation_models import _braindecode, _loader
        from coco_pipe.decoding.foundation_models.estimators import FrozenBackboneTransformer
    except ImportError:
        return None
    import braindecode.models

    from nbkit.neuro.decoding.models.backbones import make_network
    from nbkit.neuro.decoding.models.table import spec_of

    class Offline(_braindecode.BrainDecodeBackend):
        """Constructs what `from_pretrained` would fetch."""

    made = make_network(spec_of("cbramod"), task.ch_names, task.windows.shape[-1], {}, 0)
    before = braindecode.models.CBraMod.__dict__.get("from_pretrained")
    braindecode.models.CBraMod.from_pretrained = staticmethod(lambda *args, **more: made)
    _loader.register_backend("offline", Offline, overwrite=True)
    try:
        return FrozenBackboneTransformer(
            "cbramod", backend="offline", sfreq=task.sfreq, ch_names=list(task.ch_names)
        ).fit(task.windows)
    finally:
        _loader.unregister_backend("offline")
        if before is None:
            del braindecode.models.CBraMod.from_pretrained
        else:
            braindecode.models.CBraMod.from_pretrained = before


def _cpu(work) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _seconds(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
