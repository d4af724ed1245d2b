"""The tasks of phase 1: what is hidden, what is asked, and what may not be seen."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nbkit.neuro.tribe import pretext


def heads(dim=8) -> pretext.PretextHeads:
    torch.manual_seed(0)
    return pretext.PretextHeads(dim).eval()


def test_masks_have_the_seeds_shares_and_leave_something():
    torch.manual_seed(0)
    shown = pretext.draw_masks(torch.ones(4000, 3, dtype=torch.bool))
    hidden = 3 - shown.sum(1)
    shares = [(hidden == count).float().mean().item() for count in range(4)]
    assert shares == pytest.approx([0.25, 0.50, 0.25, 0.0], abs=0.03)
    assert (~shown).float().mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)


def test_masks_of_samples_that_lack_a_modality_leave_one_they_have():
    present = torch.tensor([[True, True, False], [False, False, True]]).repeat(200, 1)
    for draw in (pretext.draw_masks, pretext.fixed_masks):
        shown = draw(present)
        assert shown.any(1).all() and not (shown & ~present).any()


def test_reconstruction_asks_only_for_what_was_hidden():
    h, fused, projected = heads(), torch.randn(2, 6, 3, 8), torch.randn(2, 6, 3, 8, requires_grad=True)
    hidden = torch.tensor([[True, False, False], [False, False, False]])
    seen = torch.ones(2, 6, dtype=torch.bool)
    score = pretext.reconstruction(h, fused, projected, hidden, seen)
    told = h.reconstruct[0](fused[0, :, 0])
    cosine = F.cosine_similarity(told, projected[0, :, 0], dim=-1).mean()
    torch.testing.assert_close(score.loss, 0.7 * F.mse_loss(told, projected[0, :, 0]) + 0.3 * (1 - cosine))
    torch.testing.assert_close(score.monitor, cosine.detach())
    assert torch.autograd.grad(score.loss, projected, allow_unused=True) == (None,)  # the target stands still
    nothing = pretext.reconstruction(h, fused, projected, torch.zeros_like(hidden), seen)
    assert nothing.loss == 0


def test_contrast_is_infonce_over_all_steps_of_all_samples():
    h, masked, full = heads(), torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    seen = torch.ones(3, 5, dtype=torch.bool)
    a, b = (F.normalize(h.contrast(v).flatten(0, 1), dim=-1) for v in (masked, full))
    losses = []
    for i in range(15):  # 14 negatives each
        logits = torch.stack([a[i] @ b[j] for j in range(15)]) / 0.07
        losses.append(logits.logsumexp(0) - logits[i])
    torch.testing.assert_close(pretext.contrast(h, masked, full, seen).loss, torch.stack(losses).mean())
    assert pretext.contrast(h, full, full, seen).monitor == 1


def test_contrast_leaves_out_steps_after_the_end():
    h, masked, full = heads(), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    seen = torch.ones(2, 5, dtype=torch.bool)
    seen[1, 3:] = False
    other = full.clone()
    other[1, 3:] = 9.0
    torch.testing.assert_close(
        pretext.contrast(h, masked, full, seen).loss, pretext.contrast(h, masked, other, seen).loss
    )


def test_next_step_asks_for_the_step_after():
    h, causal, full = heads(), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    score = pretext.next_step(h, causal, full, torch.ones(2, 5, dtype=torch.bool))
    told = h.predict(causal[:, :-1])
    cosine = F.cosine_similarity(told, full[:, 1:], dim=-1).mean()
    torch.testing.assert_close(score.loss, 0.5 * F.mse_loss(told, full[:, 1:]) + 0.5 * (1 - cosine))


def test_chunks_are_shuffled_whole_and_labelled():
    values = torch.arange(8).float()[None, :, None]
    order = torch.tensor([[2, 0, 3, 1]])
    assert pretext.shuffle_chunks(values, order)[0, :, 0].tolist() == [4, 5, 0, 1, 6, 7, 2, 3]
    h = heads(4)
    shuffled = torch.randn(1, 8, 4)
    chunk = shuffled.unflatten(1, (4, 2)).mean(2)
    logits = h.order(torch.cat([chunk[:, :-1], chunk[:, 1:]], -1))[0]
    wanted = F.cross_entropy(logits, torch.tensor([0, 1, 0]))  # 2 then 0: wrong; 0 then 3: right; 3 then 1: wrong
    torch.testing.assert_close(pretext.temporal_order(h, shuffled, order).loss, wanted)
    with pytest.raises(ValueError, match="no 4 chunks"):
        pretext.shuffle_chunks(torch.zeros(1, 10, 1), order)
