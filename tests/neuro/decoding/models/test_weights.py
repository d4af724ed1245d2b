"""Weights from files and from the hub (a made-up one): all of them or an error, never random ones in their place."""

from __future__ import annotations

import json

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from nbkit.neuro.decoding.models.backbones import make_network
from nbkit.neuro.decoding.models.registry import TEN_TWENTY, load_model
from nbkit.neuro.decoding.models.table import spec_of
from nbkit.neuro.decoding.models.weights import read_weights
from nbkit.neuro.signals.positions import directions, head_places


def published(key, window_s, seed=7, ch_names=TEN_TWENTY):
    """A network with its head, as its authors would publish it."""
    spec = spec_of(key)
    return make_network(spec, ch_names, int(window_s * spec.sfreq), head_places(directions(ch_names)), seed)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that has what is put there, and says so when asked for anything else."""
    files, asked = {}, []

    def download(repo, filename, **_):
        asked.append((repo, filename))
        if (repo, filename) not in files:
            raise LocalEntryNotFoundError("there is no network here")
        return str(files[repo, filename])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    def put(key, weights):
        spec = spec_of(key)
        files[spec.repo, spec.filename] = tmp_path / f"{key}.safetensors"
        save_file(
            {name: value.contiguous().clone() for name, value in weights.items()}, files[spec.repo, spec.filename]
        )

    put.asked = asked
    return put


@pytest.mark.parametrize("key", ["biot", "cbramod", "labram", "signaljepa"])
def test_the_hubs_weights_are_the_models(key, hub):
    network = published(key, 2.0, ch_names=TEN_TWENTY if key != "biot" else TEN_TWENTY[:16])
    hub(key, network.state_dict())
    model = load_model(key, weights="hub", window=2.0)
    assert hub.asked == [(spec_of(key).repo, "model.safetensors")]
    assert spec_of(key).repo in model.weights and not model.random
    alike = load_model(key, window=2.0, seed=7)  # the seed that the published ones were made with
    assert alike.random and model.fingerprint == alike.fingerprint
    assert model.fingerprint != load_model(key, window=2.0).fingerprint
    total = sum(not name.startswith("final_layer.") for name in network.state_dict())
    assert f"{total} of {total} weights" in model.weights


def test_labrams_weights_of_fifteen_seconds_serve_a_window_of_two(hub):
    network = published("labram", 15.0)
    hub("labram", network.state_dict())
    model = load_model("labram", weights="hub", window=2.0)
    rows = model.module.network.temporal_embedding
    assert rows.shape[1] == 3 and torch.equal(rows, network.temporal_embedding[:, :3])


def test_eegpts_and_lunas_files_hold_more_and_other_names(hub):
    network = published("eegpt", 1.0)
    weights = {**network.state_dict(), "predictor.x": torch.ones(2), "chan_proj.proj.weight": torch.ones(19, 22, 1)}
    hub("eegpt", weights)
    model = load_model("eegpt", weights="hub", window=1.0, ch_names=TEN_TWENTY[:4])
    assert model.module.network.chans_id.shape[-1] == 4  # this recording's, not the file's
    own = published("luna", 2.0)
    back = {new: old for old, new in own.mapping.items()}
    hub("luna", {back.get(n, n): v for n, v in own.state_dict().items() if not n.startswith("final_layer.")})
    assert (
        load_model("luna", weights="hub", window=2.0).fingerprint == load_model("luna", window=2.0, seed=7).fingerprint
    )


def test_reves_published_places_stand_before_templates(hub, tmp_path, monkeypatch):
    bank = {name: [float(place), -1.0, 2.0] for place, name in enumerate(("C3", "Cz", "C4", "Pz"))}
    (tmp_path / "reve_positions.json").write_text(json.dumps(bank))
    monkeypatch.setenv("REVE_POSITIONS_PATH", str(tmp_path))
    spec = spec_of("reve")
    hub("reve", make_network(spec, ("C3",), 200, {"C3": (0, 0, 0)}).state_dict())
    model = load_model("reve", weights="hub", window=1.0, ch_names=["C4", "C3.", "Pz"])
    assert model.ch_names == ("C4", "C3", "Pz")
    assert model.module.network.default_pos.tolist() == [bank[name] for name in model.ch_names]
    import os

    assert os.environ["REVE_POSITIONS_PATH"] == str(tmp_path)
    with pytest.raises(ValueError, match="reve knows 1 of the recording's 4 channels by name"):
        load_model("reve", weights="hub", window=1.0, ch_names=["C3", "F3", "F4", "O1"])


def test_nothing_stands_in_for_weights_that_cannot_be_had(hub):
    with pytest.raises(
        ValueError, match=r"weights of biot \(braindecode/biot.*could not be loaded: LocalEntryNotFound.*'rand"
    ):
        load_model("biot", weights="hub", window=2.0)
    with pytest.raises(FileNotFoundError, match="no file of weights nowhere.safetensors"):
        load_model("biot", weights="nowhere.safetensors", window=2.0)


def test_a_weight_that_does_not_fit_refuses_all(tmp_path):
    weights = published("biot", 2.0, ch_names=TEN_TWENTY[:16]).state_dict()
    name = "encoder.channel_tokens.weight"
    for spoilt, words in (
        ({n: v for n, v in weights.items() if n != name}, rf"1 missing \({name}\)"),
        ({**weights, name: weights[name][:8]}, r"1 of another shape \(.*\(8, 256\) in the file, \(16, 256\) here"),
        ({**weights, "strange": weights[name]}, r"1 left over \(strange\)"),
    ):
        torch.save({"state_dict": spoilt}, tmp_path / "spoilt.pt")
        with pytest.raises(ValueError, match=words):
            load_model("biot", weights=tmp_path / "spoilt.pt", window=2.0)


def test_what_stays_random_is_named_where_that_is_asked_for(tmp_path):
    weights = published("biot", 2.0, ch_names=TEN_TWENTY[:16]).state_dict()
    total = sum(not name.startswith("final_layer.") for name in weights)
    name = "encoder.channel_tokens.weight"
    torch.save({n: v for n, v in weights.items() if n != name}, tmp_path / "part.pt")
    model = load_model("biot", weights=tmp_path / "part.pt", window=2.0, strict=False)
    assert model.weights.startswith(f"{total - 1} of {total} weights from part.pt, 1 stay random: {name}")
    own, theirs = model.module.network.state_dict(), load_model("biot", window=2.0).module.network.state_dict()
    assert torch.equal(own[name], theirs[name])
    assert all(torch.equal(own[n], v) for n, v in weights.items() if n in own and n != name)


def test_older_repositories_have_torchs_own_file(monkeypatch, tmp_path):
    from huggingface_hub.errors import EntryNotFoundError

    torch.save(published("biot", 2.0, ch_names=TEN_TWENTY[:16]).state_dict(), tmp_path / "pytorch_model.bin")

    def download(repo, filename):
        if filename != "pytorch_model.bin":
            raise EntryNotFoundError("404: not in this repository")
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert "pytorch_model.bin" in load_model("biot", weights="hub", window=2.0).weights


def test_files_of_torch_are_read_and_others_refused(tmp_path):
    weights = published("biot", 2.0, ch_names=TEN_TWENTY[:16]).state_dict()
    for held in (weights, {"state_dict": weights}, {"model": weights, "epoch": 3}):
        torch.save(held, tmp_path / "held.pt")
        assert set(read_weights(tmp_path / "held.pt")) == set(weights)
    model = load_model("biot", weights=tmp_path / "held.pt", window=2.0)
    assert "held.pt" in model.weights and "without 2 of its head" in model.weights
    windows = np.random.default_rng(0).normal(size=(2, 19, 400))
    embedded = model.embed(model.prepare(windows, TEN_TWENTY, 200.0))
    alike = load_model("biot", window=2.0, seed=7)
    assert np.array_equal(embedded, alike.embed(alike.prepare(windows, TEN_TWENTY, 200.0)))
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="holds no weights by name"):
        load_model("biot", weights=tmp_path / "other.pt", window=2.0)


def test_a_file_of_a_hub_model_comes_from_a_url_too(tmp_path, monkeypatch):
    import functools
    import http.server
    import threading

    import pooch

    network = published("biot", 2.0, ch_names=TEN_TWENTY[:16])
    torch.save(network.state_dict(), tmp_path / "biot.pt")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        model = load_model("biot", weights=f"http://127.0.0.1:{server.server_port}/biot.pt", window=2.0)
    finally:
        server.shutdown()
    assert "biot.pt" in model.weights and model.fingerprint == load_model("biot", window=2.0, seed=7).fingerprint
    with pytest.raises(ValueError, match="is no file of the hub; give hf://owner"):
        load_model("biot", weights="hf://braindecode", window=2.0)
