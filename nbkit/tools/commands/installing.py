"""Install what a host's image lacks for nbkit, and replace nothing that it brings.

Every package of the image is pinned while pip runs, torch above all: pip either adds what is missing beside them or
fails in words. ``python -m nbkit install`` does it, with the extras that a notebook needs named behind it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nbkit.ground.home import import_folder
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.words import unknown

EXTRAS = ("drive",)


def missing_requirements(extras: tuple[str, ...] = EXTRAS) -> list[str]:
    """Return the requirements of the installed nbkit that this image does not have at all."""
    from packaging.requirements import Requirement

    missing = []
    for text in _requirements():
        need = Requirement(text)
        wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if wanted and not _is_here(need.name):
            need.marker = None
            missing.append(str(need))
    return missing


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires("nbkit-neuro") or []
    except importlib.metadata.PackageNotFoundError:
        import tomllib

        # a checkout that is on the path only
        pyproject = import_folder() / "pyproject.toml"
        project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
        extras = project["optional-dependencies"].items()
        return project["dependencies"] + [f"{need}; extra == '{extra}'" for extra, needs in extras for need in needs]


def _is_here(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def pins() -> list[str]:
    """Return what is installed as ``name==version`` lines."""
    from packaging.requirements import InvalidRequirement, Requirement

    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        try:
            line = f"{distribution.metadata['Name']}=={distribution.version}"
            name = Requirement(line).name.lower()
        except (InvalidRequirement, FileNotFoundError):  # the latter from importlib_metadata, where that is installed
            continue  # a half-removed package, or a version that pip would choke on
        found.setdefault(name, line)  # the first on the path is the one that is imported
    return sorted(found.values())


def install_missing(extras: tuple[str, ...] = EXTRAS) -> list[str]:
    """Install what is missing and give it.

    Raises
    ------
    NbkitError
        Where pip cannot do so without replacing something.
    """
    missing = missing_requirements(extras)
    if not missing:
        return []
    with tempfile.TemporaryDirectory(prefix="nbkit-install-") as folder:
        constraints = Path(folder, "installed.txt")
        constraints.write_text("\n".join(pins()) + "\n", "utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*command, "--constraint", os.fspath(constraints), *missing])
    if done.returncode:
        raise NbkitError(
            f"pip could not add {', '.join(missing)} beside what this image has (exit code {done.returncode}; its "
            "words stand above). Nothing of the image was replaced. Is the notebook's internet switched on?"
        )
    importlib.invalidate_caches()
    return missing


def known_extras() -> list[str]:
    """Return the extras that nbkit has."""
    from packaging.requirements import Requirement

    markers = [str(Requirement(text).marker or "") for text in _requirements()]
    return sorted({found for marker in markers for found in re.findall(r"extra == [\"']([\w-]+)[\"']", marker)})


def main(extras: Sequence[str] = ()) -> int:
    """Do it, say what was added, and give the exit code."""
    try:
        for extra in extras:
            if extra not in known_extras():
                raise UsageError(f"{unknown('extra', extra, known_extras())} Nothing was installed.")
        added = install_missing((*EXTRAS, *extras))
    except NbkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"added to this image: {', '.join(added) or 'nothing'}")
    return 0
