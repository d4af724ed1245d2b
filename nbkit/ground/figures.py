"""The palette of every figure, tidy axes, and labels on figures of stand-in data.

The colours are those of Okabe and Ito (2008, https://jfly.uni-koeln.de/color/), which people with any kind of colour
vision can tell apart. The truth is always black, and a baseline always grey and dashed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbkit.ground.stand_in import is_made_up, is_untrained

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH = "#000000"
FIRST = "#0072B2"
SECOND = "#D55E00"
BASELINE = "#767676"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GRID = "#E4E4E4"
_WARNING = "#B84A00"  # SECOND, dark enough for small text on white


def tidy(axes: Axes) -> None:
    """Remove the upper and the right spine, and draw a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def brief(value: float) -> str:
    """Return a number as text with about three significant digits.

    Examples
    --------
    >>> brief(1234.5), brief(0.01234), brief(12.0)
    ('1234', '0.0123', '12')
    """
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"


def title_stand_in(figure: Figure, data: str, *, below: bool = False) -> None:
    """Write on a figure that its data are a stand-in; a figure of real data gets no text.

    Parameters
    ----------
    figure : matplotlib Figure
    data : str
        "real" or empty for real data; otherwise a description of the stand-in.
    below : bool
        Whether to write at the lower edge instead of above the axes.
    """
    if data in ("", "real"):
        return
    if below:
        figure.text(0.5, 0.012, data, fontsize=8.5, color=_WARNING, ha="center", va="bottom", wrap=True)
    else:
        figure.suptitle(data, fontsize=9, color=_WARNING, wrap=True)


def without_weights(figure: Figure) -> Figure:
    """Mark a figure as one of signals or of models without weights, so that no label says whose weights are random."""
    figure.shows_no_weights = True  # type: ignore[attr-defined]
    return figure


def caption_stand_in(figure: Any, labels: Mapping[str, Any]) -> str:
    """Write below a figure which of its data and weights are not real, unless the figure already says so.

    Parameters
    ----------
    figure : matplotlib Figure
    labels : mapping
        Descriptions of the data and the weights, under ``data`` and ``weights``.

    Returns
    -------
    label : str
        Descriptions of what is not real, separated by "; "; empty if everything is real.
    """
    data, weights = (" ".join(str(labels.get(name, "")).split()) for name in ("data", "weights"))
    shown = _plain(" ".join(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text"))))
    has_weights = _plain(weights) in shown or "random" in shown and "random" in _plain(weights)
    labels_needed = [(data, _plain(data) in shown)] if is_made_up(data) else []
    own = not getattr(figure, "shows_no_weights", False)
    labels_needed += [(f"weights: {weights}", has_weights)] if own and is_untrained(weights) else []
    missing = "; ".join(text for text, has in labels_needed if not has)
    if missing:
        text = textwrap.fill(missing, max(30, int(13 * figure.get_figwidth())))
        figure.text(0.5, -0.01, text, fontsize=8.5, color=_WARNING, ha="center", va="top")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # another layout pass would move the axes to make room for the new text
        for legend in figure.legends:
            if legend.get_bbox_to_anchor() is figure.bbox:
                # saving with a tight bounding box replaces figure.bbox, which would move this legend
                legend.set_bbox_to_anchor((0, 0, 1, 1), transform=figure.transFigure)
    return "; ".join(text for text, _ in labels_needed)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
