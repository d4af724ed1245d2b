"""Phase 2: rates, what is frozen, what is learned and what is handed on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from nbkit.neuro.tribe.distill import DistillSettings, DistillTribe
from nbkit.neuro.tribe.handover import load_student, read_checkpoint, take_weights
from nbkit.neuro.tribe.pretrain import PretrainSettings, PretrainTribe
from nbkit.neuro.tribe.runs.windows import RunWindows

SIZES = {"dim": 16, "heads": 2, "hidden": 16, "expert_hidden": 16, "n_vertices": 24}


def tiny(**more) -> DistillSettings:
    smoke = DistillSettings.smoke()
    return replace(smoke, student=smoke.student.of(**SIZES), **{"steps": 6, "batch_size": 4, **more})


@pytest.fixture
def windows(some_runs):
    return RunWindows(some_runs, 20)


def test_the_seeds_numbers():
    s = DistillSettings()
    assert (s.lr_head, s.lr_projectors, s.lr_fusion, s.lr_embeddings) == (1e-3, 1e-4, 1e-4, 0.0)
    assert (s.warm, s.grad_clip, s.dropout, s.batch_size, s.times) == (0.1, 1.0, 0.3, 8, 100)
    sprint = DistillSettings.sprint()
    assert (sprint.lr_head, sprint.lr_fusion, sprint.lr_projectors, sprint.times) == (1e-3, 3e-4, 3e-4, 50)
    assert (sprint.dropout, sprint.student.n_vertices, sprint.weights.teacher) == (0.2, 1000, 0.7)


def test_embeddings_stay_and_the_rest_moves(windows, train):
    torch.manual_seed(0)
    module = DistillTribe(tiny())
    before = {name: value.clone() for name, value in module.named_parameters()}
    trainer = train(module, DataLoader(windows, 4), 3)
    still = {name for name, value in module.named_parameters() if torch.equal(value, before[name])}
    assert still == {"student.trunk.times", "student.trunk.modality"}
    rates = {group["name"]: group["initial_lr"] for group in trainer.optimizers[0].param_groups}
    assert rates == {"head": 4e-3, "projectors": 1e-3, "fusion": 1e-3}


def test_terms_are_those_with_a_weight_and_a_target(windows):
    batch = default_collate([windows[0], windows[1]])
    parcel = torch.arange(24) // 4
    module = DistillTribe(tiny(), parcel)
    made = module.terms(batch, module.predict(batch))
    assert set(made) == {"aux", "teacher", "feature", "temporal", "parcels"}
    assert set(DistillTribe(tiny()).terms(batch, module.predict(batch))) == {"aux", "teacher", "feature", "temporal"}
    with pytest.raises(ValueError, match="parcel numbers for 24 outputs"):
        DistillTribe(tiny(), parcel[:5])


def test_phase_1_hands_its_trunk_over_and_nothing_of_other_sizes(windows, train, tmp_path):
    settings = PretrainSettings.smoke()
    first = PretrainTribe(replace(settings, student=settings.student.of(**SIZES), steps=2))
    train(first, DataLoader(windows, 4), 1, save=tmp_path / "first.ckpt")
    second = DistillTribe(tiny())
    fresh = take_weights(second.student, tmp_path / "first.ckpt")
    assert all(torch.equal(value, second.student.trunk.state_dict()[name]) for name, value in
               first.trunk.state_dict().items())  # fmt: skip
    assert "hrf.weight" in fresh and not any(name.startswith("trunk.") for name in fresh)
    wide = DistillTribe(replace(tiny(), student=tiny().student.of(dim=32)))
    with pytest.raises(ValueError, match="other sizes"):
        take_weights(wide.student, tmp_path / "first.ckpt")
    with pytest.raises(ValueError, match="a trunk alone"):
        load_student(tmp_path / "first.ckpt")


def test_a_checkpoint_gives_the_student_back_and_moves_to_another_grid(windows, train, tmp_path):
    module = DistillTribe(tiny())
    train(module, DataLoader(windows, 4), 1, save=tmp_path / "second.ckpt")
    module.eval()
    batch = default_collate([windows[0]])
    student = load_student(tmp_path / "second.ckpt")
    features = {name: batch[name] for name in ("text", "audio", "video")}
    assert torch.equal(student(features, batch["subject"]).bold, module.predict(batch).bold)
    assert read_checkpoint(tmp_path / "second.ckpt")["tribe"]["phase"] == "distill"
    slower = DistillTribe(replace(tiny(), student=tiny().student.of(tr=2.0, n_vertices=30)))
    fresh = take_weights(slower.student, tmp_path / "second.ckpt")
    assert fresh == ["vertices.weight"] and slower.student.hrf.tr == 2.0
    assert not torch.equal(slower.student.hrf.weight, module.student.hrf.weight)


def test_another_file_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="no Tiny-TRIBE checkpoint"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_a_validation_without_a_response_is_no_score(windows):
    """A clip that ends before its response begins would else score 0, as if the student had failed."""
    module = DistillTribe(tiny()).eval()
    batch = default_collate([windows[0], windows[1]])
    batch["teacher_valid"][:] = False
    module.on_validation_epoch_start()
    with torch.no_grad():
        module.validation_step(batch, 0)
    with pytest.raises(ValueError, match="0 steps with a teacher response"):
        module.on_validation_epoch_end()
