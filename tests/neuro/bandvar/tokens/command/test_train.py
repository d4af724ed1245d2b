"""The seed's second command line: one process and two, killed and gone on with, and flags accepted or refused."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch

from nbkit.neuro.bandvar.tokens import train as command
from nbkit.neuro.bandvar.tokens.command.flags import REFUSED, parser, settings_of
from nbkit.neuro.bandvar.tokens.generator_training import GeneratorTraining
from nbkit.neuro.signals.recordings.synthetic import write_dummy_dataset

FLAGS = ["--depth=1", "--bs=8", "--tokenizer_preset=smoke", "--tokenizer_ep=1", "--device=cpu", "--alng=1e-2"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dummy_dataset(tmp_path_factory.mktemp("set"), 24, 8, channels=3, steps=40)


@pytest.fixture(scope="module")
def tokenizer(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coder")
    assert command.main([f"--data_path={root}", f"--local_out_dir_path={folder}", *FLAGS, "--ep=1"]) == 0
    return folder / "tokenizer-best.pth"


def weights(folder, name="ar-ckpt-last.pth"):
    return torch.load(folder / name, weights_only=True)["state_dict"]


def test_a_tokenizer_and_a_generator_are_trained(root, tokenizer):
    folder = tokenizer.parent
    assert {"ar-ckpt-last.pth", "ar-ckpt-best.pth", "tokenizer-last.pth", "log.txt"} <= set(os.listdir(folder))
    assert re.search(r"ar-ckpt epoch 1 of 1, step 3: train_loss [\d.]+", (folder / "log.txt").read_text())
    module = GeneratorTraining.from_checkpoint(folder / "ar-ckpt-best.pth")
    assert module.settings.normed_attention and module.settings.gate_init == 1e-2 and module.settings.max_steps == 3


@pytest.mark.kill
def test_a_run_that_was_killed_goes_on_to_the_same_bits(root, tokenizer, tmp_path):
    flags = [f"--data_path={root}", f"--tokenizer={tokenizer}", *FLAGS, "--ep=4", "--pg=0.5", "--saln=1"]
    assert command.main([*flags, f"--local_out_dir_path={tmp_path / 'whole'}"]) == 0
    folder = tmp_path / "killed"
    line = [sys.executable, "-m", "nbkit.neuro.bandvar.tokens.train", *flags, f"--local_out_dir_path={folder}"]
    run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for said in run.stdout:
        if "epoch 2 of 4" in said:
            break
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (folder / "log.txt").read_text().count("epoch 4")
    assert command.main([*flags, f"--local_out_dir_path={folder}"]) == 0
    ours, theirs = weights(folder), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.kill
@pytest.mark.timeout(240)
def test_two_processes_of_torchrun_train_go_on_after_a_kill_and_end_alike(root, tokenizer, tmp_path):
    flags = [f"--data_path={root}", f"--tokenizer={tokenizer}", *FLAGS, "--ep=3", f"--local_out_dir_path={tmp_path}"]
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m",
            "nbkit.neuro.bandvar.tokens.train", *flags]  # fmt: skip
    run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said: list[str] = []
    for part in run.stdout:
        said.append(part)
        if "epoch 1 of 3" in part:
            break
    assert said and "epoch 1 of 3" in said[-1], "".join(said[-40:])
    for process in [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]:
        process.kill()
    run.wait()
    assert (tmp_path / "log.txt").read_text().count("epoch 3") == 0
    again = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "goes on from" in again.stdout and "epoch 3 of 3" in again.stdout and "on 2 processes" in again.stdout
    module = GeneratorTraining.from_checkpoint(tmp_path / "ar-ckpt-last.pth")
    assert module.settings.batch_size == 4 and module.settings.max_steps == 9


def test_flags_mean_what_they_mean_in_var():
    args = parser().parse_args(
        "--data_path=x --depth=20 --bs=768 --ep=200 --fp16=1 --alng=1e-3 --wpe=0.1 --saln=1 --anorm=0 --opt=lamb "
        "--twd=0.08 --twde=0.1 --tclip=1 --ac=2 --wp=4 --sche=cos --pg=0.8 --pg0=2 --pgwp=1".split()
    )
    made = settings_of(args, batches=100, world=4)
    assert (made.depth, made.batch_size, made.max_steps, made.warmup_steps) == (20, 96, 200 * 50, 200)
    assert (made.gate_init, made.final_lr_ratio, made.optimizer, made.schedule) == (1e-3, 0.1, "lamb", "cos")
    assert (made.weight_decay, made.final_weight_decay, made.grad_clip) == (0.08, 0.1, 1.0)
    assert (made.progressive_until, made.progressive_first, made.progressive_rise) == (0.8, 3, 50)
    assert made.shared_modulation and not made.normed_attention and made.lr_at_256 == 1e-4
    plain = settings_of(parser().parse_args("--data_path=x --bs=512 --tlr=2e-4 --ep=100".split()), 100, 1)
    assert plain.lr_at_256 * 512 / 256 == pytest.approx(2e-4) and plain.warmup_steps == 200


WRONG = {
    "a flag of images": (["--pn=1_2_3"], "token maps are the bands"),
    "another": (["--hflip=1"], "about images"),
    "fp16 on a CPU": (["--fp16=1", "--device=cpu"], "needs a GPU"),
    "an uneven batch": (["--bs=7", "--ac=2"], "Give a multiple of 2"),
    "a share above one": (["--pg=2"], "share of the steps"),
    "no data": (["--ep=1"], "does not exist"),
    "an unknown preset": (["--tokenizer_preset=huge"], "unknown"),
}


@pytest.mark.parametrize("flags, words", WRONG.values(), ids=WRONG.keys())
def test_wrong_flags_are_refused_in_words(flags, words, root, tmp_path, capsys):
    where = tmp_path / "nowhere" if words == "does not exist" else root
    code = command.main([f"--data_path={where}", f"--local_out_dir_path={tmp_path / 'out'}", *flags])
    said = capsys.readouterr().err
    assert code == 2 and words in said and "Traceback" not in said
    assert all(re.fullmatch(r"[a-z_0-9]+", name) for name in REFUSED)


def test_another_training_in_the_folder_is_not_mixed_with_this_one(root, tokenizer, capsys):
    where = [f"--data_path={root}", f"--local_out_dir_path={tokenizer.parent}"]
    before = weights(tokenizer.parent)
    assert command.main([*where, *FLAGS, "--ep=1", "--twd=0.3"]) == 2
    assert "weight_decay 0.05 (now 0.3)" in capsys.readouterr().err
    after = weights(tokenizer.parent)
    assert all(np.array_equal(after[name], before[name]) for name in before)
