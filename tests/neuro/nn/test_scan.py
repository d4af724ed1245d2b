"""The selective scan against the recurrence written out and against mambapy's."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.neuro.nn import scan
from nbkit.neuro.nn.scan import choose_form, selective_scan

PLAIN_FORMS = ("sequential", "parallel")
NEAR = {"rtol": 1e-5, "atol": 1e-5}


def drawn(batch, length, dim, state, groups=1, dtype=torch.float64, seed=0, steps=0.3, decay=2.0):
    """Return x, delta, A, B, C and D that ask for their gradients."""
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    tensors = [
        normal(batch, length, dim), steps * normal(batch, length, dim).abs(), -decay * normal(dim, state).abs(),
        normal(batch, length, groups, state), normal(batch, length, groups, state), normal(dim),
    ]  # fmt: skip
    return [t.to(dtype).requires_grad_() for t in tensors]


def written_out(x, delta, A, B, C, D):
    """Algorithm 2, a channel's group and a step at a time."""
    share = x.shape[2] // B.shape[2]
    B, C = (t.repeat_interleave(share, dim=2) for t in (B, C))  # (batch, length, dim, state)
    h, ys = torch.zeros(x.shape[0], *A.shape, dtype=x.dtype), []
    for t in range(x.shape[1]):
        h = torch.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * x[:, t])[..., None] * B[:, t]
        ys.append((h * C[:, t]).sum(-1) + D * x[:, t])
    return torch.stack(ys, dim=1)


def with_gradients(function, tensors, seed=1):
    y = function(*tensors)
    pull = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y.dtype)
    return y, *torch.autograd.grad((y * pull).sum(), tensors)


def check_equal(form, tensors, near=NEAR):
    ours = with_gradients(lambda *t: selective_scan(*t, form=form), tensors)
    theirs = with_gradients(written_out, tensors)
    for name, mine, other in zip(("y", "x", "delta", "A", "B", "C", "D"), ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, **near, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("form", PLAIN_FORMS)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 63, 64, 65, 399, 400])
def test_forward_and_gradients_are_those_of_the_recurrence(form, length):
    check_equal(form, drawn(2, length, 6, 3), {"rtol": 1e-9, "atol": 1e-9})


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 400), batch=st.integers(1, 5), groups=st.integers(1, 3), state=st.integers(1, 5),
    form=st.sampled_from(PLAIN_FORMS), cached=st.integers(1, 4000), rows=st.integers(1, 200), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_length_batch_and_division_gives_the_recurrence(length, batch, groups, state, form, cached, rows, seed):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scan, "_CACHED", cached)  # how many steps a chunk has
        patched.setattr(scan, "_ROWS", rows)  # and how many rows of the batch go together
        patched.setattr(scan, "_HELD", rows * length)
        check_equal(form, drawn(batch, length, 2 * groups, state, groups, seed=seed), {"rtol": 1e-9, "atol": 1e-9})


@pytest.mark.parametrize("form", PLAIN_FORMS)
@pytest.mark.parametrize("length", [1, 13, 128, 400])
@pytest.mark.parametrize("theirs", ["selective_scan", "selective_scan_seq"])
def test_the_scan_equals_mambapys_in_float32(form, length, theirs):
    mamba = pytest.importorskip("mambapy.mamba")
    tensors = drawn(3, length, 8, 4, dtype=torch.float32)
    them = SimpleNamespace(config=SimpleNamespace(d_inner=8, d_state=4))

    def mambapys(x, delta, A, B, C, D):
        return getattr(mamba.MambaBlock, theirs)(them, x, delta, A, B[:, :, 0], C[:, :, 0], D)

    ours = with_gradients(lambda *t: selective_scan(*t, form=form), tensors)
    for mine, other in zip(ours, with_gradients(mambapys, tensors), strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        assert float((mine - other).detach().abs().max()) < 1e-5 * scale


@pytest.mark.parametrize("form", PLAIN_FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_float32_result_rounded(form, dtype):
    half = drawn(2, 50, 6, 3, dtype=dtype)
    full = [t.detach().float().requires_grad_() for t in half]
    mine, theirs = (with_gradients(lambda *t: selective_scan(*t, form=form), t) for t in (half, full))
    assert all(t.dtype == dtype for t in mine)
    torch.testing.assert_close(mine[0], theirs[0].to(dtype), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        under = selective_scan(*full, form=form)
    torch.testing.assert_close(under, theirs[0], rtol=0, atol=0)


@pytest.mark.parametrize("form", PLAIN_FORMS)
@pytest.mark.parametrize("decay", [1e-30, 1e3, 1e30])
def test_strong_and_vanishing_decay_over_long_lengths_stays_finite_and_right(form, decay):
    tensors = drawn(1, 3000, 4, 2, dtype=torch.float32, decay=decay)
    results = with_gradients(lambda *t: selective_scan(*t, form=form), tensors)
    assert all(torch.isfinite(t).all() for t in results)
    expected = with_gradients(written_out, [t.detach().double().requires_grad_() for t in tensors])
    for mine, other in zip(results, expected, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(mine.double() / scale, other / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", PLAIN_FORMS)
def test_a_step_of_length_0_keeps_the_state(form):
    x, delta, A, B, C, D = (t.detach() for t in drawn(1, 30, 4, 2))
    delta[:, 10:] = 0
    C[:] = C[:, :1]
    y = selective_scan(x, delta, A, B, C, form=form)
    torch.testing.assert_close(y[:, 10:], y[:, 9:10].expand(-1, 20, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mamba_ssm_gets_the_layout_it_documents(dtype, monkeypatch):
    def theirs(u, delta, A, B, C):  # (batch, dim, length) and (batch, groups, state, length), as its reference has them
        assert u.dtype == delta.dtype == B.dtype == C.dtype and A.dtype == torch.float32
        assert all(t.is_contiguous() for t in (u, delta, B, C))
        rows = (u.transpose(1, 2), delta.transpose(1, 2), A, B.permute(0, 3, 1, 2), C.permute(0, 3, 1, 2))
        return written_out(*(t.float() for t in rows), torch.zeros(A.shape[0])).to(u.dtype).transpose(1, 2)

    module = SimpleNamespace(selective_scan_fn=theirs)
    monkeypatch.setitem(sys.modules, "mamba_ssm", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.selective_scan_interface", module)
    monkeypatch.setattr(scan, "_check", lambda *a: None)  # which would ask for a card
    tensors = [t.detach() for t in drawn(2, 9, 4, 3, groups=2, dtype=dtype)]
    y, expected = (selective_scan(*tensors, form=form) for form in ("mamba_ssm", "sequential"))
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected, **(NEAR if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}))


def test_without_groups_b_and_c_may_leave_that_axis_out():
    x, delta, A, B, C, D = drawn(2, 9, 4, 3)
    torch.testing.assert_close(
        selective_scan(x, delta, A, B[:, :, 0], C[:, :, 0], D), selective_scan(x, delta, A, B, C, D)
    )


def test_the_form_is_chosen_by_device_and_length_and_says_why():
    assert choose_form(400, torch.device("cpu"))[0] == "sequential"
    form, reason = choose_form(200, torch.device("cuda"))
    assert form in ("parallel", "mamba_ssm") and reason


def test_what_does_not_fit_is_refused():
    x, delta, A, B, C, D = drawn(2, 9, 4, 3)
    with pytest.raises(ValueError, match="Unknown form='fastest'; allowed are sequential"):
        selective_scan(x, delta, A, B, C, form="fastest")
    with pytest.raises(ValueError, match="on cpu"):
        selective_scan(x, delta, A, B, C, form="mamba_ssm")
    with pytest.raises(ValueError, match="at least one step"):
        selective_scan(x[:, :0], delta[:, :0], A, B[:, :0], C[:, :0])
    with pytest.raises(ValueError, match="do not fit"):
        selective_scan(x, delta, A.T, B, C)
