"""Mamba's block and stacks against mambapy's, weight for weight."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.nn.ssm import BidirectionalMamba, Mamba


def their_block(block: Mamba, d_model: int, d_conv: int, pscan: bool):
    """mambapy's residual block with the same weights."""
    mamba = pytest.importorskip("mambapy.mamba")
    made = mamba.MambaConfig(d_model=d_model, n_layers=1, d_state=block.d_state, d_conv=d_conv, pscan=pscan)
    theirs = mamba.ResidualBlock(made)
    names = {n: n if n.startswith("norm.") else f"mixer.{n}" for n in block.state_dict()}
    theirs.load_state_dict({names[n]: value for n, value in block.state_dict().items()})
    return theirs


def check_close(mine, other):
    scale = max(1.0, float(other.detach().abs().max()))
    assert float((mine - other).detach().abs().max()) < 1e-5 * scale


@pytest.mark.parametrize("pscan", [True, False])
@pytest.mark.parametrize("length, d_state, d_conv", [(1, 16, 4), (2, 8, 3), (50, 4, 2), (201, 16, 4), (400, 5, 1)])
def test_a_block_equals_mambapys_forward_and_gradients(length, d_state, d_conv, pscan):
    torch.manual_seed(length)
    block = Mamba(24, d_state, d_conv)
    theirs = their_block(block, 24, d_conv, pscan)
    x = torch.randn(3, length, 24)
    pull = torch.randn(3, length, 24)
    results = []
    for module in (block, theirs):
        given = x.clone().requires_grad_()
        y = module(given)
        weights = dict(module.named_parameters())
        named = {n if n.startswith("norm.") else n.removeprefix("mixer."): w for n, w in weights.items()}
        grads = torch.autograd.grad((y * pull).sum(), [given, *(named[n] for n in sorted(named))])
        results.append((y, *grads))
    for mine, other in zip(*results, strict=True):
        check_close(mine, other)


@pytest.mark.parametrize("form", ["sequential", "parallel"])
@pytest.mark.parametrize("length", [1, 5, 100])
def test_two_ways_are_two_stacks_of_mambapys(form, length):
    torch.manual_seed(0)
    both = BidirectionalMamba(16, 2, d_state=4, d_conv=3, form=form)
    x = torch.randn(2, length, 16)
    ahead, back = x, x.flip(1)
    for one, other in zip(both.forwards, both.backwards, strict=True):
        ahead, back = their_block(one, 16, 3, True)(ahead), their_block(other, 16, 3, True)(back)
    check_close(both(x), torch.cat([ahead, back.flip(1)], dim=-1) @ both.join.weight.T + both.join.bias)


def test_a_block_looks_back_and_two_stacks_look_both_ways():
    torch.manual_seed(0)
    x = torch.randn(1, 20, 8)
    changed = x.clone()
    changed[:, 10] += 1
    for module, sees in ((Mamba(8), range(10, 20)), (BidirectionalMamba(8, 1), range(20))):
        moved = (module(x) - module(changed)).abs().amax(dim=(0, 2)) > 0
        assert moved.nonzero().flatten().tolist() == list(sees)


def test_rows_of_a_batch_are_strangers():
    torch.manual_seed(0)
    module, x = BidirectionalMamba(8, 2), torch.randn(3, 11, 8)
    torch.testing.assert_close(module(x)[1:2], module(x[1:2]), rtol=1e-6, atol=1e-6)


def test_steps_begin_between_their_limits():
    torch.manual_seed(0)
    steps = torch.nn.functional.softplus(Mamba(64, dt_min=0.01, dt_max=0.1).dt_proj.bias.detach())
    assert 0.0099 < float(steps.min()) and float(steps.max()) < 0.1001


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_go_through(dtype):
    torch.manual_seed(0)
    module = BidirectionalMamba(8, 1)
    x = torch.randn(2, 30, 8)
    expected = module(x)
    y = module.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), expected, rtol=0.1, atol=0.1 if dtype == torch.bfloat16 else 1e-5)
