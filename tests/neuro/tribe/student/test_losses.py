"""Loss terms by hand, and the weights of every phase as the seed has them."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from nbkit.neuro.tribe.student.losses import LossWeights, feature_loss, masked_mse, parcel_means, temporal_loss


def test_weights_are_the_seeds_and_are_not_made_to_sum_to_one():
    def given(weights):
        return {name: value for name, value in asdict(weights).items() if value}

    distill = given(LossWeights.distill())
    assert distill == {"teacher": 0.60, "feature": 0.20, "temporal": 0.10, "parcels": 0.05, "aux": 0.01}
    assert sum(distill.values()) == pytest.approx(0.96)
    assert given(LossWeights.fmri()) == {
        "bold": 0.40, "teacher": 0.30, "feature": 0.10, "temporal": 0.10, "parcels": 0.05, "aux": 0.01,
    }  # fmt: skip
    assert given(LossWeights.sprint_distill()) == {"teacher": 0.7, "temporal": 0.2, "feature": 0.1, "aux": 0.01}
    assert given(LossWeights.sprint_fmri()) == {"bold": 0.5, "teacher": 0.3, "temporal": 0.2, "aux": 0.01}
    pseudo = given(LossWeights.fmri_pseudo())
    assert (pseudo["bold"], pseudo["teacher"], pseudo["pseudo"]) == (0.4, 0.3, 0.2)
    assert pseudo["feature"] + pseudo["temporal"] + pseudo["parcels"] == pytest.approx(0.1)


def test_total_weighs_each_term():
    terms = {"teacher": torch.tensor(2.0), "aux": torch.tensor(3.0)}
    assert LossWeights.distill().total(terms).item() == pytest.approx(0.6 * 2 + 0.01 * 3)
    with pytest.raises(ValueError, match="no weight for colour"):
        LossWeights.distill().total({"colour": torch.tensor(1.0)})


def test_errors_count_only_what_is_valid_and_kept():
    predicted, target = torch.zeros(2, 4, 3), torch.ones(2, 4, 3)
    target[0, 0], target[:, :, 2] = 100.0, 50.0
    valid = torch.ones(2, 4, dtype=torch.bool)
    valid[0, 0] = False
    keep = torch.tensor([[True, True, False]]).expand(2, 3)
    assert masked_mse(predicted, target, valid, keep=keep) == 1
    weight = torch.tensor([1.0, 0.3])
    expected = (3 * 1.0 + 4 * 0.3) / 7  # three valid steps of the first, four of the second
    assert masked_mse(predicted, target, valid, weight, keep).item() == pytest.approx(expected)
    assert masked_mse(predicted, target, torch.zeros_like(valid)) == 0


def test_what_is_invalid_gives_no_gradient_even_where_it_is_nan():
    predicted = torch.zeros(1, 3, 2, requires_grad=True)
    target = torch.ones(1, 3, 2)
    target[0, 1] = torch.nan
    valid = torch.tensor([[True, False, True]])
    masked_mse(predicted, torch.nan_to_num(target), valid).backward()
    assert predicted.grad[0, 1].abs().sum() == 0 and predicted.grad[0, 0].abs().sum() > 0


def test_temporal_loss_sees_steps_and_not_levels():
    target = torch.randn(2, 6, 5)
    valid = torch.ones(2, 6, dtype=torch.bool)
    assert temporal_loss(target + 7.0, target, valid).item() == pytest.approx(0, abs=1e-6)
    assert temporal_loss(target.flip(1), target, valid) > 0.01
    by_hand = torch.nn.functional.smooth_l1_loss(target.flip(1).diff(dim=1), target.diff(dim=1))
    torch.testing.assert_close(temporal_loss(target.flip(1), target, valid), by_hand)
    broken = target.clone()
    broken[:, 3] = 1e3
    valid[:, 3] = False
    torch.testing.assert_close(temporal_loss(target, broken, valid), torch.tensor(0.0))


def test_feature_loss_is_one_minus_cosine():
    x, valid = torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)
    torch.testing.assert_close(feature_loss(3 * x, x, valid), torch.tensor(0.0))
    torch.testing.assert_close(feature_loss(-x, x, valid), torch.tensor(2.0))


def test_parcel_means_are_means():
    values = torch.tensor([[1.0, 3.0, 10.0, 5.0]])
    parcel = torch.tensor([0, 0, -1, 2])
    assert parcel_means(values, parcel, 3).tolist() == [[2.0, 0.0, 5.0]]
