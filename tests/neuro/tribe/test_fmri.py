"""Phase 3: curriculum, rates, dead vertices, stories, pseudo-labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from nbkit.neuro.tribe.fmri import STORIES_WEIGHT, FmriSettings, FmriTribe
from nbkit.neuro.tribe.runs.runs import planted_runs
from nbkit.neuro.tribe.runs.windows import RunWindows
from nbkit.neuro.tribe.student.losses import LossWeights

SIZES = {"dim": 16, "heads": 2, "hidden": 16, "expert_hidden": 16, "n_vertices": 24}


def tiny(**more) -> FmriSettings:
    smoke = FmriSettings.smoke()
    return replace(smoke, student=smoke.student.of(**SIZES), **{"steps": 10, **more})


@pytest.fixture
def windows(some_runs):
    return RunWindows(some_runs, 20)


def test_the_seeds_numbers():
    s = FmriSettings()
    assert (s.lr_backbones, s.lr_projectors, s.lr_fusion, s.lr_head) == (5e-6, 1e-5, 5e-5, 1e-4)
    assert (s.warm, s.batch_size, s.times, STORIES_WEIGHT) == (0.05, 4, 100, 0.3)
    module = FmriTribe(tiny(times_first=50, times=100, steps=100))
    per_epoch = 10
    assert [module.dropout(epoch * per_epoch) for epoch in range(10)] == [0.3] * 3 + [0.1] * 3 + [0.0] * 4
    assert [module.times(epoch * per_epoch) for epoch in range(10)] == [50] * 3 + [100] * 7
    sprint = FmriSettings.sprint()
    assert (sprint.weights.bold, sprint.weights.teacher, sprint.weights.temporal) == (0.5, 0.3, 0.2)
    assert FmriSettings.pseudo().weights.pseudo == 0.2


def test_half_windows_hold_the_same_steps(windows):
    batch = default_collate([windows[0], windows[1]])
    module = FmriTribe(tiny())
    short = module.shorten(batch, step=0)
    assert short["text"].shape == (4, 10, 384) and short["subject"].shape == (4,) and short["keep"].shape == (4, 24)
    assert torch.equal(short["bold"][1], batch["bold"][0, 10:]) and short["weight"].shape == (4,)
    assert module.shorten(batch, step=3) is batch
    with pytest.raises(ValueError, match="cannot be cut into 7"):
        FmriTribe(tiny(times_first=7)).shorten(batch, 0)


def test_a_dead_vertex_pulls_at_nothing(windows):
    module = FmriTribe(tiny())
    batch = default_collate([windows[0], windows[1]])
    batch["keep"] = batch["keep"].clone()
    batch["keep"][:, 5] = False
    batch["bold"][..., 5] = batch["teacher"][..., 5] = 1e4
    loss = module.weights.total(module.terms(batch, module.predict(batch)))
    loss.backward()
    assert loss < 10 and module.student.vertices.weight.grad[5].abs().sum() == 0


def test_terms_without_teacher_use_the_response(windows):
    module = FmriTribe(tiny())
    batch = default_collate([windows[0], windows[1]])
    with_teacher = module.terms(batch, module.predict(batch))
    assert set(with_teacher) == {"aux", "bold", "teacher", "feature", "temporal"}
    alone = {name: value for name, value in batch.items() if "teacher" not in name and "fusion" not in name}
    said = module.predict(alone)
    assert set(module.terms(alone, said)) == {"aux", "bold", "temporal"}
    mixed = dict(batch)
    mixed["teacher_valid"] = batch["teacher_valid"].clone()
    mixed["teacher_valid"][1] = False  # the second sample has no teacher: its own response stands in
    first = {name: value[:1] for name, value in batch.items()}
    second = {name: value[1:] for name, value in alone.items()}
    n_first, n_second = (int((v[:, 1:] & v[:, :-1]).sum()) for v in (first["teacher_valid"], second["bold_valid"]))
    module.eval()
    parts = [module.terms(part, module.predict(part))["temporal"] for part in (first, second)]
    wanted = (parts[0] * n_first + parts[1] * n_second) / (n_first + n_second)
    torch.testing.assert_close(module.terms(mixed, module.predict(mixed))["temporal"], wanted)


def test_pseudo_labels_have_a_weight_of_their_own(windows):
    module = FmriTribe(tiny(weights=LossWeights.fmri_pseudo())).eval()
    batch = default_collate([windows[0], windows[1]])
    batch["pseudo"] = torch.tensor([False, True])
    made = module.terms(batch, module.predict(batch))
    only = {name: value[1:] for name, value in batch.items()}
    torch.testing.assert_close(made["pseudo"], module.terms(only, module.predict(only))["pseudo"])
    assert made["teacher"] > 0 and module.terms(only, module.predict(only))["teacher"] == 0


def test_stories_weigh_less_and_have_no_video(world):
    (run,) = planted_runs(world, [0], subjects=[0])
    story = replace(run, weight=STORIES_WEIGHT, present=run.present & [True, True, False])
    batch = default_collate([RunWindows([one], 20)[0] for one in (run, story)])
    assert batch["weight"].tolist() == pytest.approx([1.0, 0.3]) and batch["present"].tolist()[1] == [True, True, False]
    module = FmriTribe(tiny()).eval()
    changed = {**batch, "video": torch.randn_like(batch["video"])}
    before, after = module.predict(batch).bold, module.predict(changed).bold
    assert torch.equal(before[1], after[1]) and not torch.allclose(before[0], after[0])


def test_backbones_in_the_loop_learn_at_their_own_rate(windows, train):
    module = FmriTribe(tiny(), backbones={"audio": torch.nn.Linear(384, 384)})
    raw = [{**windows[n], "raw_audio": windows[n]["audio"]} for n in range(4)]
    trainer = train(module, DataLoader(raw, 4), 1)
    rates = {group["name"]: group["initial_lr"] for group in trainer.optimizers[0].param_groups}
    assert rates["backbones"] == 5e-6 and rates["fusion"] == 5e-4 and rates["head"] == 3e-3
    assert module.backbones["audio"].weight.grad is not None
