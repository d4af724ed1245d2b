"""Heads of the channels that people have: nets, differences, ears as references, and four electrodes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from nbkit.neuro.plots.scalp.head import draw_head, placed
from nbkit.neuro.signals.positions import places

BIPOLAR = "Fp1-F7 F7-T7 T7-P7 P7-O1 Fp2-F8 F8-T8 T8-P8 P8-O2 Fz-Cz Cz-Pz".split()
SETS = {
    "net": [*(f"E{number}" for number in range(1, 129)), "Cz"], "differences": BIPOLAR,
    "ears": ["EEG Fp1-A1", "EEG F4-A2", "C3-M2", "EEG T3-LE", "O1-REF"], "four": ["TP9", "AF7", "AF8", "TP10"],
}  # fmt: skip


@pytest.mark.parametrize("names", SETS.values(), ids=SETS)
def test_all_channels_have_a_place(names):
    assert placed(names) == list(range(len(names))) and placed(["X1", *names, "ACC"]) == list(range(1, len(names) + 1))
    figure, axes = plt.subplots()
    draw_head(axes, np.arange(len(names)), names, vlim=(0, 1), marked=np.arange(len(names)) == 0)
    discs = [text.get_text() for text in axes.texts]
    assert discs == (names if len(names) < 8 else []), "between few electrodes nothing is known, so nothing is drawn"
    plt.close(figure)


def test_a_difference_lies_half_way():
    found = places(["F7-T7", "F7", "T7"])
    np.testing.assert_allclose(found["F7-T7"], (found["F7"] + found["T7"]) / 2)
    assert not places(["F7-EXG1", "A2-A1", "X"])
