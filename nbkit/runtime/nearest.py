"""What a wrong name was probably meant to be.

Every refusal of a name goes through here, so that all of them name the nearest allowed one and list the rest.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """Give the words that refuse a name: the value seen, the nearest allowed one, and the list.

    Parameters
    ----------
    what : str
        What the name is of, such as ``"setting"``.
    name : str
        The name that was given.
    allowed : iterable of str
    """
    allowed = list(allowed)
    folded = {one.lower(): one for one in allowed}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
    return f"there is no {what} {name!r}.{hint} Allowed: {', '.join(allowed) or 'none'}."
