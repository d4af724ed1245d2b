"""Windows against slices written out."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.signals.windows.cutting import cut_windows, window_labels, window_starts


@pytest.mark.parametrize("n_times", [200, 499, 500, 501, 1234])
@pytest.mark.parametrize("window_s, stride_s", [(2.0, 2.0), (2.0, 0.5), (1.0, 3.0)])
def test_windows_are_all_the_whole_ones(n_times, window_s, stride_s):
    starts, length = window_starts(n_times, 100.0, window_s, stride_s)
    by_hand, start = [], 0
    while start + length <= n_times:
        by_hand.append(start)
        start += int(stride_s * 100)
    assert starts.tolist() == by_hand and length == int(window_s * 100)


def test_cut_windows_are_slices():
    x = np.random.default_rng(0).normal(size=(3, 2, 50))
    cut = cut_windows(x, [0, 7, 30], 20)
    assert cut.shape == (3, 3, 2, 20)
    for window, start in zip(cut, (0, 7, 30), strict=True):
        np.testing.assert_array_equal(window, x[..., start : start + 20])


def test_windows_that_do_not_fit_are_refused_in_words():
    with pytest.raises(ValueError, match=r"150 samples \(1.50 s at 100 Hz\).*at most 1.50"):
        window_starts(150, 100.0, 2.0, 1.0)
    with pytest.raises(ValueError, match="at least one"):
        window_starts(150, 100.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="leave a signal of 50"):
        cut_windows(np.zeros((1, 50)), [40], 20)


def test_labels_are_those_of_the_longest_overlap():
    labels = window_labels([0.0, 3.0, 4.0, 20.0], 2.0, [0.0, 4.1], [4.1, 4.1], ["T0", "T1"])
    assert labels.tolist() == ["T0", "T0", "T1", ""]


def test_an_event_without_length_labels_its_window():
    assert window_labels([0.0, 2.0], 2.0, [2.5], [0.0], ["press"]).tolist() == ["", "press"]
    assert window_labels([0.0], 2.0, [], [], []).tolist() == [""]
