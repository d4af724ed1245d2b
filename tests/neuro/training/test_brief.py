"""Short trainings: silent, repeatable, left at their best step, and deaf to no signal."""

from __future__ import annotations

import os
import signal
import warnings

import lightning
import pytest
import torch
from torch import nn

from nbkit.neuro.training.brief import BestStep, fit_once, one_device, train_briefly


class Line(lightning.LightningModule):
    """Fit y = 2 x; beside it a part that stays in evaluation."""

    def __init__(self, lr=0.1):
        super().__init__()
        self.line, self.frozen, self.lr = nn.Linear(1, 1, bias=False), nn.Dropout(0.5).eval(), lr
        nn.init.zeros_(self.line.weight)

    def training_step(self, batch, batch_idx):
        assert not self.frozen.training and self.line.training
        return (self.line(batch) - 2 * batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def error(self):
        self.eval()
        return float((self.line.weight.detach() - 2).abs())


class Then(lightning.Callback):
    """Do something after a step."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            self.what()


def batches():
    draws = torch.Generator().manual_seed(0)
    return iter(lambda: torch.randn(8, 1, generator=draws), None)


def test_nothing_is_printed_logged_or_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = fit_once(Line(), batches(), steps=5)
    assert trainer.global_step == 5 and list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_the_same_batches_give_the_same_checkpoint(tmp_path):
    paths = [train_briefly(Line(), batches(), 5, tmp_path / name) for name in "ab"]
    first, second = (torch.load(path, weights_only=True)["state_dict"]["line.weight"] for path in paths)
    assert torch.equal(first, second) and first != 0


def test_a_module_is_left_at_its_best_step():
    module = Line(lr=1.05)  # too fast: the error grows
    best = BestStep(module.error, 2, dict(module.named_parameters()))
    fit_once(module, batches(), steps=7, callbacks=[best])
    assert list(best.losses) == [0, 2, 4, 6, 7]
    assert best.step == min(best.losses, key=best.losses.get) and best.lowest == best.losses[best.step]
    assert module.error() == best.lowest


def test_a_loss_that_is_no_number_is_never_the_best():
    module, losses = Line(), iter([3.0, float("nan"), 2.0, float("nan")])
    best = BestStep(lambda: next(losses), 1, dict(module.named_parameters()))
    fit_once(module, batches(), steps=3, callbacks=[best])
    assert (best.step, best.lowest) == (2, 2.0)


def test_a_sessions_answer_to_sigterm_is_left_alone():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        trainer = fit_once(
            Line(), batches(), steps=4, callbacks=[Then(2, lambda: os.kill(os.getpid(), signal.SIGTERM))]
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM] and trainer.global_step == 4


def test_an_interrupt_is_an_interrupt_and_the_next_one_is_heard_too():
    def interrupt():
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit_once(Line(), batches(), steps=4, callbacks=[Then(2, interrupt)])
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("device", "options"),
    [("cpu", ("cpu", 1)), ("cuda", ("gpu", [0])), ("cuda:1", ("gpu", [1]))],
)
def test_a_device_by_torchs_name(device, options):
    assert tuple(one_device(device).values()) == options
