"""One PNG of a store for a README: the sessions of a phase with their kills, above figures that phases stored.

``python -m nbkit.tools.report.picture STORE OUT SLUG [SLUG/FIGURE ...]``
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nbkit.ground.figures import SECOND
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.tools.report.sessions_plot import count_kinds, plot_sessions
from nbkit.tools.status.status import PhaseStatus, read_status

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

_WIDTH = 11.0  # inches


def plot_picture(row: PhaseStatus, figures: Sequence[np.ndarray]) -> Figure:
    """Plot the sessions of a phase as a strip, and stored figures below it.

    Parameters
    ----------
    row : PhaseStatus
    figures : sequence of ndarray, shape (height, width, channels)
        Pictures, drawn in their own proportions, one below the other.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    heights = [2.6, *(_WIDTH * picture.shape[0] / picture.shape[1] for picture in figures)]
    figure, panels = plt.subplots(
        len(heights), 1, figsize=(_WIDTH, sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    plot_sessions(panels[0, 0], row)
    words = ", ".join([f"{len(row.past)} sessions", *(count_kinds(row.past, "of them killed") or ["all closed"])])
    panels[0, 0].text(0.99, 0.08, words, color=SECOND, ha="right", transform=panels[0, 0].transAxes)
    for axes, picture in zip(panels[1:, 0], figures, strict=True):
        axes.imshow(picture)
        axes.set_axis_off()
    return figure


def write_picture(store: str, out: Path, slug: str, names: Sequence[str]) -> None:
    """Write the picture of a store.

    Raises
    ------
    UsageError
        If the phase has no sessions in the store, or a figure is not there.
    """
    from matplotlib.image import imread

    (row,) = read_status(store, [slug])
    if not row.past:
        raise UsageError(f"{store} holds no session of {slug!r}. Nothing was written.")
    opened, pictures = open_store(store_address(store)), []
    with tempfile.TemporaryDirectory(prefix="nbkit-picture-") as folder:
        for number, name in enumerate(names):
            phase, _, figure = name.partition("/")
            try:
                opened.get(f"{phase}/figures/{figure}.png", Path(folder, f"{number}.png"))
            except FileNotFoundError:
                raise UsageError(f"{store} holds no figure {name!r}. Give SLUG/FIGURE. Nothing was written.") from None
            pictures.append(imread(Path(folder, f"{number}.png")))
    out.parent.mkdir(parents=True, exist_ok=True)
    plot_picture(row, pictures).savefig(out, dpi=100)


def main(words: Sequence[str]) -> int:
    """Write a picture by the words of a command line, and return the exit code."""
    if len(words) < 3:
        print(__doc__)
        return UsageError.exit_code
    try:
        write_picture(words[0], Path(words[1]), words[2], words[3:])
    except NbkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
