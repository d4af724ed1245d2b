"""Write one Python file that holds some definitions and everything they depend on.

A system that runs a single file, such as the scoring of a challenge, thus gets the source that was trained and tested,
and no copy has to be maintained by hand. Imports from other packages stay imports, and are rejected if the package is
not allowed.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class _Source:
    """Definitions and imports at the top level of a module."""

    name: str
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)  # local name: (module, name in it)

    @classmethod
    def read(cls, module: str) -> _Source:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ValueError(f"There is no module {module}; give the module that defines the network.")
        source = cls(module)
        for statement in ast.parse(Path(spec.origin).read_text("utf-8")).body:
            source.imports.update(_imported(statement))
            for name in _bound(statement):
                source.definitions[name] = statement
        return source


class SingleFile:
    """Collect definitions, each after those it depends on.

    Parameters
    ----------
    allowed : sequence of str
        Packages outside the standard library that the file may import.
    values : mapping of str to str, optional
        Source code of values that replace those of some assigned names.
    ours : sequence of str
        Packages whose source is copied into the file.
    optional : sequence of str
        Packages that a function may import inside its body, because it checks first whether they are installed.
    """

    def __init__(
        self,
        allowed: Sequence[str],
        values: Mapping[str, str] | None = None,
        ours: Sequence[str] = ("nbkit",),
        optional: Sequence[str] = (),
    ) -> None:
        self.allowed, self.values, self.ours = tuple(allowed), dict(values or {}), tuple(ours)
        self.optional = tuple(optional)
        self._sources: dict[str, _Source] = {}
        self._written: dict[tuple[str, str], str] = {}  # (module, name): name in the file
        self._imports: dict[str, tuple[str, str | None]] = {}
        self._statements: list[str] = []

    def add(self, module: str, name: str) -> str:
        """Add a definition with everything it depends on, and return its name in the file.

        Parameters
        ----------
        module, name : str
            Module, and name defined or imported in it.

        Raises
        ------
        ValueError
            If it depends on a package that is not allowed, or on something that cannot be copied.
        """
        source = self._source(module)
        if name in source.imports:
            return self._add_imported(name, *source.imports[name], module)
        if name not in source.definitions:
            raise ValueError(f"Module {module} defines no {name}; it defines {', '.join(sorted(source.definitions))}.")
        if (module, name) in self._written:
            return self._written[module, name]
        statement = source.definitions[name]
        for bound in _bound(statement):
            self._written[module, bound] = self._free_name(bound, module)
        self._write(statement, source)
        return self._written[module, name]

    def text(self, title: str, tail: str = "") -> str:
        """Return the text of the file: docstring with the title, imports, definitions, and the tail."""
        lines = ['"""' + title.strip() + '\n"""', "from __future__ import annotations\n"]
        lines += sorted(_import_line(name, *what) for name, what in self._imports.items())
        return "\n".join([*lines, "", "\n\n\n".join(self._statements), tail]).rstrip() + "\n"

    def _source(self, module: str) -> _Source:
        if module not in self._sources:
            self._sources[module] = _Source.read(module)
        return self._sources[module]

    def _add_imported(self, local: str, module: str, name: str | None, where: str) -> str:
        package = module.split(".")[0]
        if package in self.ours:
            if name is None or importlib.util.find_spec(module).submodule_search_locations is not None:
                raise ValueError(
                    f"Module {where} imports the module {local} of {module}; one file cannot hold a module. Import its "
                    "names."
                )
            return self.add(module, name)
        if package not in self.allowed and package not in sys.stdlib_module_names:
            raise ValueError(f"Module {where} needs {package}; the file may import {', '.join(self.allowed)} alone.")
        if self._imports.setdefault(local, (module, name)) != (module, name):
            raise ValueError(f"Name {local} is {self._imports[local]} in one module and {(module, name)} in {where}.")
        return local

    def _free_name(self, name: str, module: str) -> str:
        taken = {*self._written.values(), *self._imports}
        if name not in taken:
            return name
        stem = "_".join(module.split(".")[1:])  # two modules define the name: prefix the later one with its module
        return f"_{stem}_{name.lstrip('_')}"

    def _write(self, statement: ast.stmt, source: _Source) -> None:
        statement = _bare(statement)
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            for name in _bound(statement):
                if name in self.values:
                    statement.value = ast.parse(self.values[name], mode="eval").body
        names = {}
        for node in ast.walk(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names.update(self._imported_inside(node, source))
        statement = _WithoutImports(self.ours).visit(statement)
        local = _local_names(statement)
        for name in _loaded(statement):
            if name in source.definitions or name in source.imports:
                names[name] = self.add(source.name, name)
        changed = {old: new for old, new in names.items() if old != new}
        changed |= {n: self._written[source.name, n] for n in _bound(statement) if (source.name, n) in self._written}
        shadowed = sorted(name for name, new in changed.items() if name != new and name in local)
        if shadowed:
            raise ValueError(f"Module {source.name}: {', '.join(shadowed)} is both global and local; rename one.")
        _rename(statement, changed)
        self._statements.append(ast.unparse(ast.fix_missing_locations(statement)))

    def _imported_inside(self, node: ast.Import | ast.ImportFrom, source: _Source) -> Iterator[tuple[str, str]]:
        """Yield the new names of a function's imports: copy our packages, and check that others are allowed."""
        for local, (module, name) in _imported(node).items():
            if module.split(".")[0] in self.ours:
                yield local, self._add_imported(local, module, name, source.name)
            elif module.split(".")[0] not in (*self.allowed, *self.optional, *sys.stdlib_module_names):
                raise ValueError(
                    f"Module {source.name} imports {module} in a function; the file may import "
                    f"{', '.join(self.allowed)} alone."
                )


class _WithoutImports(ast.NodeTransformer):
    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return ast.Pass() if (node.module or "").split(".")[0] in self.packages else node


class _Bare(ast.NodeTransformer):
    """Shorten docstrings to their first line and remove annotations.

    Annotations are not needed in the file and would depend on more names.
    """

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            argument.annotation = None
        for argument in (node.args.vararg, node.args.kwarg):
            if argument is not None:
                argument.annotation = None
        return _first_line(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        return _first_line(node)


def _bare(statement: ast.stmt) -> ast.stmt:
    copied = ast.parse(ast.unparse(statement)).body[0]
    if isinstance(copied, ast.AnnAssign) and copied.value is not None:
        copied = ast.Assign([copied.target], copied.value, lineno=copied.lineno)
    return _Bare().visit(copied)


def _first_line(node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
    said = ast.get_docstring(node)
    if said:
        node.body[0] = ast.Expr(ast.Constant(value=said.splitlines()[0]))
    return node


def _imported(statement: ast.AST) -> dict[str, tuple[str, str | None]]:
    if isinstance(statement, ast.Import):
        return {alias.asname or alias.name.split(".")[0]: (alias.name, None) for alias in statement.names}
    if isinstance(statement, ast.ImportFrom) and statement.module != "__future__":
        return {alias.asname or alias.name: (statement.module or "", alias.name) for alias in statement.names}
    return {}


def _import_line(local: str, module: str, name: str | None) -> str:
    if name is None:
        return f"import {module}" if local == module.split(".")[0] else f"import {module} as {local}"
    return f"from {module} import {name}" + (f" as {local}" if local != name else "")


def _bound(statement: ast.stmt) -> list[str]:
    """Return the names that a top-level statement of a module assigns or defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _loaded(statement: ast.stmt) -> list[str]:
    """Return the names that a statement reads, without those in annotations, which are not evaluated."""
    said = {id(name) for node in ast.walk(statement) if isinstance(node, ast.AnnAssign)
            for name in ast.walk(node.annotation)}  # fmt: skip
    named = (node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    return list(dict.fromkeys(node.id for node in named if id(node) not in said))


def _local_names(statement: ast.stmt) -> set[str]:
    """Return the names that functions in a statement bind: arguments and assigned names."""
    found = set()
    for function in ast.walk(statement):
        if isinstance(function, ast.FunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.arg):
                    found.add(node.arg)
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    found.add(node.id)
    return found


def _rename(statement: ast.stmt, names: Mapping[str, str]) -> None:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        statement.name = names.get(statement.name, statement.name)
