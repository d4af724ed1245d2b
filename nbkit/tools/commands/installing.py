"""Installation of the packages that a host's image lacks for nbkit, without replacing any that it has.

While pip runs, every package of the image is pinned, above all torch: pip either adds the missing packages beside them
or fails with a message. The command is ``python -m nbkit install``, followed by the extras that a notebook needs.
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

from nbkit.ground.extras import requirements
from nbkit.ground.fields import unknown
from nbkit.runtime.errors import NbkitError, UsageError

EXTRAS = ("drive", "hub")


def missing_requirements(extras: tuple[str, ...] = EXTRAS) -> list[str]:
    """Return the requirements of the installed nbkit that this image lacks entirely."""
    from packaging.requirements import Requirement

    missing = []
    for text in requirements():
        need = Requirement(text)
        wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if wanted and not _is_here(need.name):
            need.marker = None
            missing.append(str(need))
    return missing


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
    """Install the missing requirements and return them.

    Raises
    ------
    NbkitError
        If pip cannot add them without replacing something.
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
            f"Pip could not add {', '.join(missing)} to the packages of this image (exit code {done.returncode}; see "
            "its messages above). Nothing of the image was replaced. Check that the notebook's internet is switched on."
        )
    importlib.invalidate_caches()
    return missing


def known_extras() -> list[str]:
    """Return the names of nbkit's extras."""
    from packaging.requirements import Requirement

    markers = [str(Requirement(text).marker or "") for text in requirements()]
    return sorted({found for marker in markers for found in re.findall(r"extra == [\"']([\w-]+)[\"']", marker)})


def main(extras: Sequence[str] = ()) -> int:
    """Install what is missing, print what was added, and return the exit code."""
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
