"""What nbkit requires: the one list in ``pyproject.toml``, and the releases of Lightning that it trains with.

Going on bit for bit rests on the insides of Lightning's loops, which change from release to release: with another one a
training may go on with other numbers, or end without a step, and say nothing. So the range in the list is the tested
one, its lowest and newest release are run by the tests, and nothing is trained outside of it.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from typing import TYPE_CHECKING

from nbkit.ground.home import import_folder
from nbkit.runtime.errors import UsageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "nbkit-neuro"  # the name nbkit on the public index belongs to another project
TESTED = ("lightning",)  # whose range in the list is what was tested


def requirements() -> list[str]:
    """Return what nbkit requires, those of an extra with their marker: of the checkout, else as it was installed."""
    pyproject = import_folder() / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"] if pyproject.is_file() else {}
    if project.get("name") != DISTRIBUTION:
        return importlib.metadata.requires(DISTRIBUTION) or []
    extras = project["optional-dependencies"].items()
    return project["dependencies"] + [f"{need}; extra == '{extra}'" for extra, needs in extras for need in needs]


def required(name: str) -> Requirement:
    """Return the requirement of one package, such as ``lightning``."""
    from packaging.requirements import Requirement

    return next(need for need in map(Requirement, requirements()) if need.name == name and need.marker is None)


def check_tested(name: str, version: str) -> None:
    """Refuse to train with a version of a package that was not tested.

    Raises
    ------
    UsageError
        With the version seen, the range, and the command that installs a tested one.
    """
    need = required(name)
    if not need.specifier.contains(version, prereleases=True):
        raise UsageError(
            f"{name.capitalize()} {version} is installed, and nbkit was tested with {need} only: with others a "
            "training may go on with other numbers and not say so. Nothing was trained; checkpoints stay as they are. "
            f"Run {sys.executable} -m pip install '{need}', restart the kernel, and run this again."
        )
