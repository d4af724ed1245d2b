"""The small languages of Drive's requests: search conditions, and lists of wanted fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_TOKEN = re.compile(r"\s*('(?:\\.|[^'\\])*'|!=|>=|<=|[()=<>]|[\w.]+)")
Row = dict[str, Any]


def condition(text: str) -> Callable[[Row], bool]:
    """Return the test that a search condition (``q``) stands for; ValueError where Drive would answer 400."""
    tokens, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"cannot read {text[at:]!r}")
        tokens.append(match[1])
        at = match.end()
    found, rest = _either(tokens)
    if rest:
        raise ValueError(f"left over: {rest}")
    return found


def _either(tokens: list[str]) -> tuple[Callable[[Row], bool], list[str]]:
    first, tokens = _both(tokens)
    while tokens and tokens[0] == "or":
        second, tokens = _both(tokens[1:])
        first = (lambda a, b: lambda row: a(row) or b(row))(first, second)
    return first, tokens


def _both(tokens: list[str]) -> tuple[Callable[[Row], bool], list[str]]:
    first, tokens = _one(tokens)
    while tokens and tokens[0] == "and":
        second, tokens = _one(tokens[1:])
        first = (lambda a, b: lambda row: a(row) and b(row))(first, second)
    return first, tokens


def _one(tokens: list[str]) -> tuple[Callable[[Row], bool], list[str]]:
    if tokens[0] == "(":
        found, rest = _either(tokens[1:])
        if rest[:1] != [")"]:
            raise ValueError("a parenthesis is not closed")
        return found, rest[1:]
    left, sign, right = tokens[:3]
    if sign == "in" and right == "parents":
        id = _text(left)
        return (lambda row: any(p["id"] == id for p in row["parents"])), tokens[3:]
    if left == "trashed":
        return (lambda row: row["labels"]["trashed"] == (right == "true")), tokens[3:]
    value = _text(right)
    tests: dict[tuple[str, str], Callable[[Row], bool]] = {
        ("title", "="): lambda row: row["title"].lower() == value.lower(),  # Drive ignores case
        ("mimeType", "="): lambda row: row["mimeType"] == value,
        ("mimeType", "!="): lambda row: row["mimeType"] != value,
        ("modifiedDate", ">"): lambda row: row["modifiedDate"] > value,
    }
    return tests[left, sign], tokens[3:]


def _text(token: str) -> str:
    if not token.startswith("'"):
        raise ValueError(f"{token} is not quoted")
    return re.sub(r"\\(.)", r"\1", token[1:-1])


def pick(value: Any, fields: str | None) -> Any:
    """Return of an answer only the fields that were asked for, such as ``items(id,parents(id))``."""
    if not fields or fields == "*":
        return value
    if isinstance(value, list):
        return [pick(v, fields) for v in value]
    picked = {}
    for name, inner in _split(fields):
        if name in value:
            picked[name] = pick(value[name], inner)
    return picked


def _split(fields: str) -> list[tuple[str, str | None]]:
    found, depth, word = [], 0, ""
    for sign in fields + ",":
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            name, _, inner = word.partition("(")
            found.append((name.strip(), inner[:-1] if inner else None))
            word = ""
        else:
            word += sign
    return found
