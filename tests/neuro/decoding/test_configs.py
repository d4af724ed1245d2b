"""The declared interface: the seed's own samples as printed, and what is refused in words."""

from __future__ import annotations

import re
from dataclasses import replace

import huggingface_hub
import mne
import numpy as np
import pandas as pd
import pytest
from safetensors.torch import save_file

from nbkit.neuro.decoding import configs
from nbkit.neuro.decoding.models.backbones import make_network
from nbkit.neuro.decoding.models.table import spec_of
from nbkit.neuro.decoding.tasks import stand_in
from nbkit.neuro.decoding.training import FineTuneSettings

TASK = stand_in(20, subjects=5, seconds=1.0)
META = pd.DataFrame({"Subject": TASK.groups})


def epochs() -> mne.EpochsArray:
    info = mne.create_info(list(TASK.ch_names), TASK.sfreq, "eeg")
    return mne.EpochsArray(TASK.windows * 1e-6, info, verbose="error")


def samples(root) -> list[str]:
    """Return the code samples of the seed that declare a config, with this package's import line."""
    seed = root.parent / "shared" / "seeds" / "decoding-foundation-models.md"
    if not seed.is_file():
        pytest.skip("the seed is not beside this checkout")
    text = seed.read_text("utf-8")
    parts = re.split(r"(?=^from coco_pipe)", text, flags=re.M)[1:]
    assert len(parts) == 2
    kept = []
    for part in parts:
        lines, depth = [], 0
        for line in part.splitlines():
            begins = depth == 0 and re.match(r"(from|config =|result =|\)|$)", line)
            if not (begins or depth):
                break
            depth += line.count("(") - line.count(")")
            lines.append(line)
        kept.append("\n".join(lines).replace("coco_pipe.decoding.configs", "nbkit.neuro.decoding.configs"))
    return kept


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub's file of LaBraM, made here in its true layout."""
    network = make_network(spec_of("labram"), TASK.ch_names, 3000, {}, seed=7)
    path = tmp_path / "labram.safetensors"
    save_file({name: value.contiguous().clone() for name, value in network.state_dict().items()}, path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, filename: str(path))
    monkeypatch.chdir(tmp_path)


def test_the_first_sample_runs_as_printed(root, hub, tmp_path):
    space = {"Experiment": configs.Experiment, "X_epochs": epochs(), "y": TASK.target, "meta": META}
    code = samples(root)[0]
    assert "Experiment(config).run(X_epochs, y, sample_metadata=meta)" in code and "cache_embeddings=True" in code
    exec(compile(code, "sample 1", "exec"), space)
    table = space["result"].get_detailed_scores()
    assert len(table) == 5 and table["weights"].str.contains("braindecode/labram-pretrained").all()
    assert list((tmp_path / "experiment" / "embeddings").rglob("*.pack"))
    artifacts = space["result"].get_model_artifacts()
    assert set(artifacts["Model"]) == {"labram_probe"}
    assert space["result"].summary()["score"][0] > 0.5


def test_the_second_sample_declares_qlora_of_reve(root, tmp_path):
    space = {}
    exec(compile(samples(root)[1], "sample 2", "exec"), {"ExperimentConfig": configs.ExperimentConfig,
                                                         "CVConfig": configs.CVConfig}, space)  # fmt: skip
    config = space["config"]
    decoder = config.models["reve_qlora"].decoder()
    assert (decoder.model, decoder.mode, decoder.weights) == ("reve", "qlora", "hub")
    assert (decoder.settings.r, decoder.settings.alpha, decoder.settings.dropout) == (16, 32, 0.05)
    assert decoder.settings.precision == "bf16" and config.cv.group_key == "Subject"
    # the same declaration on a smaller model, for one step
    small = FineTuneSettings(steps=1, batch_size=4, warmup_steps=0, val_every=1)
    model = replace(config.models["reve_qlora"], model_key="labram", weights="random", training=small)
    cv = replace(config.cv, n_splits=2)
    result = configs.Experiment(replace(config, models={"qlora": model}, cv=cv)).run(
        epochs(), TASK.target, META, folder=tmp_path
    )
    for kind in ("training_history", "checkpoints"):
        assert set(result.get_model_artifacts(artifact_type=kind)["Fold"]) == {1, 2}


REFUSED = {
    "another backend": (lambda: configs.NeuralFineTuneConfig(backend="keras"), "may be 'braindecode', 'hugging_face'"),
    "another model": (lambda: configs.FoundationEmbeddingModelConfig(model_key="gpt"), "no foundation model 'gpt'"),
    "another pooling": (lambda: configs.FoundationEmbeddingModelConfig(pooling="cls"), "it may be 'mean'"),
    "whole recordings": (lambda: configs.NeuralFineTuneConfig(input_kind="continuous"), "Cut recordings into windows"),
    "another mode": (lambda: configs.NeuralFineTuneConfig(train_mode="frozen"), "take FrozenBackboneDecoderConfig"),
    "adapters of nothing": (
        lambda: configs.NeuralFineTuneConfig(train_mode="full", lora=configs.LoRAConfig()), "belong to lora and qlora",
    ),
    "quantised lora": (
        lambda: configs.NeuralFineTuneConfig(quantization=configs.QuantizationConfig(enabled=True)), "others are not",
    ),
    "eight bits": (lambda: configs.QuantizationConfig(enabled=True, load_in_4bit=False), "only 4 bits"),
    "the last step": (lambda: configs.CheckpointConfig(save="last"), "it may be 'best'"),
    "a precision": (lambda: configs.DeviceConfig(precision="fp64"), "may be 'auto', 'fp32'"),
    "folds by window": (lambda: configs.CVConfig(strategy="stratified_kfold"), "put a person on both sides"),
    "an estimator": (lambda: configs.ClassicalModelConfig("LogisticRegresion"), "near it are LogisticRegression"),
    "its parameter": (lambda: configs.ClassicalModelConfig(params={"iterations": 1}), "has no iterations; it has C"),
    "a lone head": (
        lambda: configs.ExperimentConfig({"x": configs.ClassicalModelConfig()}), "decodes nothing by itself",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_words(name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        make()


def test_an_array_needs_its_channels_and_rate(tmp_path):
    config = configs.ExperimentConfig({"x": configs.FrozenBackboneDecoderConfig()})
    with pytest.raises(ValueError, match=r"pass ch_names= and sfreq=, or mne.Epochs"):
        configs.Experiment(config).run(TASK.windows, TASK.target, META, folder=tmp_path)
    assert np.isfinite(epochs().get_data()).all()
