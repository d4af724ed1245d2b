"""The list of what `nbkit results` runs, read from ``manifests/results.toml``.

What is run, with which parameters, and what it shows is data; this file only reads it. Unknown fields are rejected.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbkit.ground.fields import unknown
from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.runtime.names import check_slug
from nbkit.tools.notebooks import find_notebook
from nbkit.tools.parameters import check_parameters, notebook_parameters

_PACKAGE = re.compile(r"\{package:(?P<package>\w+)/(?P<folder>[\w/]+)\|(?P<otherwise>[^}]*)\}")
_TABLES = ("title", "system", "data", "run")


@dataclass(frozen=True)
class System:
    """A section of the page.

    Attributes
    ----------
    name : str
    about : str
        What its table is about, and where the longer trainings are.
    """

    name: str
    about: str


@dataclass(frozen=True)
class Data:
    """A set of recordings.

    Attributes
    ----------
    folder : str
        Its name below the folder of the data.
    about : str
        What it holds, and its source.
    url : str
        Archive that holds it; empty where none holds it in this form.
    inside : str
        Folder in the archive.
    sha256 : dict of str to str
        Of some files in that folder, which are checked.
    """

    folder: str
    about: str
    url: str = ""
    inside: str = ""
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One phase that is run, and what of it is shown.

    Attributes
    ----------
    name : str
        Unique; also the name of its folder and records.
    notebook : str
    store : str
        Its store, below the folder of all stores. The runs of one store follow each other in the list's order.
    system : str
    parameters : dict
        Of the notebook. In texts, {data} is the folder of the data, {lists} that of the list, {stores} that of the
        stores; {package:name/folder|other} is a folder of an installed package, and "other" without that package.
    data : tuple of str
        Folders of the data that it reads; a run of a store needs those of the store's earlier runs, too.
    after : tuple of str
        Runs of other stores that must be complete before.
    task : str
        What is measured, on whom; empty for a run that only prepares.
    scores : dict of str to str
        Name of a score in results.json to the model's name on the page.
    figure : str
        Name of the stored figure that the page shows; empty for none.
    caption : str
        What to see in it.
    aside : tuple of str
        Rivals that the overview does not draw, because they are so far off that nothing else could be told apart.
    units : str
        What the groups of its intervals are, where the phase calls them groups only.
    weights : str
        What its models' weights are, where the phase's own note is of some of them only.
    """

    name: str
    notebook: str
    store: str
    system: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    task: str = ""
    scores: dict[str, str] = field(default_factory=dict)
    figure: str = ""
    caption: str = ""
    aside: tuple[str, ...] = ()
    units: str = ""
    weights: str = ""

    @property
    def slug(self) -> str:
        """The phase's slug: the notebook's name without its number."""
        return Path(self.notebook).stem.partition("_")[2]

    def digest(self) -> str:
        """Return what tells whether a run is still the one that was complete: a hash of notebook and parameters."""
        said = json.dumps([self.notebook, self.store, self.parameters], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def given(self, **folders: Path) -> dict[str, Any]:
        """Return the parameters with the folders put in."""
        return {name: _filled(value, folders) for name, value in self.parameters.items()}


@dataclass(frozen=True)
class Plan:
    """The whole list."""

    path: Path
    title: str
    systems: tuple[System, ...]
    data: tuple[Data, ...]
    runs: tuple[Run, ...]


def list_file() -> Path:
    """Return the path of the list in this checkout, or in the installed package."""
    return home() / "manifests" / "results.toml"


def read_plan(path: Path | None = None) -> Plan:
    """Return the list, with every notebook and parameter checked.

    Raises
    ------
    UsageError
        If it does not exist or is not TOML, a table, field, notebook, parameter, system, set of data or earlier run is
        unknown, or a name occurs twice.
    """
    path = path or list_file()
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"The list {path} cannot be read: {error.strerror}. Nothing was begun.") from None
    except ValueError as error:
        raise UsageError(f"The list {path} cannot be read: {error}. Nothing was begun.") from None
    for name in document:
        if name not in _TABLES:
            raise UsageError(f"{path}: {unknown('table', name, _TABLES)} Nothing was begun.")
    made: dict[str, list[Any]] = {}
    for name, kind in (("system", System), ("data", Data), ("run", Run)):
        made[name] = [_row(kind, row, f"{path}, {name} {number + 1}") for number, row in enumerate(document[name])]
    plan = Plan(path, str(document.get("title", "Results")), *(tuple(made[name]) for name in _TABLES[1:]))
    _check(plan)
    return plan


def _row(kind: Any, row: dict[str, Any], where: str) -> Any:
    known = fields(kind)
    for name in row:
        if name not in {one.name for one in known}:
            raise UsageError(f"{where}: {unknown('field', name, [one.name for one in known])} Nothing was begun.")
    for one in known:
        if one.name not in row and one.default is MISSING and one.default_factory is MISSING:
            raise UsageError(f"{where}: the field {one.name!r} is missing. Nothing was begun.")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in row.items()})


def _check(plan: Plan) -> None:
    systems, folders = [one.name for one in plan.systems], [one.folder for one in plan.data]
    before: list[str] = []
    for run in plan.runs:
        check_slug(run.name)
        notebook = find_notebook(run.notebook)
        check_parameters(notebook, notebook_parameters(notebook), run.parameters)
        every = [(folders, "set of data", run.data), (before, "earlier run", run.after)]
        if run.task:
            every.append((systems, "system", (run.system,)))
        for allowed, what, names in every:
            for name in names:
                if name not in allowed:
                    raise UsageError(
                        f"{plan.path}, run {run.name!r}: {unknown(what, name, allowed)} Nothing was begun."
                    )
        if run.name in before:
            raise UsageError(f"{plan.path}: the run {run.name!r} occurs twice. Nothing was begun.")
        before.append(run.name)


def _packaged(found: re.Match[str]) -> str:
    """Return the folder inside an installed package, or without the package what stands for it."""
    spec = find_spec(found["package"])
    if spec is None or spec.origin is None:
        return found["otherwise"]
    return str(Path(spec.origin).parent / found["folder"])


def _filled(value: Any, folders: dict[str, Path]) -> Any:
    if isinstance(value, str):
        for name, folder in folders.items():
            value = value.replace("{" + name + "}", str(folder))
        return _PACKAGE.sub(_packaged, value)
    if isinstance(value, list | tuple):
        return [_filled(one, folders) for one in value]
    if isinstance(value, dict):
        return {name: _filled(one, folders) for name, one in value.items()}
    return value
