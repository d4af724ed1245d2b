"""Backbones trained on raw clips: features of 61 at first, gradients in every layer, exact resuming."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from nbkit.neuro.tribe.fmri import FmriSettings, FmriTribe
from nbkit.neuro.tribe.handover import load_student
from nbkit.neuro.tribe.readers.unfrozen import Unfrozen, _means, made_clips, unfreeze, with_clips
from nbkit.neuro.tribe.runs.runs import make_stimulus_run, planted_runs
from nbkit.neuro.tribe.runs.windows import RunWindows, TribeData, halves
from nbkit.neuro.tribe.stimuli.encoders import EncoderSettings
from nbkit.neuro.tribe.stimuli.extract import Extractor
from tests.neuro.tribe.conftest import WORLD
from tests.runtime.training.in_sessions import assert_the_same_in_sessions

ENCODERS = EncoderSettings.smoke()
SIZES = {"dim": 16, "heads": 2, "hidden": 16, "expert_hidden": 16, "n_vertices": 24}


def settings(**more) -> FmriSettings:
    smoke = FmriSettings.smoke()
    return replace(smoke, student=smoke.student.of(**SIZES), unfreeze="audio+video", batch_size=1, **more)


@pytest.fixture(scope="module")
def clipped(tmp_path_factory):
    """Two short stimuli with a clip each: 13 and 13 steps of 1.49 s."""
    folder = tmp_path_factory.mktemp("clips")
    runs = planted_runs(replace(WORLD, duration_s=20.0), range(2), subjects=[0])
    rows = made_clips(runs, folder)
    return with_clips(runs, rows, unfreeze("audio+video", ENCODERS), folder / "raw"), rows


def test_nothing_is_read_without_the_setting(some_runs):
    found = unfreeze(None, ENCODERS)
    assert not found.modules and with_clips(some_runs, [], found, "nowhere") == some_runs
    assert "raw_audio" not in RunWindows(some_runs, 20)[0]


def test_states_are_averaged_over_the_steps_they_cover():
    means = _means(20, 149)
    assert torch.allclose(means.sum(1), torch.ones(20)) and means[0, :74].allclose(torch.tensor(2 / 149))
    assert means[0, 74] == pytest.approx(1 / 149) == means[1, 74] and not means[0, 75:].any()


def test_features_begin_as_those_of_61(tmp_path):
    """On the features' own grid; sound is centred on a step's time, so it is half a step earlier than in 61."""
    runs = planted_runs(replace(WORLD, duration_s=6.0), [0], step_s=0.5, teacher=False)
    rows = made_clips(runs, tmp_path)
    found = unfreeze("audio+video", ENCODERS)
    batch = default_collate([RunWindows(with_clips(runs, rows, found, tmp_path / "raw"), 12)[0]])
    row = {**rows[0], "key": "k", "index": "", "transcript": "", "modalities": ""}
    frozen = make_stimulus_run(Extractor(ENCODERS, "cpu")(row))
    with torch.no_grad():
        seen, heard = (found.modules[name](batch[f"raw_{name}"])[0, :11].numpy() for name in ("video", "audio"))
    np.testing.assert_allclose(seen, frozen.features["video"], rtol=0.01, atol=0.01)
    assert len(frozen.features["audio"]) == 11  # the file lasts less than 6 s
    wanted = (frozen.features["audio"][:-1] + frozen.features["audio"][1:]) / 2
    r = [np.corrcoef(one, other)[0, 1] for one, other in zip(heard[1:], wanted, strict=True)]
    assert min(r) > 0.9, r


def test_every_layer_learns_and_the_fixed_parts_stay(clipped):
    runs, _ = clipped
    module = FmriTribe(settings(), backbones=unfreeze("audio+video", ENCODERS).modules).train()
    module.configure_optimizers()
    batch = default_collate([RunWindows(runs, 20)[0]])
    assert batch["raw_video"].dtype == torch.uint8 and batch["raw_audio"].shape == (1, 20, 149, 80)
    assert halves(batch, 10)["raw_video"].shape == (2, 10, 64, 64, 3)
    module.weights.total(module.terms(batch, module.predict(batch))).backward()
    idle = [name for name, value in module.backbones.named_parameters() if value.grad is None or not value.grad.any()]
    # a key's bias cancels in the softmax, and at 64 pixels the last stage has one patch, which attends to itself
    alone = ("layer.4", "query"), ("layer.4", "key"), ("", "key.bias")
    assert not [name for name in idle if not any(a in name and b in name for a, b in alone)], idle
    assert "audio.model.embed_positions.weight" not in dict(module.backbones.named_parameters())
    assert not any(part.training for part in module.backbones.values() for part in part.modules())


@pytest.mark.train
def test_a_training_in_two_sessions_is_the_training_in_one(clipped, tmp_path):
    runs, _ = clipped
    given = settings(steps=2, times=10, times_first=10)
    calls = []

    def make(name):
        calls.append(name)
        seed = max(0, calls.count("parts") - 1)  # other first weights: the checkpoint must replace all of them
        torch.manual_seed(seed)
        backbones = unfreeze("audio+video", replace(ENCODERS, seed=seed)).modules
        backbones["audio"].model.layers = backbones["audio"].model.layers[:1]  # for the time that it takes
        return FmriTribe(given, backbones=backbones), TribeData(runs[:1], runs[1:], given.times, None, 1)

    module, last = assert_the_same_in_sessions(make, tmp_path, 2, [1], check=2)
    assert calls == ["whole", *["parts"] * 3] and last["tribe"]["unfrozen"] == ["audio", "video"]
    before = unfreeze("audio+video", replace(ENCODERS, seed=0)).modules["audio"].state_dict()
    after = module.backbones["audio"].state_dict()
    moved = {name: (after[name].cpu() - before[name]).abs().max().item() for name in after}
    assert moved["model.layers.0.fc2.weight"] > 0 and moved["model.conv1.weight"] > 0
    assert moved["model.embed_positions.weight"] == 0
    torch.save(last, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="trained together with its backbones .audio, video."):
        load_student(tmp_path / "last.ckpt")


def test_mistakes_in_words(clipped, tmp_path):
    runs, rows = clipped
    with pytest.raises(ValueError, match="unfreeze='text'; allowed are .*MiniLM stays frozen"):
        unfreeze("text", ENCODERS)
    found = Unfrozen({"video": torch.nn.Identity()}, image_size=64)
    with pytest.raises(ValueError, match="Of 2 stimuli, 1 have no clip .stim0001.*Set CLIPS"):
        with_clips(runs, rows[:1], found, tmp_path)
    with pytest.raises(ValueError, match="stim0000@1of2 is a block.*set blocks to 1"):
        with_clips([replace(runs[0], name="stim0000@1of2")], rows, found, tmp_path)
