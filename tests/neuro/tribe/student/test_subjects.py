"""Subjects as scale and shift, and the exact fit of a new one."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.tribe.student.subjects import FiLM, fit_subject


def test_the_exact_fit_finds_a_planted_subject():
    torch.manual_seed(0)
    weight, features = torch.randn(30, 8), torch.randn(200, 8)
    gamma, beta = 1 + torch.randn(8), torch.randn(8)
    bold = (gamma * features + beta) @ weight.T
    batches = [(part, its, torch.ones(100, dtype=torch.bool)) for part, its in
               zip(features.split(100), bold.split(100), strict=True)]  # fmt: skip
    found = fit_subject(batches, weight, torch.ones(8), torch.zeros(8), ridge=1e-9)
    torch.testing.assert_close(found[0], gamma, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], beta, rtol=1e-4, atol=1e-4)


def test_it_is_the_minimum_that_a_general_solver_finds():
    torch.manual_seed(1)
    weight, h, bold = (torch.randn(*size).double() for size in ((6, 4), (9, 4), (9, 6)))
    valid = torch.arange(9) != 3
    design = torch.cat([torch.einsum("vd,td->tvd", weight, h), weight.expand(9, 6, 4)], dim=2)[valid].flatten(0, 1)
    ridge = 0.1 * (design.T @ design).diagonal().mean()
    start = torch.cat([torch.ones(4), torch.zeros(4)]).double()
    rows = torch.cat([design, ridge.sqrt() * torch.eye(8).double()])
    oracle = torch.linalg.lstsq(rows, torch.cat([bold[valid].flatten(), ridge.sqrt() * start])).solution
    gamma, beta = fit_subject([(h, bold, valid)], weight, start[:4], start[4:], ridge=0.1)
    torch.testing.assert_close(torch.cat([gamma, beta]), oracle)


def test_a_strong_pull_gives_the_mean_subject_back():
    weight, h, bold = torch.randn(6, 4), torch.randn(9, 4), torch.randn(9, 6)
    gamma, beta = fit_subject([(h, bold, torch.ones(9).bool())], weight, torch.full((4,), 2.0), torch.ones(4), 1e9)
    torch.testing.assert_close(gamma, torch.full((4,), 2.0))
    torch.testing.assert_close(beta, torch.ones(4))


def test_no_time_is_no_fit():
    with pytest.raises(ValueError, match="no valid time"):
        fit_subject([(torch.ones(3, 2), torch.ones(3, 2), torch.zeros(3).bool())], torch.ones(2, 2), torch.ones(2),
                    torch.zeros(2))  # fmt: skip


def test_film_begins_as_nothing_and_grows():
    film, x = FiLM(4, 3), torch.randn(2, 5, 4)
    assert torch.equal(film(x, torch.tensor([0, 2])), x) and torch.equal(film(x), x)
    number = film.add(torch.full((4,), 2.0), torch.ones(4))
    assert number == 3 and torch.equal(film(x, torch.tensor([3, 0]))[0], 2 * x[0] + 1)
    assert torch.equal(film(x, torch.tensor([3, 0]))[1], x[1])
