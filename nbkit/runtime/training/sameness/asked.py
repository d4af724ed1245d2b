"""What a person asks of work that resumes: the same settings, changed ones, or a fresh start beside the old.

A notebook's parameter says it for all sessions that it is run in, so a fresh start there has a number: it is made once,
by the first session, and the later ones go on with it. The command line says it for one session, in a variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from nbkit.runtime.errors import UsageError

VARIABLE = "NBKIT_RESUME"
EXACT, ACCEPT, ANEW = "exact", "accept", "anew"
_FRESH = re.compile(r"fresh(?:-([1-9]\d{0,3}))?")


def check_resume(resume: str) -> str:
    """Return what was asked, if it is valid.

    Raises
    ------
    UsageError
        If it is neither ``exact``, ``accept`` nor ``fresh`` with a number or without.
    """
    if resume not in (EXACT, ACCEPT) and not (isinstance(resume, str) and _FRESH.fullmatch(resume)):
        raise UsageError(
            f"resume={resume!r} is not valid. Allowed are 'exact' (refuse changed settings or data), 'accept' (go on "
            "with changed ones), and 'fresh', 'fresh-2', 'fresh-3' (the first, second, third start again beside the "
            "earlier checkpoints, each made once). Nothing was begun."
        )
    return resume


def accepts(resume: str) -> bool:
    """Return whether a person accepts what has changed: by the session's own parameter, or by NBKIT_RESUME."""
    return (os.environ.get(VARIABLE) or resume) == ACCEPT


def fit_options(resume: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `fit` with what was asked added, where the call itself does not say it.

    Parameters
    ----------
    resume : str
        The session's own; the variable NBKIT_RESUME takes precedence, because it is set for this one session.
    options : mapping
    """
    asked = os.environ.get(VARIABLE) or resume
    found: dict[str, Any] = {}
    if asked == ACCEPT:
        found["accept_changes"] = True
    elif asked == ANEW:
        found["fresh"] = True
    elif asked != EXACT:
        number = _FRESH.fullmatch(check_resume(asked))
        found["fresh"] = int(number[1] or 1) if number else 0
    return {**found, **options}
