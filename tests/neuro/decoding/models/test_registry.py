"""The eight models, built offline with random weights: braindecode's own forward pass is the oracle."""

from __future__ import annotations

import copy
import gc
import socket

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nbkit.neuro.decoding.models import registry
from nbkit.neuro.decoding.models.backbones import make_network
from nbkit.neuro.decoding.models.registry import TEN_TWENTY, check_weights, list_foundation_models, load_model
from nbkit.neuro.decoding.models.table import MODELS, spec_of
from nbkit.neuro.nn.lora import add_lora, dead_adapters, lora_parameters, merge_lora, quantise_4bit
from nbkit.neuro.signals.positions import directions, head_places
from tests.neuro.signals.test_positions import EGI

# 157 million weights: seconds for each copy.
EVERY = [pytest.param(key, marks=pytest.mark.train) if key == "bendr" else key for key in MODELS]


@pytest.fixture(scope="module", params=EVERY)
def model(request):
    """Each model once: 19 channels, 2 s; 1 s of those whose steps take longest."""
    yield load_model(request.param, window=1.0 if request.param in ("eegpt", "reve") else 2.0)
    gc.collect()


@pytest.fixture(scope="module")
def windows():
    draws = np.random.default_rng(0)
    return np.cumsum(draws.normal(size=(5, 19, 500)), -1) * 5  # uV, at 250 Hz


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a model with random weights asked for a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_table_says_what_each_model_takes(model):
    table = list_foundation_models()
    assert list(table.index) == ["bendr", "biot", "cbramod", "eegpt", "labram", "luna", "reve", "signaljepa"]
    row = table.loc[model.key]
    assert row["dim"] == model.dim and row["sfreq"] == model.sfreq
    assert row["parameters_m"] == pytest.approx(model.parameters / 1e6, rel=0.01)
    assert row["shortest_s"] <= row["window_s"] <= row["longest_s"] and "qlora" in row["train_modes"]
    assert table.loc["signaljepa", "sfreq"] == 128 and table.loc["bendr", "channels"] == "19 fixed"


def test_embeddings_are_the_same_each_time_and_in_batches_of_any_size(model, windows):
    prepared = model.prepare(windows, TEN_TWENTY, 250.0)
    assert prepared.array.shape == (5, len(model.ch_names) + (model.key == "bendr"), model.n_times)
    together = model.embed(prepared)
    assert together.shape == (5, model.dim) and together.dtype == np.float32
    assert np.isfinite(together).all() and together.std(0).max() > 1e-3
    assert np.array_equal(together, model.embed(prepared.array))
    by_two = model.embed(prepared, batch_size=2)
    np.testing.assert_allclose(by_two, together, atol=2e-5 * np.abs(together).max())


def test_random_weights_are_called_so(model):
    assert model.weights == "random, seed 0" and model.random and "random" in repr(model)
    assert len(model.fingerprint) == 64 and not any(p.requires_grad for p in model.module.parameters())


def test_tokens_are_braindecodes_own(model, windows):
    """Heads off, attention opened and Labram's projection called: what comes out is what the network gave before."""
    spec = spec_of(model.key)
    laid = head_places(directions(model.ch_names))
    network = make_network(spec, model.ch_names, model.n_times, laid, seed=0).eval()
    x = torch.from_numpy(model.prepare(windows, TEN_TWENTY, 250.0).array)[:2]
    with torch.no_grad():
        if model.key == "luna":
            network.final_layer = nn.Identity()
            truth = network(x)
        else:
            names = {"ch_names": list(model.ch_names)} if model.key == "labram" else {}
            truth = network(x, return_features=True, **names)["features"]
        truth = truth.flatten(1, -2).mean(1) if truth.dim() > 2 else truth
    np.testing.assert_allclose(model.embed(x.numpy()), truth, atol=1e-5 * float(truth.abs().max()))


def test_every_weight_of_a_decoder_learns(model, windows):
    x = torch.from_numpy(model.prepare(windows, TEN_TWENTY, 250.0).array)[:2]
    model.embed(x.numpy())  # what a network keeps from a look at frozen embeddings does not stand in training's way
    decoder = model.with_head(2)
    decoder(x).square().sum().backward()
    learning = {name for name, p in decoder.named_parameters() if p.requires_grad}
    assert sum(p.numel() for n, p in decoder.named_parameters() if n in learning) > 0.99 * model.parameters
    idle = [name for name, p in decoder.named_parameters() if name in learning and (p.grad is None or not p.grad.any())]
    assert idle == []


def _steps(decoder, x, steps, lr=0.1):
    trained = [p for p in decoder.parameters() if p.requires_grad]
    optimiser, dead = torch.optim.SGD(trained, lr=lr), []
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(decoder(x), torch.arange(len(x)) % 3).backward()
        dead += dead_adapters(decoder)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
    return dead


@pytest.mark.parametrize("bits", [32, 4])
@pytest.mark.train
def test_every_adapter_takes_part_and_nothing_else_changes(model, windows, bits):
    if bits == 4:
        pytest.importorskip("bitsandbytes")
    x = torch.from_numpy(model.prepare(windows, TEN_TWENTY, 250.0).array)[:3]
    before = model.fingerprint
    decoder = model.with_head(3)
    with torch.no_grad():
        full = decoder.eval()(x)
    if bits == 4:
        report = quantise_4bit(decoder)
        assert report.rounded > 0.75 * report.weights  # what is left: convolutions, norms, tables
    with torch.no_grad():
        start = decoder(x)
    if bits == 4:
        assert 0 < (start - full).abs().max() < 1.0  # logits of a head on a normed embedding are about 1
    added = add_lora(decoder, model.lora_targets(), r=4, alpha=8)
    assert len(added.adapters) == len(model.lora_targets()) > 0
    with torch.no_grad():
        torch.testing.assert_close(decoder(x), start, atol=1e-5, rtol=1e-5)
    decoder.head.requires_grad_(True)
    frozen = {
        name: value.detach().clone()
        for name, value in decoder.state_dict(keep_vars=True).items()
        if not getattr(value, "requires_grad", False)
    }
    torch.manual_seed(0)
    assert _steps(decoder.train(), x, steps=2) == []
    for name, parameter in lora_parameters(decoder).items():
        assert parameter.grad.any(), f"{name} got no gradient in the second step"
    after_state = decoder.state_dict()
    assert len(frozen) > 5 and all(torch.equal(value, after_state[name]) for name, value in frozen.items())
    with torch.no_grad():
        after = decoder.eval()(x)
        assert (after - start).abs().max() > 1e-3
        merge_lora(decoder)
        torch.testing.assert_close(decoder(x), after, atol=1e-4, rtol=1e-4)
    model.__dict__.pop("fingerprint")
    assert model.fingerprint == before  # the decoder was a copy


def test_the_usual_way_leaves_labrams_projection_dead(windows):
    """What `call_qkv` is for: the same network without it."""
    network = make_network(spec_of("labram"), TEN_TWENTY, 400, {})
    report = add_lora(network, ["qkv", "proj"], r=4, alpha=8)
    x = torch.from_numpy(load_model("labram", window=2.0).prepare(windows, TEN_TWENTY, 250.0).array)[:2]
    network(x, ch_names=list(TEN_TWENTY)).sum().backward()
    dead = dead_adapters(network)
    assert len(report.adapters) == 24 and len({name for name in dead if ".qkv." in name}) == 24


def test_fingerprints_are_of_weights_and_preparation():
    one = load_model("cbramod", window=2.0)
    assert one.fingerprint == load_model("cbramod", window=2.0).fingerprint
    others = [
        load_model("cbramod", window=2.0, seed=1),
        load_model("cbramod", window=3.0),
        load_model("cbramod", window=2.0, ch_names=TEN_TWENTY[::-1]),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_seed_is_a_models_own():
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    first = load_model("signaljepa", window=2.0)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(4)
    assert load_model("signaljepa", window=2.0).fingerprint == first.fingerprint


@pytest.mark.parametrize("key", ["biot", "cbramod", "labram", "luna", "signaljepa"])
def test_an_egi_net_goes_into_models_that_never_saw_one(key):
    names = [*EGI, "Cz"]
    model = load_model(key, ch_names=names, window=2.0)
    draws = np.random.default_rng(0)
    prepared = model.prepare(draws.normal(size=(2, 129, 200)) * 20, names, 100.0)
    assert np.isfinite(model.embed(prepared)).all()
    if key in ("labram", "signaljepa"):
        assert any("interpolated (degrees to the nearest channel" in words for words in prepared.said)
        assert 40 < len(model.ch_names) < 63
    elif key != "biot":
        assert model.ch_names == tuple(names)


def test_one_model_takes_recordings_of_several_montages():
    model = load_model("labram", window=2.0, ch_names=TEN_TWENTY)
    old = [{"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}.get(name, name) for name in TEN_TWENTY]
    draws = np.random.default_rng(0).normal(size=(2, 19, 400))
    order = np.random.default_rng(1).permutation(19)
    one, other = (
        model.prepare(w, names, 200.0)
        for w, names in ((draws, TEN_TWENTY), (draws[:, order], [old[place] for place in order]))
    )
    assert np.array_equal(one.array, other.array) and "4 under another name" in other.said[1]
    net = model.prepare(np.random.default_rng(0).normal(size=(2, 128, 400)), EGI, 200.0)
    assert "19 interpolated" in net.said[1]


def test_montage_says_what_a_model_sees():
    model = load_model("labram", ch_names=EGI, window=2.0, montage=["C3", "Cz", "C4"])
    assert model.ch_names == ("C3", "Cz", "C4")
    with pytest.raises(ValueError, match="signaljepa has no Q9; it knows Fp1, "):
        load_model("signaljepa", montage=["C3", "Q9"], window=2.0)
    with pytest.raises(ValueError, match="biot takes its own 16 channels, not montage="):
        load_model("biot", montage=["C3"], window=2.0)


def test_refusals_name_what_was_seen_and_what_is_allowed():
    with pytest.raises(ValueError, match="no foundation model 'lambram'; there are: bendr, biot"):
        load_model("lambram")
    with pytest.raises(ValueError, match=r"Windows of 0.5 s; labram takes 1 to 15 s \(pretrained on 15 s\)"):
        load_model("labram", window=0.5)
    with pytest.raises(ValueError, match="luna uses the positions of channels, and no position is known of Q1"):
        load_model("luna", ch_names=["C3", "Q1"], window=2.0)
    with pytest.raises(ValueError, match="labram does not know the channels EXG1"):
        load_model("labram", ch_names=[*TEN_TWENTY, "EXG1"], window=2.0)
    model = load_model("biot", window=2.0)
    with pytest.raises(ValueError, match="biot needs 16 channels and .* are missing"):
        model.prepare(np.zeros((1, 4, 512)), ["TP9", "AF7", "AF8", "TP10"], 256.0)
    with pytest.raises(ValueError, match=r"built for 2 s"):
        model.prepare(np.ones((1, 19, 256)), TEN_TWENTY, 256.0)
    with pytest.raises(ValueError, match=r"biot takes \(windows, channels, 400\)"):
        model.embed(np.zeros((1, 16, 512)))
    with pytest.raises(ValueError, match="precision='fp8' is unknown; choose one of fp32, fp16, bf16"):
        model.embed(np.zeros((1, 16, 400)), precision="fp8")
    with pytest.raises(ValueError, match="n_outputs=0; a head needs 1"):
        model.with_head(0)


def test_half_precision_is_near_full(windows):
    model = load_model("labram", window=2.0)
    prepared = model.prepare(windows, TEN_TWENTY, 250.0)
    full, half = model.embed(prepared), model.embed(prepared, precision="bf16")
    assert 0 < np.abs(half - full).max() < 0.05 * np.abs(full).max()


def test_decoders_train_whole_and_copy_whole(windows):
    model = load_model("labram", window=2.0)
    x = torch.from_numpy(model.prepare(windows, TEN_TWENTY, 250.0).array)
    decoder = model.with_head(1, dropout=0.1)
    other = copy.deepcopy(decoder)
    decoder(x).square().mean().backward()
    unused = [name for name, p in decoder.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == [] and decoder(x).shape == (5, 1)
    with torch.no_grad():
        other.backbone.network.blocks[0].attn.qkv.weight.zero_()  # a copy's attention reads the copy's weights
        assert not torch.allclose(decoder.eval()(x), other.eval()(x))


def test_weights_that_cannot_be_had_are_refused_before_the_first_recording(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "fetch", lambda spec: asked.append(spec.key))
    check_weights("biot", "random")
    check_weights("labram", "hub")
    assert asked == ["labram"]
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.pth"):
        check_weights("biot", tmp_path / "none.pth")
    with pytest.raises(ValueError, match="labra"):
        check_weights("labra", "random")
