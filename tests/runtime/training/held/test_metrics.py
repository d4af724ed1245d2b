"""Every wrapper of torchmetrics, and metrics wherever they are kept, go on in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torchmetrics
from torchmetrics import MetricCollection, wrappers

from tests.runtime.training.exact.sessions import assert_same
from tests.runtime.training.training_support import Tiny

pytestmark = pytest.mark.train

_MSE, _MAE = torchmetrics.MeanSquaredError, torchmetrics.MeanAbsoluteError
Metrics = dict[str, Callable[[], Any]]

WRAPPERS: Metrics = {
    "Running": lambda: wrappers.Running(_MSE(), window=3),
    "MinMaxMetric": lambda: wrappers.MinMaxMetric(_MSE()),
    "MetricTracker": lambda: wrappers.MetricTracker(_MSE(), maximize=False),
    "BootStrapper": lambda: wrappers.BootStrapper(_MSE(), num_bootstraps=3),
    "ClasswiseWrapper": lambda: wrappers.ClasswiseWrapper(_MSE(num_outputs=2)),
    "MultioutputWrapper": lambda: wrappers.MultioutputWrapper(_MAE(), num_outputs=2),
    "MultitaskWrapper": lambda: wrappers.MultitaskWrapper({"a": _MSE(), "b": _MAE()}),
    "LambdaInputTransformer": lambda: wrappers.LambdaInputTransformer(_MSE(), lambda x: x * 2),
    "BinaryTargetTransformer": lambda: wrappers.BinaryTargetTransformer(torchmetrics.classification.BinaryAUROC()),
}
# abstract, or for networks that extract features
_LEFT_OUT = {"FeatureShare", "MetricInputTransformer"}
METRICS: Metrics = {
    **WRAPPERS,
    "a list of states": torchmetrics.CatMetric,
    "lists of predictions": torchmetrics.SpearmanCorrCoef,
    "an aggregation with a window": lambda: torchmetrics.RunningMean(window=4),
    "compute groups": lambda: MetricCollection([_MSE(), torchmetrics.R2Score(), torchmetrics.ExplainedVariance()]),
    "a collection of wrappers": lambda: MetricCollection({"low": wrappers.MinMaxMetric(_MAE()), "all": _MSE()}),
    "a wrapper of a wrapper": lambda: wrappers.MinMaxMetric(wrappers.Running(_MAE(), window=3)),
}
_ONE_INPUT = (torchmetrics.CatMetric, torchmetrics.RunningMean)


def _update(metric: Any, prediction: torch.Tensor, target: torch.Tensor, number: int) -> None:
    if isinstance(metric, wrappers.MetricTracker) and number % 4 == 0:
        metric.increment()
    if isinstance(metric, _ONE_INPUT):
        metric.update(prediction)
    elif isinstance(metric, wrappers.ClasswiseWrapper | wrappers.MultioutputWrapper):
        metric(prediction.reshape(-1, 2), target.reshape(-1, 2))
    elif isinstance(metric, wrappers.MultitaskWrapper):
        metric(dict.fromkeys("ab", prediction), dict.fromkeys("ab", target))
    elif number % 2:
        metric(prediction, target)
    else:
        metric.update(prediction, target)


def _numbers(found: Any) -> list[float]:
    if isinstance(found, dict):
        return [x for value in found.values() for x in _numbers(value)]
    if isinstance(found, list | tuple):
        return [x for value in found for x in _numbers(value)]
    return [float(x) for x in torch.as_tensor(found, dtype=torch.float32).reshape(-1)]


class Measured(Tiny):
    """Holds metrics in every way that Python allows, and logs what they say after every step."""

    def __init__(self, where: str) -> None:
        super().__init__()
        made = {name.replace(" ", "_"): make() for name, make in METRICS.items()}
        if where == "module":
            for name, metric in made.items():
                setattr(self, name, metric)
        elif where == "dict":
            self.kept = {"metrics": made}
        else:
            self.kept = list(made.values())
        self.names, self.made = list(made), lambda: made
        self.seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        prediction = self.net(x).squeeze(-1).detach()
        loss = super().training_step(batch, batch_idx)
        for name, metric in self.made().items():
            if self.seen and self.seen % 9 == 0 and not isinstance(metric, wrappers.MetricTracker):
                metric.reset()
            _update(metric, prediction, y, self.seen)
            if self.seen % 9 > 2:
                numbers = _numbers(metric.compute())
                self.log(name, sum(value for value in numbers if value == value), on_step=True)
        self.seen += 1
        return loss


def test_all_wrappers_are_covered() -> None:
    assert set(wrappers.__all__) == set(WRAPPERS) | _LEFT_OUT


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["module", "dict", "list"])
def test_metrics_go_on_in_the_middle_of_an_epoch(where: str, tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Measured(where), steps=(5,), max_steps=22, log_every_n_steps=1)


@pytest.mark.filterwarnings("ignore")
def test_metrics_that_lightning_logs_and_those_of_callbacks(tmp_path: Path) -> None:
    class Logged(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.mean = wrappers.MinMaxMetric(_MSE()), torchmetrics.MeanMetric()
            self.running = wrappers.Running(_MSE(), window=5)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            x, y = batch
            loss = super().training_step(batch, batch_idx)
            prediction = self.net(x).squeeze(-1)
            self.mean(loss.detach())
            self.log("mean", self.mean, on_step=True, on_epoch=True)
            self.log_dict({f"low_{k}": v for k, v in self.low(prediction, y).items()})
            self.log("running", self.running(prediction, y), on_step=True)
            return loss

    class Watching(lightning.Callback):
        def __init__(self) -> None:
            self.metric = torchmetrics.RunningMean(window=4)

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *args: Any) -> None:
            self.metric.update(outputs["loss"])
            module.log("watched", self.metric.compute())

    assert_same(tmp_path, Logged, callbacks=lambda: [Watching()], steps=(5,), max_steps=22, log_every_n_steps=1)
