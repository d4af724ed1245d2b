"""Parameters of a notebook: the names and values in its cell tagged ``parameters``.

They are read without running anything. A value may be an expression of literals, such as ``2 * 60``; whatever needs
other names or calls is refused in words, because a run could not replace it. Text from a command line takes the type
that the notebook's own value or annotation has.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nbkit.ground.fields import unknown
from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.address import show
from nbkit.runtime.words import abridged
from nbkit.tools.literals import evaluate
from nbkit.tools.notebooks import read_notebook, tagged_cells

_TYPES = {
    "str": str, "int": int, "float": float, "bool": bool, "list": list, "tuple": tuple, "dict": dict,
    "path": str, "purepath": str, "pathlike": str, "sequence": list, "mapping": dict,
}  # fmt: skip
_WORDS = {
    str: "text", int: "a whole number", float: "a finite number", bool: "true or false", list: "a list such as [1, 2]",
    tuple: "a list such as [1, 2]", dict: 'names with values such as {"a": 1}',
}  # fmt: skip
_NOT_GIVEN = object()
Kinds = tuple[type, ...]


class Parameters(dict[str, Any]):
    """Names and values of a parameters cell; ``kinds`` has the types that are allowed for those that are annotated."""

    def __init__(self, values: Mapping[str, Any] | None = None, kinds: Mapping[str, Kinds] | None = None) -> None:
        super().__init__(values or {})
        self.kinds = dict(kinds or {})


class Typed(str):
    """Text of a value as it was typed in a command line."""


def typed(value: Any) -> str:
    """Return the text that means a checked value in a command line: for ``-p NAME=`` in front of it."""
    try:
        text = json.dumps(value)
        if repr(json.loads(text)) == repr(value):
            return text
    except (ValueError, TypeError):
        pass
    return repr(value)


def notebook_parameters(path: Path) -> Parameters:
    """Return the names and values in a notebook's cells tagged ``parameters``; empty if it has none.

    Raises
    ------
    UsageError
        If the file is not a notebook, or a parameter is not an expression of literals.
    """
    found = Parameters()
    for cell in tagged_cells(read_notebook(path)["cells"], "parameters"):
        try:
            for name, value, kind in _assignments(cell["source"]):
                found[name] = value
                if kind is not None:
                    found.kinds[name] = kind
        except (SyntaxError, ValueError) as error:
            raise UsageError(
                f"The parameters cell of {path.name} cannot be read: {error}. Nothing was begun."
            ) from None
    return found


def _assignments(source: str) -> Iterator[tuple[str, Any, Kinds | None]]:
    lines = re.split(r"\r\n|\r|\n", source)
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        line = lines[(error.lineno or 1) - 1].strip()
        move = " Move it to a cell of its own." if line[:1] in ("%", "!") else ""
        raise ValueError(f"line {error.lineno}, {line!r}, is not Python ({error.msg}).{move}".rstrip(".")) from None
    for statement in tree.body:
        written = lines[statement.lineno - 1].strip()
        if isinstance(statement, ast.Import | ast.ImportFrom | ast.Expr | ast.Pass):
            continue
        kind = None
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, kind = [statement.target], _annotated(statement.annotation)
        elif isinstance(statement, ast.Assign):
            targets = statement.targets
        else:
            raise ValueError(f"line {statement.lineno}, {written!r}, is not of the form NAME = VALUE")
        for target in targets:
            if isinstance(target, ast.Tuple | ast.List):
                raise ValueError(f"line {statement.lineno}, {written!r}, sets several names. Write one name per line")
            if isinstance(target, ast.Name):
                yield target.id, evaluate(statement.value, written), kind


def _annotated(annotation: ast.expr) -> Kinds | None:
    """Return the types that an annotation such as ``int``, ``"str"``, ``int | float`` or ``list[int]`` allows."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return None
    if isinstance(annotation, ast.Subscript):
        form, inner = _last_name(annotation.value), annotation.slice
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if form == "Literal":
            values = [one.value for one in parts if isinstance(one, ast.Constant) and one.value is not None]
            return tuple(dict.fromkeys(map(type, values))) or None
        if form == "Annotated":
            return _annotated(parts[0])
        if form not in ("Optional", "Union", "Final"):
            return _annotated(annotation.value)
    elif isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        parts = [annotation.left, annotation.right]
    else:
        kind = _TYPES.get((_last_name(annotation) or "").lower())
        return None if kind is None else (kind,)
    sides = [_annotated(side) for side in parts if not (isinstance(side, ast.Constant) and side.value is None)]
    # with a side that is unknown here it may be of any type
    return tuple(dict.fromkeys(kind for side in sides for kind in side or ())) if sides and all(sides) else None


def _last_name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def check_parameters(path: Path, known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check parameters against those of a notebook, and return them with the notebook's types.

    Parameters
    ----------
    path : Path
        The notebook, for error messages.
    known : mapping
        Its own parameters, from `notebook_parameters`.
    given : mapping
        Other values for some of them. Text from `parse_parameters` takes the type of the notebook's own value or
        annotation: ``2024`` is a text for a text, and a number for a number.

    Raises
    ------
    UsageError
        If a name is unknown, or a value has another type than the notebook's own.
    """
    checked = {}
    for name, value in given.items():
        if name not in known:
            none = "" if known else f" {path.name} has no cell tagged 'parameters'."
            raise UsageError(f"{path.name}: {unknown('parameter', name, known)}{none} Nothing was begun.")
        own = known[name]
        kinds = _allowed(own, getattr(known, "kinds", {}).get(name, ()))
        fitted = _fit_one(value, kinds, own)
        if fitted is _NOT_GIVEN:
            seen = f"{str(value)!r} (text)" if isinstance(value, Typed) else f"{value!r} ({type(value).__name__})"
            names = " or ".join(kind.__name__ for kind in kinds or (float,))
            words = " or ".join(_WORDS.get(kind, "the same type") for kind in kinds or (float,))
            raise UsageError(
                f"{path.name}: {name} is {seen}, but must be {names}, as the notebook's own value {own!r}: {words}. "
                "Nothing was begun."
            )
        if not _is_literal(fitted):
            seen = show(abridged(str(value), 200))
            raise UsageError(
                f"{path.name}: {name} is {seen!r}, which cannot be written into the notebook. Allowed are texts, "
                "finite numbers, True, False and None, and lists, tuples, dicts and sets of these, nested less than "
                "200 deep; a set must not be empty. Nothing was begun."
            )
        checked[name] = fitted
    return checked


def _is_literal(value: Any) -> bool:
    """Return whether Python reads what it shows of a value as this value again, in the cell of a kernel."""
    try:
        evaluate(ast.parse(repr(value), mode="eval").body)
        return _is_plain(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple, set):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(_is_plain(key) and _is_plain(one) for key, one in value.items())
    return type(value) in (type(None), bool, int, float, complex, str, bytes)


def _allowed(own: Any, annotated: Kinds) -> Kinds:
    """Return the types that a parameter may have, the one that is tried first in front; none if it may have any."""
    kind = float if type(own) is int and float in annotated and int not in annotated else type(own)
    if own is not None and kind not in annotated:
        return (kind,)  # the notebook works with a value that is not as its annotation says
    return tuple(sorted(annotated, key=lambda one: (one is not kind, one is str)))  # any text would be a str


def _fit_one(value: Any, kinds: Kinds, own: Any) -> Any:
    """Return a value as the first of the types that it fits; _NOT_GIVEN if it fits none."""
    if not isinstance(value, Typed):
        kinds = (type(value), *kinds) if type(value) in kinds else kinds
    elif own is None and len(kinds) > 1:
        found = _typed_as(str(value), object)
        if isinstance(found, int | float) and str in kinds:  # 2024-1 may be the name of a folder
            found = _typed_as(str(value), None)
        kinds = (type(found),) if type(found) in kinds else kinds
    return next((one for kind in kinds or (None,) if (one := _fit(value, kind)) is not _NOT_GIVEN), _NOT_GIVEN)


def _fit(value: Any, kind: type | None) -> Any:
    """Return a value as this type; _NOT_GIVEN if it does not fit."""
    if isinstance(value, Typed):
        value = _typed_as(str(value), kind)
    if isinstance(value, Path) and kind in (None, str):
        value = str(value)
    if value is None or kind is None:
        fitted = value
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        fitted = float(value)
    elif kind in (list, tuple) and type(value) in (list, tuple):
        fitted = list(value) if kind is list else value
    else:
        fitted = value if type(value) is kind else _NOT_GIVEN
    return _NOT_GIVEN if isinstance(fitted, float) and not math.isfinite(fitted) else fitted


def _typed_as(text: str, kind: type | None) -> Any:
    """Return the value that a typed text means for a parameter of this type."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        value = {"True": True, "False": False, "None": None}.get(text.strip(), text)
    if kind is str:
        return value if value is None or isinstance(value, str) else text
    if kind is bool:
        return {"true": True, "false": False}.get(text.strip().lower(), value)
    # not without a type: 2024-1 may be the name of a folder
    if kind is not None and isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = evaluate(ast.parse(text.strip(), mode="eval").body)
    return int(value) if kind is int and isinstance(value, float) and value.is_integer() else value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not finite")


def parse_parameters(texts: list[str]) -> dict[str, Any]:
    """Return the names and the typed texts in texts like ``NAME=VALUE``; `check_parameters` gives them their types.

    Raises
    ------
    UsageError
        If a text has no ``=``, its name is not a valid name in Python, or a name is given two values.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise UsageError(f"-p {text!r} is not NAME=VALUE. Write it like -p MAX_STEPS=300. Nothing was begun.")
        if not value.isprintable() and not value.isascii():
            _check_unicode(text)
        if found.get(name, value) != value:
            raise UsageError(f"-p {name} is given twice: {show(found[name])!r} and {show(value)!r}. Nothing was begun.")
        found[name] = Typed(value)
    return found


def _check_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"-p {text!r} is not valid Unicode. Nothing was begun.") from None


def refuse_options(given: Mapping[str, Any], options: Mapping[str, str]) -> None:
    """Refuse parameters that an option of the command sets.

    Raises
    ------
    UsageError
        If one of them is given; `options` has the option by the parameter's name.
    """
    for name, option in options.items():
        if name in given:
            raise UsageError(
                f"-p {name}={show(str(given[name]))}: give it as {option} of this command. Nothing was begun."
            )


def refuse_fixed(path: Path, given: Mapping[str, tuple[str, Any]]) -> None:
    """Refuse a store or a limit that cannot take effect, because a notebook opens its session with one of its own.

    Parameters
    ----------
    path : Path
        The notebook.
    given : mapping
        What gives the value, such as ``--store``, and the value, by the argument of `open_session`.

    Raises
    ------
    UsageError
        If the notebook has another value in the call, or in a cell that is not tagged ``parameters``.
    """
    for number, argument, own in _fixed(read_notebook(path)["cells"]):
        option, value = given.get(argument, ("", None))
        if value is not None and str(own) != str(value):
            raise UsageError(
                f"{path.name}: cell {number} opens its session with {argument}={show(str(own))!r}, so {option} "
                f"{show(str(value))} would have no effect. Set {argument.upper()} in a cell tagged 'parameters', and "
                f"pass {argument}={argument.upper()} to open_session; or give no {option}. Nothing was begun."
            )


def _fixed(cells: list[dict[str, Any]]) -> Iterator[tuple[int, str, Any]]:
    """Yield (number of the cell, argument, value) for literal arguments of `open_session` that no run replaces."""
    values: dict[str, Any] = {}
    for number, cell in enumerate((one for one in cells if one["cell_type"] == "code"), 1):
        if re.match(r"\s*%%(?!time|capture)", cell["source"]):
            continue  # another language, mostly
        try:
            body = ast.parse(re.sub(r"(?m)^[ \t]*[%!].*$", "", cell["source"])).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        tagged = "parameters" in cell["metadata"].get("tags", [])
        for statement in body:
            nodes = list(ast.walk(statement))
            for call in nodes:
                if isinstance(call, ast.Call) and _last_name(call.func) == "open_session":
                    by_name = {one.arg: one.value for one in call.keywords}
                    for argument, node in {**dict(zip(("slug", "store", "limit"), call.args)), **by_name}.items():  # noqa: B905
                        own = values.get(node.id) if isinstance(node, ast.Name) else _literal(node)
                        if argument in ("store", "limit") and own is not None:
                            yield number, argument, own
            simple = isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None and not tagged
            value = _literal(statement.value) if simple else None
            values |= {one.id: value for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal or of ``Path(literal)``; None for whatever depends on more."""
    if isinstance(node, ast.Call) and _last_name(node.func) == "Path" and len(node.args) == 1:
        node = node.args[0]
    try:
        return evaluate(node)
    except ValueError:
        return None


def set_values(content: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Write values into the parameters cell of a notebook's content: the same for every way to run it."""
    for cell in tagged_cells(content["cells"], "parameters"):
        cell["source"] = replace_values(cell["source"], values)


def replace_values(source: str, values: Mapping[str, Any]) -> str:
    """Return the source of a parameters cell with other values; comments and order are preserved.

    Parameters
    ----------
    source : str
        Assignments, with annotations or without.
    values : mapping
        Value for each name. Names that the source does not assign are ignored.
    """
    lines = source.encode("utf-8").splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]
    data = b"".join(lines)
    spans, last_line = [], ""
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [target.id for target in targets if isinstance(target, ast.Name) and target.id in values]
        if len(targets) > 1:  # NAME = OTHER = VALUE: an assignment below changes one of them only
            last_line += "".join(f"\n{name} = {values[name]!r}" for name in names)
        elif names:
            node = statement.value
            first = starts[node.lineno - 1] + node.col_offset
            last = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
            spans.append((first, last, repr(values[names[0]]).encode("utf-8")))
    for first, last, text in reversed(spans):
        data = data[:first] + text + data[last:]
    return data.decode("utf-8") + last_line
