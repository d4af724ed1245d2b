"""One row of the table that ``make bench`` prints.

A measurement stands beside its alternative, measured in the same run on the same machine, or beside nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Say what was measured, beside what, and whether it is good enough.

    Attributes
    ----------
    what : str
        What was measured, such as ``"record an item, 100k items"``.
    value : float or None
        Our figure, in `unit`; None where there is none, and the note says why.
    unit : str
    alternative : str
        The other way of doing it, such as ``"raw SQLite"``; empty where there is none.
    alternative_value : float or None
        Its figure in the same unit, from the same run.
    target : str
        What is asked for, in words, such as ``"<= 25 us"``.
    met : bool or None
        Whether it is reached; None where nothing is asked.
    note : str
    limit : str
        The physical bound, such as ``"copying the bytes once"``; empty where there is none.
    limit_value : float or None
        That bound in the same unit, from the same run.
    """

    what: str
    value: float | None
    unit: str
    alternative: str = ""
    alternative_value: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""
    limit: str = ""
    limit_value: float | None = None

    def ours(self) -> str:
        """Return our figure with its unit."""
        if self.value is None:
            return "failed" if self.met is False else "not measured"
        return f"{self.value:.4g} {self.unit}"

    def beside(self, what: str, value: float | None) -> str:
        """Return another figure in our unit and what it is of; empty where there is none."""
        figure = "" if value is None else f"{value:.4g} {self.unit} "
        return f"{figure}({what})" if what else ""
