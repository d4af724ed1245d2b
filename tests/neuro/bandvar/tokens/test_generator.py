"""The transformer: nothing leaks from later scales, and the cache computes what the whole pass does."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.bandvar.tokens.generator import Attention, NextScaleTransformer
from tests.neuro.bandvar.tokens.random_quantizer import random_quantizer

LENGTHS = (2, 3, 10)


@pytest.fixture(params=[False, True], ids=["own", "shared"])
def model(request):
    torch.manual_seed(0)
    return NextScaleTransformer(
        LENGTHS, 16, 15, (2, 3, 1), depth=2, shared_modulation=request.param, gate_init=1
    ).eval()


@pytest.fixture
def quantizer():
    torch.manual_seed(1)
    return random_quantizer(LENGTHS)


CHOSEN = torch.tensor([[1, 1, 1], [2, 0, 0]])


def test_size_follows_the_depth():
    model = NextScaleTransformer(LENGTHS, 16, 15, (2, 0, 0), depth=3)
    assert model.width == 192 and len(model.blocks) == 3 and model.blocks[0].attention.heads == 3


@torch.no_grad()
def test_no_later_scale_leaks(model, quantizer):
    tokens = torch.randint(16, (2, 15))
    logits = model(quantizer.next_inputs(tokens), CHOSEN)
    assert logits.shape == (2, 15, 16)
    for place in range(15):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 5) % 16
        difference = (model(quantizer.next_inputs(changed), CHOSEN) - logits).abs().amax(dim=(0, 2))
        end = next(s.stop for s in quantizer.slices if place < s.stop)
        assert difference[:end].max() == 0  # its own scale is predicted at once: not even that sees it
        if end < 15:
            assert difference[end:].max() > 0


@torch.no_grad()
def test_without_the_mask_it_would_leak(model, quantizer):
    tokens = torch.randint(16, (2, 15))
    changed = tokens.clone()
    changed[:, 3] = (changed[:, 3] + 5) % 16
    model.mask.fill_(True)
    logits = [model(quantizer.next_inputs(t), CHOSEN) for t in (tokens, changed)]
    assert not torch.equal(logits[0][:, :5], logits[1][:, :5])


@torch.no_grad()
def test_scale_by_scale_is_the_whole_pass(model, quantizer):
    tokens = torch.randint(16, (2, 15))
    inputs = quantizer.next_inputs(tokens)
    whole, caches = model(inputs, CHOSEN), model.caches()
    for scale, place in enumerate(model.slices):
        mine = None if scale == 0 else inputs[:, place.start - 2 : place.stop - 2]
        torch.testing.assert_close(model.forward_scale(mine, CHOSEN, scale, caches), whole[:, place])
    assert caches[0].keys.shape[2] == 15


@torch.no_grad()
def test_fewer_scales_give_the_same_predictions(model, quantizer):
    inputs = quantizer.next_inputs(torch.randint(16, (2, 15)))
    torch.testing.assert_close(model(inputs[:, :3], CHOSEN), model(inputs, CHOSEN)[:, :5])


@torch.no_grad()
def test_each_condition_counts(model, quantizer):
    inputs = quantizer.next_inputs(torch.randint(16, (1, 15)))
    base = model(inputs, torch.tensor([[1, 1, 1]]))
    for other in ([2, 1, 1], [1, 2, 1], [1, 1, 0], [0, 1, 1]):
        assert not torch.allclose(model(inputs, torch.tensor([other])), base)


def test_blocks_begin_as_identity_and_chances_as_equal():
    torch.manual_seed(0)
    model = NextScaleTransformer(LENGTHS, 16, 15, (2, 0, 0), depth=2).eval()
    hidden, condition = torch.randn(1, 5, 128), torch.randn(1, 128)
    torch.testing.assert_close(model.blocks[0](hidden, condition), hidden, atol=1e-3, rtol=0)
    chances = model(torch.randn(1, 13, 15), torch.tensor([[1, 0, 0]])).softmax(-1)
    assert (chances - 1 / 16).abs().max() < 0.02


def test_attention_is_torchs():
    torch.manual_seed(0)
    ours, theirs = Attention(32, 4), torch.nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    hidden, mask = torch.randn(2, 7, 32), torch.tril(torch.ones(7, 7)).bool()
    torch.testing.assert_close(ours(hidden, mask), theirs(hidden, hidden, hidden, attn_mask=~mask)[0])


def test_attention_calls_its_qkv_layer():
    attention = Attention(32, 4)
    seen = []
    attention.qkv.register_forward_hook(lambda *_: seen.append(1))  # what an adapter replaces
    attention(torch.randn(1, 3, 32))
    assert seen == [1]
    with pytest.raises(ValueError, match="multiple"):
        Attention(30, 4)


def test_drop_path_leaves_whole_branches_out_in_training_alone():
    torch.manual_seed(0)
    model = NextScaleTransformer(LENGTHS, 16, 15, (2, 0, 0), depth=2, drop_path=0.5, gate_init=1)
    inputs, chosen = torch.randn(1, 13, 15), torch.tensor([[1, 0, 0]])
    drawn = {round(model(inputs, chosen).sum().item(), 3) for _ in range(20)}
    assert 2 <= len(drawn) <= 4  # the last block's two branches, in or out; the first block is never dropped
    model.eval()
    assert len({model(inputs, chosen).sum().item() for _ in range(3)}) == 1
