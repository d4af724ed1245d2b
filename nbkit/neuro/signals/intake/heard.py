"""What a reader says about a file, kept instead of silenced.

MNE and mne-bids report doubts about a file as Python warnings. `heard` collects them, so that they stay with the
recording and reach the user once. Warnings about code (deprecations) are passed on.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

_ABOUT_CODE = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning)


@contextlib.contextmanager
def heard(into: list[str]) -> Iterator[None]:
    """Append the warnings of the block to a list, each once, as one line of text.

    Parameters
    ----------
    into : list of str
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            said = [w for w in caught if not issubclass(w.category, _ABOUT_CODE)]
            into += [text for text in dict.fromkeys(" ".join(str(w.message).split()) for w in said) if text not in into]
    for w in caught:
        if issubclass(w.category, _ABOUT_CODE):
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
