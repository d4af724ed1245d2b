"""Classes: what is planted is found in both systems, nothing else is; a resume and a checkpoint keep the classes."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.jepa import finetune as jepa
from nbkit.neuro.jepa.encoder import EncoderSettings
from nbkit.neuro.labram import finetune as labram
from nbkit.neuro.plots.challenge import draw_curves, draw_predictions, draw_scores
from nbkit.neuro.training.finetuning import finetuning_data, score_finetuned
from nbkit.neuro.training.scores.class_scores import class_scores
from nbkit.neuro.training.window_module import predict
from tests.neuro.labram.training import train
from tests.neuro.training.rhythms import SFREQ, write_rhythms

LABRAM = replace(
    labram.FinetuneSettings.smoke(), patch=20, dim=16, heads=2, depth=1, steps=60, warmup_steps=6, batch_size=16
)
JEPA = replace(jepa.FinetuneSettings.smoke(), batch_size=16, steps=40)
SYSTEMS = pytest.mark.parametrize("system, settings", [(labram, LABRAM), (jepa, JEPA)], ids=["labram", "jepa"])


@pytest.fixture(scope="module", params=[True, False], ids=["planted", "shuffled"])
def store(request, tmp_path_factory):
    return request.param, write_rhythms(tmp_path_factory.mktemp("rhythms"), planted=request.param)


def data_of(folder, target="label", classes=(), **options):
    options = {"fractions": (0.6, 0.2, 0.2), "seed": 3, **options}
    return finetuning_data(folder, 16, 1, target, classes, **options)


def made(system, settings, data, monkeypatch=None):
    if system is jepa:
        small = EncoderSettings(n_chans=4, sfreq=SFREQ, fmax=20.0, fourier_dim=8, dim=16, layers=1)
        monkeypatch.setattr(EncoderSettings, "smoke", classmethod(lambda cls: small))
    lightning.seed_everything(1, verbose=False)
    return system.finetuning_for(settings, data)


@pytest.mark.train
@SYSTEMS
def test_a_planted_rhythm_is_found_and_shuffled_labels_give_chance(system, settings, store, tmp_path, monkeypatch):
    planted, folder = store
    data = data_of(folder)
    module = made(system, settings, data, monkeypatch)
    begin = predict(module, data.val_dataloader())[0]
    torch.testing.assert_close(begin, torch.full_like(begin, 0.5), atol=0.02, rtol=0)  # begins at chance
    trainer = train(module, data, settings.steps)
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    best = system.load_finetuned(tmp_path / "best.ckpt")
    assert best.classes == ("rest", "task") and best.column == "label"
    torch.testing.assert_close(*(predict(m, data.val_dataloader())[0] for m in (best, module)))
    predicted, true = (part.numpy() for part in predict(module, data.val_dataloader()))
    for name, value in class_scores(true, predicted).items():
        assert float(trainer.callback_metrics[f"val_{name}"]) == pytest.approx(value), name
    assert {"val_loss", "val_loss_scratch", "val_auc_scratch"} <= set(trainer.callback_metrics)

    found = score_finetuned(1, best, module, data)
    rows = {row["name"]: row for row in found.rows}
    main = rows["label_test_balanced_accuracy"]
    assert main["baseline"] == 0.5 and {"label_test_auc", "label_test_kappa", "label_test_accuracy"} <= set(rows)
    assert not [name for name in rows if name.startswith("challenge")]
    lda = rows["label_test_balanced_accuracy_lda"]["value"]
    if planted:
        assert main["value"] > 0.85 and lda > 0.9 and rows["label_test_auc"]["value"] > 0.9
        assert 0.6 < main["low"] <= main["value"] <= main["high"] <= 1
        assert {rival["name"] for rival in main["rivals"]} == {"from scratch, last step", "LDA on band powers"}
    else:
        assert abs(main["value"] - 0.5) < 0.3 and abs(rows["label_test_auc"]["value"] - 0.5) < 0.3
    history = [{"step": s, "train_loss": 0.6, "val_balanced_accuracy": 0.6 + s} for s in (0.1, 0.2)]
    for figure in (draw_curves(history, data), draw_predictions(found, 1, data), draw_scores(found, 1, data)):
        assert "alanced" in " ".join([figure.axes[-1].get_title(loc="left"), *_words(figure)])


def _words(figure):
    return [text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left"))]


@SYSTEMS
def test_numbers_of_any_column_are_predicted(system, settings, tmp_path, monkeypatch):
    data = data_of(write_rhythms(tmp_path / "w"), "rt")
    module = made(system, settings, data, monkeypatch)
    trainer = train(module, data, settings.steps)
    assert float(trainer.callback_metrics["val_nrmse"]) < 0.7
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    best = system.load_finetuned(tmp_path / "best.ckpt")
    assert best.column == "rt" and best.targets == ("target",)
    found = score_finetuned(1, best, module, data)
    assert found.rows[0]["name"] == "rt_test_nrmse" and "anchor" not in found.rows[0]
    for figure in (draw_predictions(found, 1, data), draw_scores(found, 1, data)):
        assert "rt" in " ".join(_words(figure))


@SYSTEMS
def test_another_target_is_not_gone_on_with(system, settings, tmp_path, monkeypatch):
    folder = write_rhythms(tmp_path / "w", windows=12)
    first = data_of(folder)
    train(made(system, settings, first, monkeypatch), first, 2).save_checkpoint(tmp_path / "last.ckpt")
    again = made(system, settings, first, monkeypatch)
    assert train(again, first, 4, checkpoint=tmp_path / "last.ckpt").global_step == 4
    for target, classes, words in (("rt", (), "now the target is rt"), ("label", ("task", "rest"), "task, rest")):
        other = data_of(folder, target, classes)
        with pytest.raises(ValueError, match=f"learned label with the classes rest, task.*{words}.*TARGET"):
            train(made(system, settings, other, monkeypatch), other, 4, checkpoint=tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="tells classes apart.*label"):
        system.Regressor.from_checkpoint(tmp_path / "last.ckpt")


def test_windows_of_any_length_are_used_whole(tmp_path):
    for n_times in (20, 60):
        data = data_of(write_rhythms(tmp_path / str(n_times), windows=12, n_times=n_times))
        module = made(labram, LABRAM, data)
        assert data.n_times == n_times and module(next(iter(data.val_dataloader()))["window"]).shape[1] == 2
    with pytest.raises(ValueError, match="multiple of 20"):
        module(torch.zeros(2, 4, 50))
    assert data_of(tmp_path / "60", crop=40).n_times == 40


def test_the_montage_of_most_windows_is_used_and_others_are_named(tmp_path):
    from nbkit.neuro.signals.windows.shard_writing import write_shard

    write_rhythms(tmp_path)
    columns = {"label": ["rest"] * 3, "rt": np.ones(3), "score": np.ones(3)}
    write_shard(tmp_path / "odd", np.zeros((3, 2, 40), np.float32), sfreq=SFREQ, ch_names=("E1", "E2"),
                subject="X", columns=columns)  # fmt: skip
    said = []
    data = data_of(tmp_path, say=said.append)
    assert data.n_chans == 4 and "Left out: 2 channels" in said[0]
    with pytest.raises(ValueError, match="None of|No column 'target'"):
        data_of(tmp_path, None, say=said.append).setup()


def test_signal_jepa_is_no_rival_on_another_target(tmp_path):
    data = data_of(write_rhythms(tmp_path))
    with pytest.raises(ValueError, match="rival='pre_local'.*label"):
        jepa.finetuning_for(replace(JEPA, rival="pre_local"), data)
