"""Evaluation: whole runs from windows, scores by subject, baselines, what modalities and the response do."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.neuro.tribe.metrics import mean_r
from nbkit.neuro.tribe.newcomer import add_subject
from nbkit.neuro.tribe.runs.runs import planted_runs
from nbkit.neuro.tribe.scoring import evaluate
from nbkit.neuro.tribe.scoring.banded import lagged
from nbkit.neuro.tribe.scoring.evaluate import (
    gates_of,
    impulse_response,
    milliseconds_per_second,
    modality_reliance,
    predict_run,
    score,
    student_predictor,
)
from nbkit.neuro.tribe.student.student import StudentSettings, TinyTribe

SIZES = {"dim": 16, "heads": 2, "hidden": 16, "expert_hidden": 16, "n_vertices": 24}


@pytest.fixture
def student():
    torch.manual_seed(0)
    return TinyTribe(StudentSettings.smoke().of(**SIZES)).eval()


def test_a_run_is_predicted_whole_from_overlapping_windows(student, some_runs):
    run = some_runs[1]
    predicted = predict_run(student, run, times=20, lead=8)
    features = {m: torch.from_numpy(v[None]).float() for m, v in run.features.items()}
    who = torch.tensor([run.subject])
    first = student({m: v[:, :20] for m, v in features.items()}, who).bold[0].detach()
    second = student({m: v[:, 12:32] for m, v in features.items()}, who).bold[0].detach()
    assert predicted.shape == run.bold.shape
    np.testing.assert_allclose(predicted[:20], first, atol=1e-5)
    np.testing.assert_allclose(predicted[20:32], second[8:], atol=1e-5)
    np.testing.assert_allclose(predict_run(student, run, times=41), student(features, who).bold[0].detach(), atol=1e-5)
    gates = gates_of(student, run, 20)
    assert gates.shape == (41, 3)
    np.testing.assert_allclose(gates.sum(1), 1.0, atol=1e-5)


def test_scores_are_numpys_by_subject_over_all_runs(some_runs):
    draws = np.random.default_rng(0)
    said = {id(run): run.bold + draws.normal(size=run.bold.shape) for run in some_runs}
    scores = score(lambda run: said[id(run)], some_runs)
    for subject in (0, 1):
        own = [run for run in some_runs if run.subject == subject]
        x, y = (np.concatenate(v) for v in ([said[id(r)] for r in own], [r.bold for r in own]))
        oracle = [np.corrcoef(x[:, v], y[:, v])[0, 1] for v in range(24)]
        np.testing.assert_allclose(scores.by_subject[subject], oracle, atol=1e-9)
    np.testing.assert_allclose(scores.r, np.mean(list(scores.by_subject.values()), axis=0))
    assert scores.steps == 6 * 41 and scores.of_ceiling == pytest.approx(scores.mean / 0.8)


def test_dead_vertices_are_left_out_and_still_predictions_count_as_nothing(some_runs):
    keep = np.arange(24) != 3
    runs = [replace(run, keep=keep, bold=run.bold * keep) for run in some_runs]
    scores = score(lambda run: run.bold + (np.arange(24) == 3), runs)
    assert np.isnan(scores.r[3]) and scores.mean == pytest.approx(1.0)
    assert score(lambda run: np.ones_like(run.bold), runs).mean == 0.0
    with pytest.raises(ValueError, match="predicted"):
        score(lambda run: run.bold[:-1], runs)
    with pytest.raises(ValueError, match="none of 1 runs has a bold"):
        score(lambda run: run.features["text"], [replace(runs[0], bold=None)])


def test_agreement_with_the_teacher_counts_where_it_speaks(some_runs):
    scores = score(lambda run: np.where(run.teacher_valid[:, None], run.teacher, 1e3), some_runs, "teacher")
    assert scores.mean == pytest.approx(1.0) and scores.ceiling is None
    assert scores.steps == sum(int(run.teacher_valid.sum()) for run in some_runs)


def test_lags_look_back(some_runs):
    wide = lagged(np.arange(5.0)[:, None], 3)
    assert wide[0].tolist() == [0, 0, 0] and wide[4].tolist() == [4, 3, 2]


def test_a_modality_is_worth_what_r_loses_without_it(student, some_runs):
    """With weights that let only sound through, taking text or video away changes nothing."""
    with torch.no_grad():
        student.pooling.net.weight.zero_()
        student.pooling.net.bias.copy_(torch.tensor([-20.0, 5.0, -20.0]))
        for block in student.trunk.fusion.blocks:
            block.attention.out.weight.zero_()
    said = {id(run): predict_run(student, run, 20) for run in some_runs}
    told = [replace(run, bold=said[id(run)]) for run in some_runs]  # the student itself is the brain
    loss = modality_reliance(student, told, 20)
    assert loss.shape == (3, 24) and loss[1].mean() > 0.5
    np.testing.assert_allclose(loss[[0, 2]], 0, atol=1e-6)
    heard = [replace(run, present=np.array([False, True, False])) for run in told]
    assert np.isnan(modality_reliance(student, heard, 20)).all()  # nothing is left without a run's only modality


def test_the_response_to_a_change_is_the_layers_own_where_nothing_else_moves(student, some_runs):
    """With attention silenced, what is left is the planted kernel."""
    with torch.no_grad():
        for block in student.trunk.fusion.blocks:
            block.attention.out.weight.zero_()
        student.trunk.motion.conv.weight.zero_()
        kernel = torch.zeros(8)
        kernel[7 - 4] = 1.0
        student.hrf.weight.copy_(kernel.expand_as(student.hrf.weight))
    change = impulse_response(student, some_runs[:1], 41, lags=10)
    assert change.argmax() == 4 and np.delete(change, 4).max() < 0.01


def test_a_new_subject_is_its_own_numbers_and_nothing_else(student, world):
    before = {name: value.clone() for name, value in student.state_dict().items()}
    own = planted_runs(world, [0, 1], subjects=[1])
    number = add_subject(student, own, 20)
    after = student.state_dict()
    assert number == 4 and after["film.gamma"].shape == (5, 16)
    for name, value in before.items():
        assert torch.equal(after[name][: len(value)] if name.startswith("film.") else after[name], value), name
    assert not torch.equal(after["film.gamma"][4], before["film.gamma"].mean(0))
    fitted, mean = (score(student_predictor(student, 20, who), own).mean for who in (number, -1))
    assert fitted > mean
    with pytest.raises(ValueError, match="none of 2 runs has responses"):
        add_subject(student, planted_runs(world, [0, 1]), 20)


def test_time_is_measured_a_second_of_stimulus(some_runs, monkeypatch):
    clock, lasting = [0.0], iter([9.0, 3.0, 2.0, 4.0])  # the first prediction warms up and does not count
    monkeypatch.setattr(evaluate, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def predictor(run):
        clock[0] += next(lasting)

    run = some_runs[0]
    assert milliseconds_per_second(predictor, run) == pytest.approx(2000.0 / (len(run) * run.step_s))


def test_rest_cannot_be_predicted_by_a_stimulus():
    draws = np.random.default_rng(5)
    x, y = draws.normal(size=(2, 300, 50))
    from nbkit.neuro.tribe.metrics import pearson_over_time

    assert abs(mean_r(pearson_over_time(x, y))) < 0.03
