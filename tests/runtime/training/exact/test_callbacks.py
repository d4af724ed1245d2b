"""Every callback and every Trainer option of Lightning: exact after a resume, or refused with the remedy."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path
from typing import Any

import lightning
import lightning.pytorch.callbacks as theirs
import pytest
import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.bounds.options import _OURS
from nbkit.runtime.training.exact.callbacks import REFUSED
from nbkit.runtime.training.fit import fit
from tests.runtime.training.exact.sessions import first_difference, in_sessions, one_session
from tests.runtime.training.exact.test_hooks import Unfreezing, WithBackbone
from tests.runtime.training.training_support import FakeSession, Tiny, TinyData

pytestmark = pytest.mark.train  # twice the same


class Counts(theirs.Callback):
    """A callback with a state of its own."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.batches += 1
        trainer.lightning_module.net[0].weight.data.mul_(1 + 1e-4 * self.batches)

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = state["batches"]


class Writes(theirs.BasePredictionWriter):
    """It never runs in fit."""

    def __init__(self) -> None:
        super().__init__("epoch")


def shrink(trainer: Any, module: Any, *_: Any) -> None:
    module.net[0].weight.data.mul_(0.99)


# how each is made where it is exact; "times" are those that log measured values and change nothing else
EXACT: dict[str, Any] = {
    "Callback": Counts,
    "BackboneFinetuning": lambda: theirs.BackboneFinetuning(1, lambda epoch: 1.5),
    "BaseFinetuning": Unfreezing,
    "BasePredictionWriter": Writes,
    "DeviceStatsMonitor": lambda: theirs.DeviceStatsMonitor(cpu_stats=True),
    "EarlyStopping": lambda: theirs.EarlyStopping("val_loss", patience=1, min_delta=0.5),
    "EMAWeightAveraging": lambda: theirs.EMAWeightAveraging(decay=0.9, update_every_n_steps=2),
    "GradientAccumulationScheduler": lambda: theirs.GradientAccumulationScheduler({0: 2, 1: 3, 2: 1}),
    "LambdaCallback": lambda: theirs.LambdaCallback(on_train_batch_end=shrink),
    "LearningRateMonitor": theirs.LearningRateMonitor,
    "ModelSummary": theirs.ModelSummary,
    "RichModelSummary": theirs.RichModelSummary,
    "ThroughputMonitor": lambda: theirs.ThroughputMonitor(lambda batch: len(batch[0]), window_size=2),
    "WeightAveraging": lambda: theirs.WeightAveraging(),
}
TIMES = ("DeviceStatsMonitor", "ThroughputMonitor")
MADE: dict[str, Any] = {
    "BatchSizeFinder": theirs.BatchSizeFinder,
    "Checkpoint": theirs.Checkpoint,
    "LearningRateFinder": theirs.LearningRateFinder,
    "ModelCheckpoint": theirs.ModelCheckpoint,
    "ModelPruning": lambda: theirs.ModelPruning("l1_unstructured", amount=0.2),
    "OnExceptionCheckpoint": lambda: theirs.OnExceptionCheckpoint(tempfile.mkdtemp()),
    "ProgressBar": theirs.ProgressBar,
    "RichProgressBar": theirs.RichProgressBar,
    "SpikeDetection": lambda: theirs.SpikeDetection(),
    "StochasticWeightAveraging": lambda: theirs.StochasticWeightAveraging(1e-3, 1),
    "TQDMProgressBar": theirs.TQDMProgressBar,
    "Timer": lambda: theirs.Timer(duration="00:01:00:00"),
}


def test_somebody_has_decided_on_every_callback_of_lightning() -> None:
    undecided = set(theirs.__all__) - set(EXACT) - set(MADE)
    assert not undecided, "is it exact after a resume (EXACT), or refused with words (REFUSED)?"


def made_by(name: str) -> Any:
    make = {**EXACT, **MADE}[name]
    try:
        return make()
    except (ImportError, ModuleNotFoundError) as error:
        pytest.skip(f"{name} needs a package that is not here: {error}")


@pytest.mark.parametrize("how", ["fit", "configure_callbacks"])
@pytest.mark.parametrize("name", sorted(set(MADE) & set(theirs.__all__)))
def test_refused_before_the_first_step_with_the_remedy(
    name: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # one of them writes a file there when it is refused
    callback = made_by(name)

    class Brings(Tiny):
        def configure_callbacks(self) -> list[Any]:
            return [callback] if how == "configure_callbacks" else []

    session = FakeSession(tmp_path / "a")
    with pytest.raises(UsageError, match=rf"{name}.* is not possible in fit: .*\. Nothing was trained") as caught:
        fit(session, Brings(), TinyData(), max_steps=4, callbacks=[callback] if how == "fit" else [])
    assert session.steps_done() == [] and not list((tmp_path / "a").rglob("*.ckpt"))
    assert any(words in str(caught.value) for words in REFUSED.values())


@pytest.mark.parametrize("name", [name for name in sorted(EXACT) if name in theirs.__all__])
def test_exact_after_resumes(name: str, tmp_path: Path) -> None:
    made_by(name)

    def trained(folder: str, steps: int | None) -> dict[str, Any]:
        module = WithBackbone if "Finetuning" in name else Tiny
        return in_sessions(
            tmp_path / folder, module, steps=steps, callbacks=lambda: [EXACT[name]()],
            data=lambda: TinyData(validation=True), log_every_n_steps=1,
        )  # fmt: skip

    whole = trained("whole", None)
    for steps in (4,):
        parts = trained(f"every {steps}", steps)
        for checkpoint in (whole, parts) if name in TIMES else ():
            checkpoint["nbkit"]["history"] = {}
        assert first_difference(whole, parts) == "nothing"
        for entry in ("current_model_state", "averaging_state"):
            if entry in whole:
                assert all(torch.equal(whole[entry][key], parts[entry][key]) for key in whole[entry])


def test_a_timer_without_a_duration_only_measures(tmp_path: Path) -> None:
    report, _ = one_session(tmp_path, Tiny(), callbacks=[theirs.Timer()], max_steps=3)
    assert report.complete


# -- options of the Trainer -----------------------------------------------------------------------------------------

OPTIONS = {
    # parameters of fit, or given by it
    "accelerator", "devices", "strategy", "precision", "callbacks", "max_steps", "val_check_interval", "plugins",
    "log_every_n_steps", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "deterministic",
    # the same in every session, whatever the place
    "limit_train_batches", "limit_val_batches", "check_val_every_n_epoch", "num_sanity_val_steps", "benchmark",
    "profiler", "detect_anomaly", "sync_batchnorm", "enable_autolog_hparams",
    # without effect on a training
    "limit_test_batches", "limit_predict_batches", "inference_mode", "model_registry",
}  # fmt: skip


def test_somebody_has_decided_on_every_option_of_the_trainer() -> None:
    options = set(inspect.signature(lightning.Trainer.__init__).parameters) - {"self"}
    assert not options - OPTIONS - set(_OURS), "is it exact after a resume (OPTIONS), or refused with words (_OURS)?"


@pytest.mark.parametrize("every", ["00:00:05:00", {"minutes": 5}])
def test_a_validation_by_the_clock_is_refused(every: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"validates by the clock.*Nothing was trained"):
        fit(FakeSession(tmp_path), Tiny(), TinyData(validation=True), max_steps=4, val_check_interval=every)
