"""Colours and axes that every figure shares.

Colours are Okabe and Ito's (2008, https://jfly.uni-koeln.de/color/), told apart by all kinds of colour vision; truth is
always black and a baseline always grey and dashed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def say_stand_in(figure: Figure, data: str, *, below: bool = False) -> None:
    """Write on a figure what its data stand in for; nothing on one of real data.

    Parameters
    ----------
    figure : matplotlib Figure
    data : str
        "real" or nothing, or what stands in.
    below : bool
        At the lower edge instead of above all.
    """
    if data in ("", "real"):
        return
    if below:
        figure.text(0.5, 0.012, data, fontsize=8.5, color=SECOND, ha="center", va="bottom", wrap=True)
    else:
        figure.suptitle(data, fontsize=9, color=SECOND, wrap=True)


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
