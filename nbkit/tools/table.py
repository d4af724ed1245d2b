"""Tables of plain text, the same in a terminal and in a log file."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence

_WIDEST = 10_000  # characters; no line is wrapped or cut, because a log file has no width


def text_table(
    rows: Iterable[Sequence[str]], header: Sequence[str] = (), *, numbers: Collection[int] = (), indent: int = 0
) -> str:
    """Return rows as lines of text with aligned columns.

    Parameters
    ----------
    rows : iterable of sequence of str
        Cells are printed as they are: nothing in them is taken for markup.
    header : sequence of str
        Names of the columns; no header line by default.
    numbers : collection of int
        Columns that are aligned to the right.
    indent : int
        Spaces before each line.

    Examples
    --------
    >>> print(text_table([("a", "10"), ("long name", "7")], ("phase", "files"), numbers=(1,)))
    phase      files
    a             10
    long name      7
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [header, *rows] if header else list(rows)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in range(len(rows[0]) if rows else 0):
        table.add_column(no_wrap=True, justify="right" if column in numbers else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    # what the terminal is must not matter: no colours, no width of its own, no notebook's HTML
    console = Console(file=io.StringIO(), width=_WIDEST, color_system=None, force_terminal=False, force_jupyter=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(" " * indent + line.rstrip() for line in captured.get().splitlines())
