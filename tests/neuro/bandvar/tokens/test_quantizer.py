"""Quantisation: brute force, sums, gradients, and a state that survives."""

from __future__ import annotations

import io

import pytest
import torch
from torch.nn import functional as F

from nbkit.neuro.bandvar.tokens.quantizer import MultiScaleQuantizer

LENGTHS = (2, 3, 10)


@pytest.fixture
def quantizer():
    torch.manual_seed(0)
    return MultiScaleQuantizer(16, 4, LENGTHS).eval()


def by_hand(quantizer, latents):
    """The sheet's recipe, token by token."""
    rest, summed = latents.clone(), torch.zeros_like(latents)
    tokens, sums, loss = [], [], 0.0
    for scale, length in enumerate(LENGTHS):
        pooled = F.interpolate(rest, size=length, mode="area")
        row = torch.zeros(len(latents), length, dtype=torch.long)
        for window in range(len(latents)):
            for place in range(length):
                distances = [(pooled[window, :, place] - code).norm().item() for code in quantizer.codebook]
                row[window, place] = min(range(16), key=distances.__getitem__)
        wide = F.interpolate(quantizer.codebook[row].transpose(1, 2), size=LENGTHS[-1], mode="linear")
        given = 0.5 * wide + 0.5 * quantizer.smooth[scale](wide)
        summed, rest = summed + given, rest - given
        loss = loss + 0.25 * ((summed - latents) ** 2).mean() + ((summed - latents) ** 2).mean()
        tokens.append(row)
        sums.append(summed)
    return torch.cat(tokens, 1), sums, loss / len(LENGTHS)


def test_quantisation_is_that_of_brute_force(quantizer):
    latents = torch.randn(3, 4, 10)
    with torch.no_grad():
        tokens, sums, loss = by_hand(quantizer, latents)
        found = quantizer(latents)
    assert torch.equal(found.tokens, tokens)
    torch.testing.assert_close(found.loss, loss)
    for ours, theirs, again in zip(found.partial_sums, sums, quantizer.partial_sums(tokens), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(again, theirs, atol=1e-5, rtol=1e-5)


def test_scales_sum_to_the_decoders_input(quantizer):
    tokens = torch.randint(16, (2, sum(LENGTHS)))
    parts = [quantizer.embed(tokens[:, place], scale) for scale, place in enumerate(quantizer.slices)]
    torch.testing.assert_close(quantizer.partial_sums(tokens)[-1], sum(parts))
    assert len(quantizer.partial_sums(tokens[:, :6])) == 2  # one token of the last scale is no scale


def test_next_inputs_know_nothing_of_their_own_scale(quantizer):
    tokens = torch.randint(16, (1, sum(LENGTHS)))
    inputs = quantizer.next_inputs(tokens)
    assert inputs.shape == (1, 13, 4)
    sums = quantizer.partial_sums(tokens)
    expected = [F.interpolate(sums[k], size=LENGTHS[k + 1], mode="area").transpose(1, 2) for k in (0, 1)]
    torch.testing.assert_close(inputs, torch.cat(expected, 1))
    changed = tokens.clone()
    changed[0, 3] = (changed[0, 3] + 1) % 16  # of scale 1
    assert torch.equal(quantizer.next_inputs(changed)[:, :3], inputs[:, :3])
    assert not torch.equal(quantizer.next_inputs(changed)[:, 3:], inputs[:, 3:])


def test_the_gradient_reaches_latents_straight_through_and_the_codes(quantizer):
    latents = torch.randn(2, 4, 10, requires_grad=True)
    quantizer(latents).partial_sums[-1].sum().backward()
    torch.testing.assert_close(latents.grad, torch.ones_like(latents))
    assert quantizer.codebook.grad.abs().sum() > 0
    latents.grad = None
    quantizer(latents).partial_sums[0][..., 0].sum().backward()
    assert latents.grad[..., :5].abs().min() > 0 and latents.grad[..., 5:].abs().max() == 0  # what token 0 averages


def test_loss_pulls_codes_and_latents_with_their_own_weights():
    torch.manual_seed(1)
    quantizer = MultiScaleQuantizer(8, 4, (5,), beta=0.25).eval()
    latents = torch.randn(2, 4, 5, requires_grad=True)
    found = quantizer(latents)
    found.loss.backward()
    error = quantizer.partial_sums(found.tokens)[-1] - latents
    torch.testing.assert_close(latents.grad, -0.25 * 2 * error.detach() / error.numel())


def test_dead_codes_begin_anew_at_vectors_of_the_batch():
    torch.manual_seed(2)
    quantizer = MultiScaleQuantizer(32, 4, LENGTHS, restart_below=0.5, restart_every=1).train()
    latents = torch.randn(8, 4, 10)
    quantizer(latents)
    quantizer.codebook.data[7] = 1e3  # nobody is near
    quantizer.use[7] = 0.0
    quantizer(latents)
    assert quantizer.codebook[7].abs().max() < 10 and quantizer.use[7] > 0.5
    assert int(quantizer.restarted) >= 1
    still = MultiScaleQuantizer(32, 4, LENGTHS, restart_below=0.0).train()
    still(latents)
    before = still.codebook.clone()
    for _ in range(30):
        still(latents)
    assert torch.equal(still.codebook, before) and int(still.restarted) == 0


def test_evaluation_changes_nothing(quantizer):
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(torch.randn(2, 4, 10))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_state_survives_a_file_and_training_goes_on_exactly():
    def steps(quantizer, first, last):
        for step in range(first, last):
            torch.manual_seed(step)  # as the runtime derives it
            quantizer(torch.randn(4, 4, 10))
        return quantizer.state_dict()

    torch.manual_seed(3)
    options = dict(restart_below=0.9, restart_every=3)
    whole = MultiScaleQuantizer(32, 4, LENGTHS, **options).train()
    halves = MultiScaleQuantizer(32, 4, LENGTHS, **options).train()
    halves.load_state_dict(whole.state_dict())
    expected = steps(whole, 0, 20)
    file = io.BytesIO()
    torch.save(steps(halves, 0, 10), file)
    file.seek(0)
    again = MultiScaleQuantizer(32, 4, LENGTHS, **options).train()
    again.load_state_dict(torch.load(file, weights_only=True))
    found = steps(again, 10, 20)
    assert int(expected["restarted"]) > 0
    assert all(torch.equal(found[name], value) for name, value in expected.items())
