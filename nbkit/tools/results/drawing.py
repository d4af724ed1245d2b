"""The figures of the page of results: all scores beside their rivals, and the main figure of some phases."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_atomically
from nbkit.tools.results.page import RATIOS, Found, Shown
from nbkit.tools.results.running import Folders

OVERVIEW = "results"
_COLOURS = {"better": "#1b7f5a", "worse": "#b3452c", "": "#5b6770"}


def side_of(shown: Shown) -> str:
    """Return "better" or "worse" where a score is that beside every rival, else ""."""
    said = {rival["said"] for rival in shown.row.get("rivals", ())}
    return said.pop() if len(said) == 1 and said <= {"better", "worse"} else ""


def write_figures(found: Sequence[Found], folders: Folders, target: Path) -> list[str]:
    """Write the figures into a folder, and return the names of what was drawn: "overview", and runs.

    Parameters
    ----------
    found : sequence of Found
    folders : Folders
    target : Path
        Such as docs/figures; figures of runs that are no longer listed are not removed.
    """
    made = []
    if any("low" in score.row for one in found for score in one.scores):
        _write(target / f"{OVERVIEW}.png", _png(draw_overview(found)))
        made.append("overview")
    for one in found:
        stored = folders.store(one.run) / one.run.slug / "figures" / f"{one.run.figure}.png"
        if one.run.figure and not one.missing and stored.is_file():
            _write(target / f"{OVERVIEW}-{one.run.name}.png", _smaller(stored))
            made.append(one.run.name)
    return made


def draw_overview(found: Sequence[Found]) -> Any:
    """Return a figure with a panel for each run that has intervals; hollow dots are the rivals."""
    from matplotlib.figure import Figure

    entries = {one.run.name: entries_of(one.scores, one.run.aside) for one in found}
    shown = [one for one in found if any("low" in score.row for score in one.scores)]
    heights = [1.4 + len(entries[one.run.name]) for one in shown]
    figure = Figure(figsize=(8, 0.24 * sum(heights) + 0.6), layout="constrained")
    panels = figure.subplots(len(shown), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, one in zip(panels, shown, strict=True):
        _panel(axes, one, entries[one.run.name])
    return figure


def entries_of(scores: Sequence[Shown], aside: Sequence[str] = ()) -> list[tuple[str, dict[str, Any], str, bool]]:
    """Return what a panel draws: name, numbers, side, and whether it is a rival; a rival of several is drawn once."""
    made: list[tuple[str, dict[str, Any], str, bool]] = []
    for score in scores:
        made.append((score.model, score.row, side_of(score), False))
    known = {score.model for score in scores} | set(aside)
    for score in scores:
        for rival in score.row.get("rivals", ()):
            if rival["name"] not in known:
                known.add(rival["name"])
                made.append((rival["name"], rival, "", True))
    return made


def _panel(axes: Any, one: Found, entries: Sequence[tuple[str, dict[str, Any], str, bool]]) -> None:
    for place, (_, row, side, is_rival) in enumerate(entries):
        if "low" in row:
            axes.plot([row["low"], row["high"]], [-place, -place], color=_COLOURS[side], linewidth=1 if is_rival else 2)
        face = "white" if is_rival else _COLOURS[side]
        axes.plot([row["value"]], [-place], "o", color=_COLOURS[side], markerfacecolor=face, markersize=6)
    labels, unit = [name for name, *_ in entries], one.scores[0].row["unit"]
    axes.set_yticks([-place for place in range(len(labels))], labels, fontsize=8)
    axes.set_ylim(-len(labels) + 0.4, 0.6)
    axes.set_title(textwrap.fill(one.run.task, 84), loc="left", fontsize=9)
    axes.set_xlabel("Score" if unit in RATIOS else f"Score ({unit})", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(True, axis="x", color="#d8dde1", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    buffer.seek(0)
    return _smaller(buffer)


def _smaller(path: Path | io.BytesIO, width: int = 1100) -> bytes:
    """Return a stored figure, at most so many pixels wide, with few colours: a picture of some tens of KB."""
    from PIL import Image

    with Image.open(path) as image:
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
    if rgb.width > width:
        rgb = rgb.resize((width, round(rgb.height * width / rgb.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    rgb.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))
