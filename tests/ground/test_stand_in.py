"""Which data and weights are no real ones."""

from __future__ import annotations

import pytest

from nbkit.ground.stand_in import is_made_up, is_stand_in, is_untrained


@pytest.mark.parametrize(
    ("data", "made_up"), [("real", False), (" Real EEG", False), ("", False), ("synthetic", True), ("made up", True)]
)
def test_data_are_made_up_unless_they_are_called_real(data, made_up):
    assert is_made_up(data) is made_up and is_stand_in({"data": data}) is made_up


@pytest.mark.parametrize(
    ("weights", "untrained"), [("random, seed 0", True), ("No weights", True), ("trained here", False), ("", False)]
)
def test_weights_are_untrained_where_they_say_so(weights, untrained):
    assert is_untrained(weights) is untrained and is_stand_in({"weights": weights}) is untrained
