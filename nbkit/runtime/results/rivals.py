"""A score beside its rivals: intervals, paired differences, and what can be said of them.

All phases store these in one form, so that the report and the page of results need not read texts. What a difference
means is decided here, by one rule for all phases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nbkit.runtime.errors import UsageError

LEVEL = 0.05
BETTER, WORSE, ALIKE, FEW = "better", "worse", "not distinguishable", "too few to tell"
_SHOWN = 60  # characters of a value in a message
_NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high", "p")


def verdict(
    difference: float, low: float | None, high: float | None, p: float | None, lower_is_better: bool = False
) -> str:
    """Return what can be said of a score minus its rival's.

    Parameters
    ----------
    difference : float
    low, high : float or None
        The 95 % interval of the difference; it decides where there is no p value.
    p : float or None
        Corrected for the number of rivals. It decides alone where it is known.
    lower_is_better : bool
        Whether the score is an error.

    Returns
    -------
    said : str
        "better", "worse", "not distinguishable", or "too few to tell" where nothing decides.

    Examples
    --------
    >>> verdict(-0.12, -0.18, -0.06, 0.004), verdict(-0.12, -0.18, -0.06, 0.08), verdict(0.1, None, None, None)
    ('worse', 'not distinguishable', 'too few to tell')
    """
    if p is not None:
        known = p <= LEVEL
    elif low is not None and high is not None:
        known = low > 0 or high < 0
    else:
        return FEW
    if not known or difference == 0:
        return ALIKE
    return BETTER if (difference > 0) != lower_is_better else WORSE


def judged(
    score: str, rivals: Sequence[Mapping[str, Any]], lower_is_better: bool = False
) -> list[dict[str, float | str]]:
    """Return rivals as they are stored: their numbers without those that are not known, and the verdict.

    Parameters
    ----------
    score : str
        Name of the score, for a message.
    rivals : sequence of mapping
        With name, value and difference (score minus value), and any of low, high (the rival's interval),
        difference_low, difference_high and p; NaN and None are not known.
    lower_is_better : bool

    Raises
    ------
    UsageError
        If a rival has no name, value or difference, or other fields.
    """
    made = []
    if not isinstance(rivals, Sequence) or not all(isinstance(rival, Mapping) for rival in rivals):
        raise UsageError(
            f"The rivals of {score!r} are {shortened(rivals)}. They must be a list of mappings, each with name, "
            "value and difference. Nothing was written."
        )
    for rival in rivals:
        odd = [name for name in rival if name not in ("name", *_NUMBERS)]
        if not isinstance(rival.get("name"), str) or not rival["name"] or odd:
            raise UsageError(
                f"A rival of {score!r} is {dict(rival)!r}. It needs name, value and difference, and may have "
                f"{', '.join(_NUMBERS[1:3] + _NUMBERS[4:])}. Nothing was written."
            )
        given = {name: maybe(rival.get(name), f"{name} of the rival {rival['name']!r}") for name in _NUMBERS}
        known = {name: value for name, value in given.items() if value is not None}
        if missing := [name for name in ("value", "difference") if name not in known]:
            raise UsageError(
                f"The rival {rival['name']!r} of {score!r} lacks {', '.join(missing)}. Nothing was written."
            )
        ends = known.get("difference_low"), known.get("difference_high")
        said = verdict(known["difference"], *ends, known.get("p"), lower_is_better)
        made.append({"name": rival["name"], **known, "said": said})
    return made


def as_float(value: Any) -> float:
    """Return a number as a float: NaN where it is None or NaN, and so not known; infinity where it is no number."""
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.inf
    try:
        return float(value)
    except OverflowError:
        return math.inf


def maybe(value: Any, what: str) -> float | None:
    """Return a number as a float; None where it is None or NaN, and so not known.

    Raises
    ------
    UsageError
        If it is anything else.
    """
    number = as_float(value)
    if math.isinf(number):
        raise UsageError(
            f"The {what} is {shortened(value)}; it must be a finite number, or None or NaN where it is not known. "
            "Nothing was written."
        )
    return None if math.isnan(number) else number


def shortened(value: object) -> str:
    """Return a value as text for a message, such as one about a number of 400 digits."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def in_words(value: float, low: float | None, high: float | None, over: str = "") -> str:
    """Return a value with its interval as text.

    Examples
    --------
    >>> in_words(0.6484, 0.591, 0.7, "18 people"), in_words(1.5, None, None)
    ('0.648 [0.591, 0.700] over 18 people', '1.500')
    """
    ends = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{value:.3f}{ends}" + (f" over {over}" if over and ends else "")
