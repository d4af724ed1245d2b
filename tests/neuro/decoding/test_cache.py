"""The embedding cache: same bits as computing, whatever dies, fills up, or shares it."""

from __future__ import annotations

import multiprocessing
import os
import warnings

import numpy as np
import pytest

from nbkit.neuro.decoding.cache import EmbeddingCache, context_of, window_digests

MADE_OF = {"model": "toy", "weights": "abc", "sfreq": 100.0, "ch_names": ["C3", "C4"]}


def windows(count=10, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 2, 50)).astype(np.float32)


class Toy:
    """An embedding that counts what it was asked for."""

    def __init__(self):
        self.asked = 0

    def __call__(self, batch):
        self.asked += len(batch)
        return np.stack([batch.mean((1, 2)), batch.std((1, 2))], 1)


def entries(cache):
    """Every (context, window) in the folder, with repeats."""
    found = []
    for path in cache.packs():
        content = path.read_bytes()
        assert EmbeddingCache(cache.folder)._read(path) is not None
        rows = int(content.split(b'"rows": [')[1].split(b",")[0].rstrip(b"]"))
        begin = content.index(b"\n", content.index(b"\n") + 1) + 1
        found += [(path.parent.name, content[begin + 32 * i : begin + 32 * (i + 1)]) for i in range(rows)]
    return found


def test_it_gives_what_computing_gives_and_computes_each_window_once(tmp_path):
    data, toy = windows(), Toy()
    cache = EmbeddingCache(tmp_path, block=4)
    np.testing.assert_array_equal(cache.embed(data, MADE_OF, toy), Toy()(data))
    np.testing.assert_array_equal(EmbeddingCache(tmp_path).embed(data[::-1], MADE_OF, toy), Toy()(data)[::-1])
    assert toy.asked == 10 and cache.use.computed == 10
    repeated = np.concatenate([data[:3], data[:3], windows(2, seed=1)])
    cache.embed(repeated, MADE_OF, toy)
    assert toy.asked == 12 and len(entries(cache)) == len(set(entries(cache))) == 12


@pytest.mark.parametrize(
    "change", [{"weights": "abd"}, {"sfreq": 101.0}, {"ch_names": ["C4", "C3"]}, {"pooling": "mean"}], ids=str
)
def test_nothing_is_found_for_another_function_of_the_window(tmp_path, change):
    cache, toy = EmbeddingCache(tmp_path), Toy()
    cache.embed(windows(), MADE_OF, toy)
    cache.embed(windows(), {**MADE_OF, **change}, toy)
    assert toy.asked == 20


def test_nothing_is_found_for_other_bytes_shapes_and_types(tmp_path):
    cache, toy, data = EmbeddingCache(tmp_path), Toy(), windows()
    cache.embed(data, MADE_OF, toy)
    nudged = data.copy()
    nudged[3, 1, 7] = np.nextafter(nudged[3, 1, 7], np.float32(9))
    cache.embed(nudged, MADE_OF, toy)
    assert toy.asked == 11
    cache.embed(data.reshape(10, 1, 100), MADE_OF, toy)
    cache.embed(data.astype(np.float64), MADE_OF, toy)
    assert toy.asked == 31


def test_the_order_of_settings_does_not_matter_and_digests_are_those_of_the_bytes():
    import hashlib

    assert context_of({"a": 1, "b": [2]}) == context_of({"b": (2,), "a": 1})
    data = windows()[:, :, ::2]  # not contiguous
    assert window_digests(data) == [hashlib.sha256(w.tobytes()).digest() for w in data]


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_pack_is_removed_with_a_word_and_computed_again(tmp_path, damage):
    data, toy = windows(), Toy()
    EmbeddingCache(tmp_path, block=5).embed(data, MADE_OF, toy)
    victim = EmbeddingCache(tmp_path).packs()[0]
    content = bytearray(victim.read_bytes())
    content[-3] ^= 1
    victim.write_bytes({"flipped": bytes(content), "cut": bytes(content[:-9]), "empty": b""}[damage])
    cache = EmbeddingCache(tmp_path, block=5)
    with pytest.warns(RuntimeWarning, match="damaged. It was removed"):
        np.testing.assert_array_equal(cache.embed(data, MADE_OF, toy), Toy()(data))
    assert toy.asked == 15 and cache.use.damaged == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EmbeddingCache(tmp_path).embed(data, MADE_OF, toy)
    assert toy.asked == 15


def test_a_pack_that_is_damaged_after_it_was_seen_is_computed_again_too(tmp_path):
    data, toy, cache = windows(), Toy(), EmbeddingCache(tmp_path)
    cache.embed(data, MADE_OF, toy)
    cache.packs()[0].write_bytes(b"nothing")
    with pytest.warns(RuntimeWarning, match="damaged"):
        np.testing.assert_array_equal(cache.embed(data, MADE_OF, toy), Toy()(data))


def test_above_its_limit_it_forgets_what_was_used_least_recently(tmp_path):
    data, toy = windows(12), Toy()
    cache = EmbeddingCache(tmp_path, block=4)
    cache.embed(data, MADE_OF, toy)
    size = sum(path.stat().st_size for path in cache.packs())
    for age, path in enumerate(cache.packs()):
        os.utime(path, (age, age))
    EmbeddingCache(tmp_path).embed(data[:4], MADE_OF, toy)  # the first block is used again
    small = EmbeddingCache(tmp_path, limit_gb=size * 1.05 / 1e9, block=4)
    small.embed(windows(4, seed=1), MADE_OF, toy)
    assert small.use.evicted == 1 and sum(path.stat().st_size for path in small.packs()) <= size * 1.05
    asked = toy.asked
    EmbeddingCache(tmp_path).embed(data[:4], MADE_OF, toy)
    EmbeddingCache(tmp_path).embed(windows(4, seed=1), MADE_OF, toy)
    assert toy.asked == asked


def test_packs_travel_to_another_folder_and_a_damaged_one_is_refused(tmp_path):
    data, toy = windows(), Toy()
    first = EmbeddingCache(tmp_path / "a", block=4)
    first.embed(data, MADE_OF, toy)
    other = EmbeddingCache(tmp_path / "b", block=4)
    packs = first.packs()
    assert other.take([*packs, tmp_path / "card.md"]) == 10 and other.take(packs) == 0
    np.testing.assert_array_equal(other.embed(data, MADE_OF, toy), Toy()(data))
    assert toy.asked == 10
    packs[0].write_bytes(packs[0].read_bytes()[:-1])
    with pytest.raises(ValueError, match="Nothing of it was taken"):
        EmbeddingCache(tmp_path / "c").take(packs)


def test_what_is_no_embedding_is_not_kept(tmp_path):
    cache = EmbeddingCache(tmp_path)
    with pytest.raises(ValueError, match="10 windows gave embeddings of shape"):
        cache.embed(windows(), MADE_OF, lambda batch: batch[:2])
    with pytest.raises(ValueError, match="not finite, first that of window 2"):
        cache.embed(windows(), MADE_OF, lambda b: np.where(np.arange(10)[:, None] == 2, np.nan, b[:, 0, :3]))
    with pytest.raises(ValueError, match="at least one window"):
        cache.embed(windows(0), MADE_OF, Toy())
    assert cache.packs() == []


def _share(folder, ready, counts, which):
    toy, cache = Toy(), EmbeddingCache(folder, block=4)
    ready.wait()
    expected = Toy()(windows(80))
    order = np.roll(np.arange(80), 20 * which)
    good = (cache.embed(windows(80)[order], MADE_OF, toy) == expected[order]).all()
    good &= (cache.embed(windows(80), MADE_OF, toy) == expected).all()
    counts.put((toy.asked, bool(good)))


def test_four_processes_share_it_without_a_corrupt_or_repeated_entry(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, counts = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_share, args=(tmp_path, ready, counts, i)) for i in range(4)]
    for process in processes:
        process.start()
    done = [counts.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert all(good for _, good in done)
    assert sum(asked for asked, _ in done) == 80  # blocks begin at the same windows, so none is computed twice
    assert len(entries(EmbeddingCache(tmp_path))) == len(set(entries(EmbeddingCache(tmp_path)))) == 80


def _die(folder):
    def compute(batch):
        os._exit(9)

    EmbeddingCache(folder, block=4).embed(windows(), MADE_OF, compute)


def test_a_process_that_dies_while_computing_holds_nobody_up(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_die, args=(tmp_path,))
    process.start()
    process.join(30)
    toy = Toy()
    np.testing.assert_array_equal(EmbeddingCache(tmp_path, block=4).embed(windows(), MADE_OF, toy), Toy()(windows()))
    assert toy.asked == 10


def test_an_embedding_that_was_cut_short_goes_on_block_by_block_to_the_same_packs(tmp_path):
    toy = Toy()

    def until_the_third(batch):
        if toy.asked == 8:
            raise KeyboardInterrupt
        return toy(batch)

    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(tmp_path / "a", block=4).embed(windows(14), MADE_OF, until_the_third)
    assert len(EmbeddingCache(tmp_path / "a").packs()) == 2
    again = Toy()
    EmbeddingCache(tmp_path / "a", block=4).embed(windows(14), MADE_OF, again)
    EmbeddingCache(tmp_path / "b", block=4).embed(windows(14), MADE_OF, Toy())
    names = [[path.name for path in EmbeddingCache(tmp_path / n).packs()] for n in "ab"]
    assert again.asked == 6 and names[0] == names[1]
