"""Detect results of stand-in data or untrained weights from their descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

_UNTRAINED = ("random", "untrained", "synthetic", "made-up", "stand-in", "no weights")


def is_made_up(data: str) -> bool:
    """Return whether a description names data that are not real; False if it is empty, because nothing is known then.

    Examples
    --------
    >>> is_made_up("synthetic"), is_made_up("real, 12 subjects"), is_made_up("")
    (True, False, False)
    """
    data = data.strip().lower()
    return bool(data) and not data.startswith("real")


def is_untrained(weights: str) -> bool:
    """Return whether a description names weights that were never trained.

    Examples
    --------
    >>> is_untrained("random, seed 0"), is_untrained("trained here")
    (True, False)
    """
    return weights.strip().lower().startswith(_UNTRAINED)


def is_stand_in(labels: Mapping[str, str]) -> bool:
    """Return whether the data or the weights are stand-ins, so that results say nothing about brains."""
    return is_made_up(labels.get("data", "")) or is_untrained(labels.get("weights", ""))


def stand_in_words(labels: Mapping[str, str]) -> str:
    """Return the descriptions of what is not real, separated by "; "; empty if everything is real."""
    data, weights = (" ".join(str(labels.get(name, "")).split()) for name in ("data", "weights"))
    found = [data] if is_made_up(data) else []
    return "; ".join([*found, f"weights: {weights}"] if is_untrained(weights) else found)


def label_page(html: str, words: str) -> str:
    """Return a page of HTML with a line at its top that says what is not real; as it is if there are no words."""
    if not words:
        return html
    style = "margin:0;padding:.3rem .6rem;background:#fdf0e4;color:#8a3b00;font:14px sans-serif"
    line = f'<p style="{style}"><strong>Not real:</strong> {escape(words)}</p>'
    begin = re.search(r"<body[^>]*>", html, re.IGNORECASE) or re.match(r"\s*<!doctype[^>]*>", html, re.IGNORECASE)
    place = begin.end() if begin else 0
    return html[:place] + line + html[place:]
