"""The experts' layer against every expert computed one by one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nbkit.neuro.nn.moe import WAYS, MoE, choose_way, grouped_linear


def made(way=None, dim=12, hidden=20, experts=5, top_k=2, dtype=torch.float64, seed=0) -> MoE:
    torch.manual_seed(seed)
    return MoE(dim, hidden, experts, top_k, way).to(dtype)


def by_hand(moe: MoE, x: torch.Tensor) -> torch.Tensor:
    """Every token alone, every expert, only the best few weighted: slow and certain."""
    rows = []
    for token in x.reshape(-1, moe.dim):
        probability = (moe.router.weight @ token + moe.router.bias).softmax(0)
        best = probability.argsort(descending=True)[: moe.top_k]
        total = probability[best].sum()
        row = 0.0
        for e in best.tolist():
            hidden = F.gelu(token @ moe.w1[e] + moe.b1[e])
            row = row + probability[e] / total * (hidden @ moe.w2[e] + moe.b2[e])
        rows.append(row)
    return torch.stack(rows).reshape(x.shape)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_forward_and_gradients_are_those_of_every_expert(way, top_k):
    dtype = torch.float32 if way == "grouped" else torch.float64
    near = {"rtol": 1e-4, "atol": 1e-5} if way == "grouped" else {}
    moe = made(way, dim=16, hidden=32, top_k=top_k, dtype=dtype)
    x = torch.randn(3, 7, 16, dtype=dtype, requires_grad=True)
    pull = torch.randn(3, 7, 16, dtype=dtype)
    variables = [x, *moe.parameters()]
    ours = torch.autograd.grad((moe(x)[0] * pull).sum(), variables)
    theirs = torch.autograd.grad((by_hand(moe, x) * pull).sum(), variables)
    torch.testing.assert_close(moe(x)[0], by_hand(moe, x), **near)
    for mine, oracle in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, oracle, **near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ways_agree_in_every_precision(dtype):
    x = torch.randn(33, 16).to(dtype)
    reference = by_hand(made(None, dim=16).to(dtype).double(), x.double())
    for way in ("sorted", "dense"):
        out = made(way, dim=16).to(dtype)(x)[0]
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), reference, rtol=0.02, atol=0.02 if dtype != torch.float32 else 1e-5)


def test_autocast_computes_in_half_and_keeps_gradients_wide():
    moe = made("sorted", dim=16, dtype=torch.float32)
    x = torch.randn(40, 16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = moe(x)[0]
    out.sum().backward()
    torch.testing.assert_close(out, moe(x)[0], rtol=0.05, atol=0.02)
    assert x.grad.dtype == moe.w1.grad.dtype == torch.float32 and moe.w1.grad.abs().sum() > 0


def test_an_expert_without_tokens_is_left_alone_and_no_token_is_dropped():
    moe = made("sorted", experts=4, top_k=1)
    with torch.no_grad():
        moe.router.weight.zero_()
        moe.router.bias.copy_(torch.tensor([0.0, 5.0, 0.0, 0.0]))
    x = torch.randn(50, 12, dtype=torch.float64)
    out, routing = moe(x)
    torch.testing.assert_close(out, by_hand(moe, x))
    out.sum().backward()
    assert routing.share.tolist() == [0, 1, 0, 0]
    assert moe.w1.grad[1].abs().sum() > 0 and moe.w1.grad[[0, 2, 3]].abs().sum() == 0


def test_grouped_linear_has_the_right_gradients():
    rows, weight, bias = torch.randn(9, 4), torch.randn(3, 4, 5), torch.randn(3, 5)
    inputs = [t.double().requires_grad_() for t in (rows, weight, bias)]
    assert torch.autograd.gradcheck(lambda *t: grouped_linear(*t, [4, 0, 5]), inputs)


def test_losses_and_monitors_are_as_defined():
    moe = made(experts=4, top_k=2)
    with torch.no_grad():
        moe.router.weight.zero_()
        moe.router.bias.zero_()
    routing = moe(torch.randn(64, 12, dtype=torch.float64))[1]
    log4 = torch.tensor(4.0, dtype=torch.float64).log()
    torch.testing.assert_close(routing.loss, 1 + 0.1 * log4.square())  # equal shares: balance 1, logsumexp log 4
    torch.testing.assert_close(routing.entropy, log4)
    assert routing.share.sum() == 1


def test_balance_loss_spreads_tokens():
    moe = made(experts=4, top_k=1, dtype=torch.float32)
    with torch.no_grad():
        moe.router.bias.copy_(torch.tensor([3.0, 0.0, 0.0, 0.0]))
    x = torch.randn(256, 12)
    before = moe(x)[1].share
    optimizer = torch.optim.Adam(moe.router.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        moe(x)[1].loss.backward()
        optimizer.step()
    after = moe(x)[1].share
    assert before.max() > 0.8 and after.max() < 0.5


def test_temperature_softens_the_weights():
    moe = made(top_k=2)
    x = torch.randn(30, 12, dtype=torch.float64) * 4
    sharp, chosen, _ = moe.route(x)
    soft, same, _ = moe.route(x, temperature=2.0)
    assert (chosen == same).all() and (soft.max(1).values < sharp.max(1).values).all()


def test_experts_begin_alike_but_not_equal():
    moe = made(dim=32, hidden=64, experts=8, dtype=torch.float32)
    spread = (moe.w1 - moe.w1.mean(0)).std().item()
    assert 0.007 < spread < 0.011
    assert moe.w1.mean(0).std() > 5 * spread


def test_memory_grows_with_tokens_not_with_tokens_times_weights():
    """What autograd keeps between forward and backward, counted by its own hooks."""
    kept = {}
    for tokens in (512, 2048):
        moe, seen = made("sorted", dim=16, hidden=32, experts=4, dtype=torch.float32), {}

        def keep(tensor, seen=seen):
            seen[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            moe(torch.randn(tokens, 16))[0].sum()
        kept[tokens] = sum(seen.values())
    assert kept[2048] < 4.1 * kept[512]
    assert kept[2048] < 2048 * 2 * 16 * 32 / 2  # half of one gathered weight matrix a token and choice


def test_the_choice_is_explained():
    cpu = torch.device("cpu")
    assert choose_way(5000, cpu, torch.float32)[0] == "sorted"
    assert "5000 tokens" in choose_way(5000, cpu, torch.float32)[1]


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"top_k": 9}, {"way": "loop"}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="give 1 to 8|allowed are sorted"):
        MoE(8, 8, **{"experts": 8, **wrong})
