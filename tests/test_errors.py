"""No error is swallowed: whoever catches all kinds of them raises again, or says at the line what becomes of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

BROAD = {"Exception", "BaseException"}


def swallowing(text: str) -> Iterator[int]:
    """Return the lines of a module that catch every kind of error, raise none and give no reason."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or _is_broad(node.type)):
            raises = any(isinstance(inner, ast.Raise) for statement in node.body for inner in ast.walk(statement))
            said = any("#" in line for line in lines[node.lineno - 1 : node.body[0].lineno])
            if not raises and not said:
                yield node.lineno
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "suppress":
            if any(map(_is_broad, node.args)) and "#" not in lines[node.lineno - 1]:
                yield node.lineno


def _is_broad(kind: ast.expr) -> bool:
    return any(isinstance(name, ast.Name) and name.id in BROAD for name in ast.walk(kind))


def test_every_broad_except_raises_again_or_says_what_becomes_of_the_error(root):
    files = sorted((root / "nbkit").rglob("*.py"))
    faults = {path.relative_to(root).as_posix(): [*swallowing(path.read_text("utf-8"))] for path in files}
    assert len(files) > 400 and {name: lines for name, lines in faults.items() if lines} == {}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("except Exception:\n    pass", [3]),
        ("except:\n    x = 2", [3]),
        ("except (OSError, BaseException) as e:\n    print(e)", [3]),
        ("except Exception:  # told by the caller\n    pass", []),
        ("except Exception as e:\n    raise ValueError from e", []),
        ("except OSError:\n    pass", []),
        ("finally:\n    pass\nwith contextlib.suppress(Exception):\n    x = 3", [5]),
    ],
)
def test_the_probe_finds_what_is_swallowed(body, found):
    assert [*swallowing(f"try:\n    x = 1\n{body}\n")] == found
