"""torch's values in the settings of a phase are compared by content, or refused; apart, for its import is long."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.runtime.items.chosen import NotComparable, comparable
from tests.runtime.items.test_chosen import WRAPPED, assert_told_apart

VALUES = {
    "tensor": (torch.zeros(500), torch.ones(500)),
    "dtype": (torch.float32, torch.float64),
}
NOT = {"module": torch.nn.Linear(2, 2), "half": torch.zeros(100, dtype=torch.bfloat16)}


@pytest.mark.parametrize("name", VALUES)
def test_equal_content_is_equal_and_other_content_is_not(name):
    assert_told_apart(*VALUES[name])


def test_a_tensor_is_equal_to_an_array_and_a_list_of_its_numbers():
    assert comparable({"x": torch.arange(3)}) == comparable({"x": np.arange(3)}) == comparable({"x": [0, 1, 2]})


@pytest.mark.parametrize("name", NOT)
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_what_has_no_content_to_compare_is_refused_by_name(name, wrapped):
    with pytest.raises(NotComparable, match=r"settings\['a'\].* is .*no later session can tell"):
        comparable({"a": wrapped(NOT[name])})
