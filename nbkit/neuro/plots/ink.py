"""Colours and axes that every figure shares.

Colours are Okabe and Ito's (2008, https://jfly.uni-koeln.de/color/), told apart by all kinds of colour vision; truth is
always black and a baseline always grey and dashed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRUTH = "#000000"
FIRST = "#0072B2"
SECOND = "#D55E00"
BASELINE = "#767676"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def tidy(axes: Axes) -> None:
    """Take the upper and right frame off and put a faint grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)


def brief(value: float) -> str:
    """Write a number in about three digits.

    Examples
    --------
    >>> brief(1234.5), brief(0.01234), brief(12.0)
    ('1234', '0.0123', '12')
    """
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"
