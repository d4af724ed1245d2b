"""The model in the seed's form, against that form written out with torch's own layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nbkit.neuro.bandvar.model import EEGScaleAutoregressiveModel


@pytest.fixture
def model():
    torch.manual_seed(0)
    return EEGScaleAutoregressiveModel(6, 20, d_model=16, nhead=4, num_layers=2).eval()


def test_it_is_the_seeds_form_layer_for_layer(model):
    state = model.state_dict()

    def part(name):
        return {k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")}

    into, out = nn.Linear(6, 16), nn.Linear(16, 6)
    layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=64, dropout=0.1, activation="gelu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    into.load_state_dict(part("input_projection"))
    out.load_state_dict(part("output_projection"))
    encoder.load_state_dict(part("encoder"))
    x = torch.randn(3, 6, 20)
    by_hand = out(encoder(into(x.transpose(1, 2)) + state["position"])).transpose(1, 2)
    torch.testing.assert_close(model(x), by_hand)


def test_parameters_are_the_seeds():
    assert sum(p.numel() for p in EEGScaleAutoregressiveModel(64, 500).parameters()) == pytest.approx(3.3e6, rel=0.05)


def test_attention_sees_both_ways_in_time(model):
    x = torch.randn(1, 6, 20)
    for moved, seen in ((0, 19), (19, 0)):
        other = x.clone()
        other[:, :, moved] += 1
        assert not torch.allclose(model(x)[..., seen], model(other)[..., seen])


@pytest.mark.parametrize("taps", [(1, 1), (5, 1), (1, 7), (9, 9)])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("num_stages", [0, 3])
def test_shapes_in_and_out_are_the_same(taps, residual, num_stages):
    model = EEGScaleAutoregressiveModel(
        4, 16, 8, 2, 1, residual=residual, num_stages=num_stages, stem_taps=taps[0], head_taps=taps[1]
    )
    assert model(torch.randn(2, 4, 16), 1).shape == (2, 4, 16)


def test_a_residual_model_begins_as_persistence():
    model = EEGScaleAutoregressiveModel(4, 16, 8, 2, 1, residual=True, num_stages=3)
    model.set_scale([40.0, 10.0, 5.0])
    x = 30 * torch.randn(2, 4, 16)
    torch.testing.assert_close(model(x, 2), x)


def test_stages_of_a_batch_do_not_mix():
    torch.manual_seed(0)
    model = EEGScaleAutoregressiveModel(4, 16, 8, 2, 1, num_stages=3).eval()
    x = torch.randn(3, 4, 16)
    together = model(x, torch.tensor([0, 2, 1]))
    for row, stage in enumerate((0, 2, 1)):
        torch.testing.assert_close(together[row : row + 1], model(x[row : row + 1], stage), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(x, 0), model(x, 1))


@pytest.mark.parametrize("num_stages", [0, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_a_change_of_unit_changes_nothing_but_the_unit(num_stages, residual):
    torch.manual_seed(0)
    volts = EEGScaleAutoregressiveModel(4, 16, 8, 2, 1, num_stages=num_stages, residual=residual).eval()
    nn.init.normal_(volts.output_projection.weight)
    microvolts = EEGScaleAutoregressiveModel(4, 16, 8, 2, 1, num_stages=num_stages, residual=residual).eval()
    microvolts.load_state_dict(volts.state_dict())
    volts.set_scale([4e-5, 1e-5, 5e-6])
    microvolts.set_scale([40.0, 10.0, 5.0])
    x = 4e-5 * torch.randn(2, 4, 16)
    torch.testing.assert_close(volts(x, 1) * 1e6, microvolts(x * 1e6, 1), rtol=1e-4, atol=1e-3)


def test_scale_is_saved_with_the_weights():
    model = EEGScaleAutoregressiveModel(4, 16, 8, 2, 1, num_stages=3, residual=True)
    model.set_scale([3.0, 4.0, 12.0])
    state = model.state_dict()
    assert state["output_scale"].tolist() == [3.0, 4.0, 12.0] and state["input_scale"].tolist() == [1.0, 3.0, 5.0]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: EEGScaleAutoregressiveModel(4, 16, 10, 4), "d_model=10 is not a multiple of nhead=4"),
        (lambda: EEGScaleAutoregressiveModel(4, 16, 8, 2, stem_taps=4), "must be odd"),
        (
            lambda: EEGScaleAutoregressiveModel(4, 16, 8, 2, num_stages=3)(torch.zeros(1, 4, 16)),
            "index of the band to predict",
        ),
        (lambda: EEGScaleAutoregressiveModel(4, 16, 8, 2, num_stages=3).set_scale([1.0]), "1 scales for 3 stages"),
        (
            lambda: EEGScaleAutoregressiveModel(4, 16, 8, 2).set_scale([0.0, 1.0]),
            "must be a positive number for each stage",
        ),
    ],
)
def test_mistakes_are_answered_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
