"""Quantisation: brute force, another library, and codes that move exactly as written."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbkit.neuro.nn import vq
from nbkit.neuro.nn.vq import EMACodebook, code_counts, kmeans, nearest_code, perplexity, straight_through, unused


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("chunk", [1 << 26, 100])
def test_nearest_code_is_brute_force(cosine, chunk, monkeypatch):
    monkeypatch.setattr(vq, "_CELLS", chunk)
    draws = np.random.default_rng(0)
    vectors, codes = draws.normal(size=(83, 5)), draws.normal(size=(17, 5)) * draws.uniform(0.2, 3, size=(17, 1))
    if cosine:
        truth = [max(range(17), key=lambda k: v @ codes[k] / np.linalg.norm(codes[k])) for v in vectors]
    else:
        truth = [min(range(17), key=lambda k: np.sum((v - codes[k]) ** 2)) for v in vectors]
    found = nearest_code(torch.tensor(vectors), torch.tensor(codes), cosine=cosine)
    assert found.tolist() == truth
    assert nearest_code(torch.zeros(0, 5), torch.tensor(codes)).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_distances_stay_in_float32_under_autocast(dtype):
    torch.manual_seed(0)
    # Codes that differ by less than half precision can tell apart.
    codes = torch.ones(64, 32) + 1e-4 * torch.randn(64, 32)
    vectors = codes[torch.randperm(64)]
    truth = nearest_code(vectors, codes)
    with torch.autocast("cpu", dtype=dtype):
        assert not torch.equal((vectors @ codes.T).argmax(1), truth)  # the probe: autocast would spoil it
        assert torch.equal(nearest_code(vectors, codes), truth)
        book = EMACodebook(64, 32, init_vectors=0)
        out = book(torch.randn(8, 32, dtype=dtype))
    assert out.vectors.dtype == out.loss.dtype == book.weight.dtype == torch.float32


def test_gradients_pass_straight_through():
    vectors = torch.randn(6, 4, requires_grad=True)
    codes = torch.randn(6, 4, requires_grad=True)
    out = straight_through(vectors, codes)
    torch.testing.assert_close(out, codes)
    weights = torch.randn(6, 4)
    (out * weights).sum().backward()
    torch.testing.assert_close(vectors.grad, weights)
    assert codes.grad is None

    book = EMACodebook(5, 4, init_vectors=0).eval()
    again = vectors.detach().clone().requires_grad_()
    (book(again).vectors * weights).sum().backward()
    known = vectors.detach().clone().requires_grad_()
    (F.normalize(known, dim=-1) * weights).sum().backward()
    torch.testing.assert_close(again.grad, known.grad)


def test_codes_summed_by_use_are_those_of_vector_quantize_pytorch():
    vector_quantize_pytorch = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(3)
    other = vector_quantize_pytorch.VectorQuantize(
        dim=8, codebook_size=12, use_cosine_sim=True, decay=0.9, commitment_weight=1.0, eps=1e-12
    ).train()
    start = F.normalize(torch.randn(12, 8), dim=1)
    other._codebook.embed.data.copy_(start[None])
    other._codebook.embed_avg.data.copy_(start[None])
    other._codebook.cluster_size.data.fill_(1.0)
    ours = EMACodebook(12, 8, decay=0.9, by_use=True, init_vectors=0).train()
    ours.take(start)
    for _ in range(5):
        batch = torch.randn(4, 30, 8)
        codes, indices, loss = other(batch)
        out = ours(batch)
        assert torch.equal(out.indices, indices)
        torch.testing.assert_close(out.vectors, codes, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.weight, other._codebook.embed[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.running_use, other._codebook.cluster_size[0], atol=1e-4, rtol=0)


def test_codes_averaged_by_direction_move_as_written():
    torch.manual_seed(1)
    book = EMACodebook(6, 3, decay=0.8, init_vectors=0).train()
    expected = book.weight.numpy().astype(float).copy()
    for _ in range(4):
        batch = torch.randn(9, 3)
        unit = batch.numpy() / np.linalg.norm(batch.numpy(), axis=1, keepdims=True)
        nearest = (unit @ expected.T).argmax(1)
        for code in set(nearest):
            mean = unit[nearest == code].mean(0)
            moved = 0.8 * expected[code] + 0.2 * mean / np.linalg.norm(mean)
            expected[code] = moved / np.linalg.norm(moved)
        assert book(batch).indices.tolist() == nearest.tolist()
        np.testing.assert_allclose(book.weight, expected, atol=1e-5)


def test_kmeans_finds_planted_directions():
    torch.manual_seed(0)
    truth = torch.eye(4)
    vectors = (truth.repeat(50, 1) + 0.05 * torch.randn(200, 4)) * torch.rand(200, 1).add(0.5)
    means, counts = kmeans(vectors, 4, 10, cosine=True)
    for _ in range(20):  # Lloyd may start with two means in one cluster
        if (means @ truth).amax(0).min() > 0.99:
            break
        means, counts = kmeans(vectors, 4, 10, cosine=True)
    assert (means @ truth).amax(0).min() > 0.99 and counts.sum() == 200
    torch.testing.assert_close(means.norm(dim=1), torch.ones(4))


def test_first_codes_wait_for_enough_vectors():
    torch.manual_seed(0)
    book = EMACodebook(16, 4, init_vectors=40).train()
    book(torch.randn(30, 4))
    assert not book.ready and int(book.pooled) == 30
    held = EMACodebook(16, 4, init_vectors=40).train()
    held.load_state_dict(book.state_dict())  # a session that ends here loses no vector
    second = torch.randn(30, 4)
    for one in (book, held):
        torch.manual_seed(7)
        one(second)
    assert book.ready and held.ready
    for name, value in book.state_dict().items():
        assert torch.equal(value, held.state_dict()[name]), name
    first = book.weight.clone()
    book(torch.randn(30, 4))
    assert not torch.equal(book.weight, first) and torch.allclose(book.weight, first, atol=0.2)  # follows, no k-means


def test_one_large_batch_is_enough_and_random_numbers_decide():
    batch = torch.randn(100, 4)
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        book = EMACodebook(8, 4).train()
        torch.manual_seed(seed)
        book(batch)
        assert book.ready
        weights.append(book.weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_evaluation_changes_no_code_but_counts():
    book = EMACodebook(8, 4, init_vectors=0).eval()
    before = book.weight.clone()
    indices = book(torch.randn(50, 4)).indices
    assert torch.equal(book.weight, before)
    assert torch.equal(book.counts, torch.bincount(indices, minlength=8).float())
    book.reset_counts()
    assert book.counts.sum() == 0


def test_dead_codes_restart_only_where_asked():
    torch.manual_seed(0)
    cluster = F.normalize(torch.tensor([[1.0, 0, 0]]) + 0.05 * torch.randn(200, 3), dim=1)
    for restart, alive in ((0.0, False), (0.5, True)):
        torch.manual_seed(5)
        book = EMACodebook(10, 3, decay=0.5, init_vectors=0, restart_below=restart).train()
        for _ in range(15):
            book(cluster)
        near = (book.weight[:, 0] > 0.9).all()
        assert bool(near) is alive
    book.reset_counts()
    book(cluster)
    assert unused(book.counts) < 5


def test_health_of_a_codebook():
    assert perplexity(torch.tensor([5.0, 5, 5, 5])).item() == pytest.approx(4)
    assert perplexity(torch.tensor([7.0, 0, 0])).item() == pytest.approx(1)
    assert perplexity(torch.zeros(3)).item() == 0
    share = np.array([0.5, 0.25, 0.25])
    assert perplexity(torch.tensor([2.0, 1, 1])).item() == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    counts = code_counts(torch.tensor([[0, 2], [2, 5]]), 7)
    assert counts.tolist() == [1, 0, 2, 0, 0, 1, 0] and int(unused(counts)) == 4
