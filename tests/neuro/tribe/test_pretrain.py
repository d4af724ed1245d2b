"""Phase 1: its loss, its schedules and what it sees."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import default_collate

from nbkit.neuro.tribe import pretext
from nbkit.neuro.tribe.pretrain import PretrainSettings, PretrainTribe, monitor_rows, pretrain_data
from nbkit.neuro.tribe.runs.runs import split_runs
from nbkit.neuro.tribe.runs.windows import RunWindows


@pytest.fixture
def batch(some_runs):
    windows = RunWindows(some_runs, 20, 10)
    return default_collate([windows[i] for i in range(4)])


def tiny() -> PretrainSettings:
    smoke = PretrainSettings.smoke()
    return replace(
        smoke, student=smoke.student.of(dim=16, heads=2, hidden=16, expert_hidden=16), router_steps=6, steps=8
    )


def test_the_seeds_numbers():
    s = PretrainSettings()
    assert (s.mmr, s.cmc, s.ntp, s.top, s.aux) == (0.4, 0.2, 0.2, 0.1, 0.01)
    assert (s.lr, s.weight_decay, s.warm, s.grad_clip, s.batch_size) == (3e-4, 0.01, 0.05, 1.0, 32)
    assert (s.times, s.stride, s.step_s) == (60, 30, 0.5)
    assert s.steps == 25 * 13275  # 424,800 windows of 30 s in 1770 h, in batches of 32
    module = PretrainTribe(PretrainSettings.smoke())
    module.settings = s
    assert [module.aux_weight(i) for i in (0, 500, 1000, 5000)] == pytest.approx([0.1, 0.055, 0.01, 0.01])
    assert [module.temperature(i) for i in (0, 500, 1000, 5000)] == pytest.approx([2.0, 1.5, 1.0, 1.0])


def test_the_total_weighs_the_tasks(batch):
    module = PretrainTribe(tiny()).eval()
    made, routers = module.scores(batch, pretext.fixed_masks(batch["present"]), pretext.draw_orders(4, "cpu"))
    by_hand = (
        0.4 * made["mmr"].loss + 0.2 * made["cmc"].loss + 0.2 * made["ntp"].loss + 0.1 * made["top"].loss
        + 0.01 * routers["loss"]
    )  # fmt: skip
    torch.testing.assert_close(module.total(made, routers, step=6), by_hand)
    torch.testing.assert_close(module.total(made, routers, step=0), by_hand + 0.09 * routers["loss"])


def test_the_prediction_of_the_next_step_has_not_seen_it(batch):
    """Through the whole of phase 1's causal view: changing later input moves no earlier prediction."""
    module = PretrainTribe(tiny()).eval()
    features = {name: batch[name] for name in ("text", "audio", "video")}
    changed = {name: value.clone() for name, value in features.items()}
    for value in changed.values():
        value[:, 12:] = torch.randn_like(value[:, 12:])
    told = [module.heads.predict(module.trunk(x, causal=True)[0].mean(2)) for x in (features, changed)]
    torch.testing.assert_close(told[0][:, :12], told[1][:, :12], rtol=0, atol=1e-5)
    assert (told[0][:, 12:] - told[1][:, 12:]).abs().max() > 1e-3


def test_every_weight_of_trunk_and_heads_learns(batch):
    module = PretrainTribe(tiny())
    shown = torch.tensor([[False, True, True], [True, False, True], [True, True, False], [True, True, True]])
    made, routers = module.scores(batch, shown, torch.tensor([[1, 0, 3, 2]]).expand(4, 4))
    module.total(made, routers, 0).backward()
    still = [name for name, p in module.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert still == []


def test_validation_gives_the_monitors(some_runs):
    import lightning

    train_runs, val_runs = split_runs(some_runs, 0.34)
    module = PretrainTribe(tiny())
    trainer = lightning.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer.validate(module, pretrain_data(tiny(), train_runs, val_runs), verbose=False)
    logged = {"step": 0, **{name: float(value) for name, value in trainer.callback_metrics.items()}}
    rows = {row["name"]: row for row in monitor_rows([logged], 4)}
    assert set(rows) == {
        "mmr_cosine", "cmc_r1", "temporal_order", "router_entropy", "busiest_expert", "idlest_expert",
    }  # fmt: skip
    assert rows["cmc_r1"]["baseline"] == pytest.approx(1 / (20 * 6), rel=0.1) and rows["idlest_expert"]["value"] <= 0.25
    assert monitor_rows([{"step": 3, "train_loss": 1.0}], 4) == []
