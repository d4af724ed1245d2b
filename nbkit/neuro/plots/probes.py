"""Figure of linear probes on blocks of latents, beside chance and an untrained network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbkit.ground.figures import BASELINE, FIRST, SERIES, TRUTH, tidy, title_stand_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_probes(scores: Sequence[Any], *, stand_in: str = "") -> Figure:
    """Draw a panel for each target, with a group of bars for each block of latents.

    Parameters
    ----------
    scores : sequence
        Each with ``target``, ``features`` (such as "trained" or "untrained"), ``block``, ``accuracy``, ``permuted`` and
        ``chance``.
    stand_in : str
        Description of stand-in data, written in the title.

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    targets = list(dict.fromkeys(score.target for score in scores))
    if not targets:
        raise ValueError(
            "There are no scores to draw, because the windows have no target that a probe could predict. Use windows "
            "with labels."
        )
    figure, axes = plt.subplots(
        1, len(targets), figsize=(1.2 + 3.4 * len(targets), 3.9), layout="constrained", squeeze=False, sharey=True
    )
    for place, target in zip(axes[0], targets, strict=True):
        own = [score for score in scores if score.target == target]
        blocks = list(dict.fromkeys(s.block for s in own if s.features == "trained"))
        for number, (features, colour) in enumerate((("trained", FIRST), ("untrained", SERIES[5]))):
            found = {s.block: s for s in own if s.features == features}
            at = [x + 0.38 * (number - 0.5) for x, block in enumerate(blocks) if block in found]
            shown = [found[block] for block in blocks if block in found]
            place.bar(at, [s.accuracy for s in shown], width=0.36, color=colour, label=features)
            place.plot(
                at, [s.permuted for s in shown], linestyle="none", marker="_", markersize=11, markeredgewidth=2,
                color=TRUTH, label="" if number else "labels permuted",
            )  # fmt: skip
        place.axhline(own[0].chance, color=BASELINE, linestyle="--", linewidth=1.2, label="chance")
        for other in (s for s in own if s.features not in ("trained", "untrained")):
            place.axhline(other.accuracy, color=SERIES[1], linestyle=":", linewidth=1.6, label=other.features)
        place.set(title=f"{target}, {own[0].windows} windows", xlabel="Block of latents", ylim=(0, 1))
        place.set_xticks(range(len(blocks)), blocks)
        tidy(place)
    axes[0][0].set_ylabel("Balanced accuracy (1)")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, fontsize=8, loc="outside lower center", ncols=len(names))
    title_stand_in(figure, stand_in)
    return figure
