"""The seed's command line, end to end on a small set, and its answers to mistakes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from nbkit.neuro.bandvar import demo, make_dummy, plot_rollout, train
from nbkit.neuro.bandvar.training import BandVAR

SMALL = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--batch-size", "4", "--device", "cpu", "--lr", "1e-3"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("set") / "eeg_dummy"
    argv = [str(root), "--train-samples", "8", "--val-samples", "3", "--channels", "4", "--time-steps", "32"]
    assert make_dummy.main(argv) == 0
    return root


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    argv = ["--data-root", str(root), "--epochs", "3", "--checkpoint-dir", str(folder), *SMALL]
    assert train.main(argv) == 0
    return folder


def train_again(root, run, folder, *more):
    argv = ["--data-root", str(root), "--epochs", "1", "--checkpoint-dir", str(folder), "--batch-size", "1"]
    return train.main([*argv, "--resume", str(run / "best.pt"), "--device", "cpu", *more])


def test_outputs_are_the_three_files(run):
    assert sorted(p.name for p in run.iterdir()) == ["best.pt", "demo_prediction.pt", "metrics.json"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert len(metrics["train_loss"]) == len(metrics["val_loss"]) == 3
    assert metrics["best_val_loss"] == min(metrics["val_loss"])
    assert metrics["train_loss"][-1] < metrics["train_loss"][0]
    assert all(0 < row["grad_norm"] < float("inf") for row in metrics["history"])
    assert {"zero_start", "zero", "delta_conditioned", "persistence"} == set(metrics["rollout"])
    prediction = torch.load(run / "demo_prediction.pt", weights_only=True)
    assert prediction["rollout"].shape == prediction["delta_conditioned"].shape == (5, 4, 32)


def test_best_pt_is_the_model_that_was_best(run, root):
    from nbkit.neuro.bandvar.data import BandData
    from nbkit.neuro.bandvar.training import evaluate

    module = BandVAR.from_checkpoint(run / "best.pt")
    scores = evaluate(module, BandData(root).val_dataloader())
    metrics = json.loads((run / "metrics.json").read_text())
    assert scores["val_mse_all"] == pytest.approx(metrics["best_val_loss"], rel=1e-5)


def test_the_same_seed_gives_the_same_curve(root, tmp_path):
    curves = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        argv = ["--data-root", str(root), "--epochs", "1", "--checkpoint-dir", str(tmp_path / name), "--seed", seed]
        assert train.main([*argv, *SMALL]) == 0
        curves.append(json.loads((tmp_path / name / "metrics.json").read_text())["train_loss"])
    assert curves[0] == curves[1] != curves[2]


def test_resume_goes_on_with_the_checkpoints_sizes(root, run, tmp_path):
    assert train_again(root, run, tmp_path, "--limit-train-samples", "1", "--limit-val-samples", "1") == 0
    held = torch.load(tmp_path / "best.pt", weights_only=True)
    earlier = torch.load(run / "best.pt", weights_only=True)
    assert held["epoch"] >= earlier["epoch"] and held["settings"]["d_model"] == 16
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["history"][0]["epoch"] == earlier["epoch"] + 1
    assert metrics["best_val_loss"] <= min(metrics["val_loss"])


def test_no_epochs_only_predict(root, run, tmp_path):
    argv = ["--data-root", str(root), "--epochs", "0", "--checkpoint-dir", str(tmp_path), "--device", "cpu"]
    assert train.main([*argv, "--resume", str(run / "best.pt")]) == 0
    one, other = (torch.load(f / "demo_prediction.pt", weights_only=True)["rollout"] for f in (run, tmp_path))
    torch.testing.assert_close(one, other)


def test_every_flag_of_the_seed_is_known():
    known = {option for action in train.parser()._actions for option in action.option_strings}
    assert known >= set(
        "--data-root --epochs --batch-size --d-model --nhead --num-layers --lr --weight-decay --dropout --grad-clip "
        "--num-workers --log-interval --checkpoint-dir --device --limit-train-samples --limit-val-samples --resume "
        "--seed".split()
    )


@pytest.mark.train
def test_the_commands_run_as_modules(root, tmp_path):
    argv = ["--data-root", str(root), "--epochs", "1", "--checkpoint-dir", str(tmp_path), "--num-workers", "1", *SMALL]
    done = subprocess.run([sys.executable, "-m", "nbkit.neuro.bandvar.train", *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(bands, channels, time) = (5, 4, 32)" in done.stdout and (tmp_path / "metrics.json").exists()


def test_a_cpu_nobody_asked_for_is_said_aloud(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert train.choose_device(None) == "cpu"
    assert "no CUDA device" in capsys.readouterr().err
    assert train.choose_device("cpu") == "cpu" and not capsys.readouterr().err


def test_a_gpu_that_was_asked_for_and_is_not_there_stops(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    argv = ["--data-root", str(root), "--checkpoint-dir", str(tmp_path / "run"), "--device", "cuda:0"]
    assert train.main(argv) == 2
    error = capsys.readouterr().err
    assert "finds 0 CUDA devices" in error and "Traceback" not in error and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "more, words",
    [
        (["--device", "warp"], "'warp' is not a device"),
        (["--epochs", "-1"], "--epochs -1 is too small"),
        (["--lr", "nan"], "--lr nan must be above 0"),
        (["--d-model", "10", "--nhead", "4"], "d_model=10 is not a multiple of nhead=4"),
        (["--resume", "gone.pt"], "gone.pt does not exist"),
        (["--limit-train-samples", "0"], "limit=0 windows is too few"),
        (["--data-root", "nowhere"], "nowhere does not exist"),
    ],
)
def test_mistakes_end_with_one_line_and_exit_2(root, tmp_path, capsys, more, words):
    base = ["--data-root", str(root), "--checkpoint-dir", str(tmp_path), "--epochs", "1"]
    assert train.main([*base, "--device", "cpu", *more]) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error


def test_a_checkpoint_of_another_size_or_torn_is_refused(root, run, tmp_path, capsys):
    assert train_again(root, run, tmp_path, "--d-model", "32") == 2
    assert "--d-model 32 (it has 16)" in capsys.readouterr().err
    torn = tmp_path / "best.pt"
    torn.write_bytes((run / "best.pt").read_bytes()[:1000])
    assert train_again(root, tmp_path, tmp_path) == 2
    assert "1000 bytes" in capsys.readouterr().err


def test_a_root_without_val_says_that_it_validates_on_everything(root, tmp_path, capsys):
    import shutil

    shutil.copytree(root / "train", tmp_path / "set" / "train")
    argv = ["--data-root", str(tmp_path / "set"), "--epochs", "1", "--checkpoint-dir", str(tmp_path / "run"), *SMALL]
    assert train.main(argv) == 0
    assert "including the training windows" in capsys.readouterr().err


def test_plot_rollout_draws_and_scores(root, run, tmp_path):
    out, scores = tmp_path / "rollout.png", tmp_path / "m.json"
    argv = [str(run / "demo_prediction.pt"), str(out), "--channel", "1", "--data-root", str(root), "--split", "val"]
    assert plot_rollout.main([*argv, "--sample-idx", "0", "--json-out", str(scores)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    written = json.loads(scores.read_text())
    assert {"stage_mse_delta", "stage_mse_gamma", "cumulative_mse", "snr_db", "mse_per_stage"} <= set(written)
    assert sum(written["mse_per_stage"]) / 5 == pytest.approx(written["cumulative_mse"])
    assert written["delta_conditioned"]["stage_mse_delta"] == 0.0
    assert plot_rollout.main([*argv, "--sample-idx", "2", "--json-out", str(scores)]) == 0
    assert "delta_conditioned" not in json.loads(scores.read_text())  # it began from another window


def test_plot_rollout_takes_a_bare_tensor_and_no_data(tmp_path):
    torch.save(torch.randn(5, 4, 32), tmp_path / "r.pt")
    assert plot_rollout.main([str(tmp_path / "r.pt"), str(tmp_path / "r.png")]) == 0


@pytest.mark.parametrize(
    "more, words",
    [
        (["--channel", "4"], "channels 0 to 3"),
        (["--sample-idx", "9"], "val has windows 0 to 2"),
        (["--data-root", "nowhere"], "nowhere does not exist"),
    ],
)
def test_plot_rollouts_mistakes_end_with_exit_2(root, run, tmp_path, capsys, more, words):
    argv = [str(run / "demo_prediction.pt"), str(tmp_path / "r.png"), "--data-root", str(root), *more]
    assert plot_rollout.main(argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.train
def test_demo_runs_the_three_commands(tmp_path):
    assert demo.main([str(tmp_path), "--epochs", "1", "--device", "cpu"]) == 0
    assert (tmp_path / "run" / "rollout.png").exists() and (tmp_path / "run" / "rollout_metrics.json").exists()
