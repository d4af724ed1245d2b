"""Phases, read from ``manifests/phases.toml``.

Each phase is described in this one file; notebooks, Kaggle's metadata, status and tests read it from here. Unknown
fields are rejected, so that a misspelt one is not silently ignored.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from nbkit.ground.fields import unknown
from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.runtime.names import check_slug

PLACEHOLDER = "KAGGLE_USERNAME"  # stands in the metadata of a copy without an owner

_ACCELERATORS = ("gpu", "cpu", "any")
_NAMES = ("owner", "phase")
_ACCOUNT = re.compile(r"(?:[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38})?(?<!-)")


@dataclass(frozen=True)
class Phase:
    """Description of one phase.

    Attributes
    ----------
    slug : str
        Unique name, such as ``bandvar_train``.
    number : int
        Position in the order.
    title : str
    module : str
        Module with its code; empty if it has none of its own.
    needs : tuple of str
        Slugs of the phases that it reads from.
    makes : tuple of str
        Description of what it writes to the store.
    accelerator : str
        ``gpu``, ``cpu`` or ``any``.
    sessions : int
        Expected number of sessions with the preset ``free``.
    session_hours : float
        Length of one session in hours.
    items : bool
        True if it processes the items of a manifest.
    figures : tuple of str
        Names of the figures that it stores.
    main_figure : str
        The one of them that the report shows at the top of its section; the last where it is empty.
    scores : tuple of str
        Names of its most important scores, which the first table of the report shows.
    gpu_gb : float
        Estimate of the GPU memory that a training step takes at the free preset, in GB, see
        `nbkit.neuro.training.steps.memory`; 0 where nothing is trained.
    gpu_pieces : int
        Number of pieces that its batches are cut into there.
    gpu_models : tuple of str
        The same memory for each of several models, as ``"name GB"``; ``gpu_gb`` is that of the largest.
    """

    slug: str
    number: int
    title: str
    module: str
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    accelerator: str
    sessions: int
    session_hours: float
    items: bool
    figures: tuple[str, ...]
    scores: tuple[str, ...]
    gpu_gb: float = 0.0
    gpu_pieces: int = 1
    gpu_models: tuple[str, ...] = ()
    main_figure: str = ""

    @property
    def notebook(self) -> str:
        """Name of its notebook, such as ``40_bandvar_train.ipynb``."""
        return f"{self.number:02d}_{self.slug}.ipynb"

    @property
    def kaggle_folder(self) -> str:
        """Name of its folder in ``kaggle/``, such as ``bandvar-train``."""
        return self.slug.replace("_", "-")


def phases_file() -> Path:
    """Return the path of the file in this checkout, or in the installed package."""
    return home() / "manifests" / "phases.toml"


def load_phases(path: Path | None = None) -> tuple[Phase, ...]:
    """Return all phases in the order of their numbers.

    Parameters
    ----------
    path : Path or None
        File to read; this installation's by default.

    Raises
    ------
    UsageError
        If the file does not exist or is not TOML, a field is unknown or missing, a value has another type, a slug or
        number occurs twice, or a phase needs one that does not exist or comes later.
    """
    path = path or phases_file()
    document = _document(path)
    for name in document:
        if name not in _NAMES:
            raise UsageError(f"{path}: {unknown('table', name, _NAMES)} Nothing was begun.")
    rows = document.get("phase", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path}: 'phase' must be a list of tables, each headed [[phase]]. Nothing was begun.")
    phases = sorted((_phase(row, path) for row in rows), key=lambda phase: phase.number)
    _check_order(phases, path)
    return tuple(phases)


def load_owner(path: Path | None = None) -> str:
    """Return the GitHub account of this copy of the repository; "" if none is set."""
    return check_owner(_document(path or phases_file()).get("owner", ""))


def check_owner(owner: object) -> str:
    """Check the name of a GitHub account, or "", and return it.

    Raises
    ------
    UsageError
        If no account can have this name.
    """
    if not isinstance(owner, str) or not _ACCOUNT.fullmatch(owner):
        raise UsageError(
            f"The owner {owner!r} is not the name of a GitHub account. Allowed: letters, digits and single hyphens "
            "between them, 39 characters at most, such as 'mary-smith'. Nothing was written."
        )
    return owner


def _document(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"The file of phases {path} does not exist. Reinstall nbkit or clone it again. Nothing was begun."
        ) from None
    except OSError as error:
        raise UsageError(f"The file of phases {path} cannot be read: {error.strerror}. Nothing was begun.") from None
    except (ValueError, RecursionError) as error:  # of TOML and of UTF-8
        raise UsageError(f"The file of phases {path} cannot be read: {error}. Nothing was begun.") from None


def find_phase(slug: str, phases: tuple[Phase, ...] | None = None) -> Phase:
    """Return the phase with a slug.

    Raises
    ------
    UsageError
        If there is none; the message names the most similar slug.
    """
    phases = load_phases() if phases is None else phases
    for phase in phases:
        if phase.slug == slug:
            return phase
    raise UsageError(f"{unknown('phase', slug, [phase.slug for phase in phases])} Nothing was begun.")


def _phase(row: dict[str, object], path: Path) -> Phase:
    where = f"{path}, phase {row.get('slug', '?')!r}"
    names = [field.name for field in fields(Phase)]
    for name in row:
        if name not in names:
            raise UsageError(f"{where}: {unknown('field', name, names)} Nothing was begun.")
    for field in fields(Phase):
        if field.name not in row and field.default is MISSING:
            raise UsageError(f"{where}: the field {field.name!r} is missing. Nothing was begun.")
    given = [field for field in fields(Phase) if field.name in row]
    values: dict[str, Any] = {f.name: _typed(f.name, str(f.type), row[f.name], where) for f in given}
    phase = Phase(**values)
    check_slug(phase.slug)
    if not 0 < phase.session_hours < 1000 or not 0 <= phase.sessions < 10**6 or not 0 <= phase.number < 10**4:
        raise UsageError(
            f"{where}: number is {phase.number}, sessions {phase.sessions}, session_hours {phase.session_hours}. "
            "Allowed are 0 to 9999, 0 to 999999, and more than 0 hours up to 1000. Nothing was begun."
        )
    if phase.main_figure and phase.main_figure not in phase.figures:
        raise UsageError(f"{where}: {unknown('main_figure', phase.main_figure, phase.figures)} Nothing was begun.")
    if phase.accelerator not in _ACCELERATORS:
        raise UsageError(f"{where}: {unknown('accelerator', phase.accelerator, _ACCELERATORS)} Nothing was begun.")
    return phase


def _typed(name: str, wanted: str, value: object, where: str) -> object:
    fits = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
        "tuple[str, ...]": isinstance(value, list) and all(isinstance(one, str) for one in value),
    }[wanted]
    if not fits:
        kind = wanted.replace("tuple[str, ...]", "a list of text")
        raise UsageError(f"{where}: {name} is {value!r}; it must be {kind}. Nothing was begun.")
    return tuple(value) if isinstance(value, list) else float(value) if wanted == "float" else value


def _check_order(phases: list[Phase], path: Path) -> None:
    for what in ("slug", "number"):
        values = [getattr(phase, what) for phase in phases]
        for value in values:
            if values.count(value) > 1:
                raise UsageError(f"{path}: the {what} {value!r} occurs twice. Nothing was begun.")
    before: list[str] = []
    for phase in phases:
        for need in phase.needs:
            if need not in before:
                raise UsageError(
                    f"{path}: {phase.slug} needs {need!r}, which is not an earlier phase. Allowed: "
                    f"{', '.join(before) or 'nothing yet'}. Nothing was begun."
                )
        before.append(phase.slug)
