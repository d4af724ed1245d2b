"""Cards as small tables, and a picture that is drawn anew in its place, in a notebook that a person has open."""

from __future__ import annotations

import html
import sys
from typing import TYPE_CHECKING, Any

from nbkit.runtime.cells.lines import seconds_between_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = "text-align:left;vertical-align:top;padding:0 1em 0 0;border:0;background:none"


def is_watched() -> bool:
    """Return whether this is a kernel whose outputs a person sees, not a log or a terminal."""
    return "ipykernel" in sys.modules and seconds_between_lines() is None and _shell() is not None


def cell_number() -> int | None:
    """Return the number of the cell that is being run, new each time that it is run; None outside of a notebook."""
    shell = _shell()
    return int(shell.execution_count) if shell is not None else None


def show_card(text: str) -> None:
    """Show a card: as a table in a notebook, else as the text that it is."""
    if not is_watched():
        print(text, flush=True)
        return
    from IPython.display import display

    display({"text/plain": text, "text/html": card_html(text)}, raw=True)


def card_html(text: str) -> str:
    """Return a card as a table; its first line becomes the title."""
    title, *lines = text.split("\n")
    rows = [line.strip().partition("  ") for line in lines]
    cells = "".join(
        f'<tr><th style="{_STYLE}">{html.escape(name)}</th><td style="{_STYLE}">{html.escape(said.strip())}</td></tr>'
        for name, _, said in rows
    )
    return (
        f'<table style="border:0"><caption style="text-align:left"><b>{html.escape(title)}</b></caption>{cells}</table>'
    )


class LivePicture:
    """A figure in the output of a cell that later figures replace."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, figure: Figure) -> None:
        """Draw a figure in the place of the one before, and close it."""
        import matplotlib.pyplot as plt
        from IPython.display import display

        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        plt.close(figure)


def _shell() -> Any:
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython() if get_ipython is not None else None
