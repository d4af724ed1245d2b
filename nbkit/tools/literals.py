"""Values of expressions of literals, such as ``2 * 60``, ``-1`` or ``"9" + "h"``, without running any code.

Python's own `ast.literal_eval` stops at operators. Here the operators work too, within a bound on the size of what
they make, so that no text typed by mistake takes the machine's memory.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

_BITS = 10_000  # of a whole number
_LENGTH = 1_000_000  # of a text or a sequence

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift, ast.BitOr: operator.or_, ast.BitAnd: operator.and_, ast.BitXor: operator.xor,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Invert: operator.invert, ast.Not: operator.not_,
}  # fmt: skip


def evaluate(node: ast.expr, written: str = "") -> Any:
    """Return the value of an expression of literals.

    Parameters
    ----------
    node : ast.expr
    written : str
        The line that it comes from, for the message.

    Raises
    ------
    ValueError
        If it needs a name or a call, cannot be computed, or its value would be very large.
    """
    try:
        return _value(node)
    except (ArithmeticError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{written!r} cannot be computed: {error}") from None
    except ValueError as error:
        raise ValueError(f"{written!r} {error}") from None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        kind = {ast.Tuple: tuple, ast.List: list, ast.Set: set}[type(node)]
        return kind([_value(one) for one in node.elts])
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left), _value(node.right)
        _check_size(node.op, left, right)
        return _BINARY[type(node.op)](left, right)
    raise ValueError(
        f"is not an expression of literals only: {_what(node)}. Write the value itself, or compute it in a later cell"
    )


def _check_size(op: ast.operator, left: Any, right: Any) -> None:
    """Raise a ValueError if the value of an operation would be very large."""
    if isinstance(left, int) and isinstance(right, int):
        bits = {ast.Pow: left.bit_length() * abs(right), ast.LShift: left.bit_length() + abs(right)}.get(type(op), 0)
        if bits > _BITS:
            raise ValueError("is too large a number")
    sizes = [(left, right), (right, left)] if isinstance(op, ast.Mult) else []
    for many, times in sizes:
        if isinstance(many, str | bytes | list | tuple) and isinstance(times, int) and len(many) * times > _LENGTH:
            raise ValueError("is too long")
    if isinstance(op, ast.Mod) and isinstance(left, str | bytes):
        raise ValueError("formats a text, which is not an operation on literals here. Write the text itself")


def _what(node: ast.expr) -> str:
    names = sorted({one.id for one in ast.walk(node) if isinstance(one, ast.Name)})
    return f"it needs {', '.join(names)}" if names else f"{ast.unparse(node)} is none"
