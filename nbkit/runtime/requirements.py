"""Requirements of nbkit, from ``pyproject.toml``, and the check that the installed Lightning was tested.

Resuming bit for bit depends on details of Lightning's loops that change between releases. With an untested release a
training may continue with other numbers, or end without a step, and no error is shown. So the range in the list is the
tested one: the tests run with its lowest and newest release, and nothing is trained outside of it.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from typing import TYPE_CHECKING

from nbkit.ground.home import import_folder
from nbkit.runtime.errors import UsageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "nbkit-neuro"  # the name nbkit on the public index belongs to another project
TESTED = ("lightning",)  # packages that are only used in the range that was tested
# MB that each extra adds to the required packages, measured with the pinned versions on Linux; some seconds each by uv
_MB = {"drive": 130, "kaggle": 10, "hub": 15, "hbn": 310, "spikes": 5, "dask": 15, "decoding": 200, "tribe": 230,
       "dandi": 210, "slurm": 1, "tensorboard": 30, "wandb": 60}  # fmt: skip


def requirements() -> list[str]:
    """Return nbkit's requirements with the markers of its extras, from the checkout or else from the installation."""
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
    """Check that the version of a package was tested.

    Raises
    ------
    UsageError
        If it was not; the message shows the tested range and the command that installs a tested version.
    """
    need = required(name)
    if not need.specifier.contains(version, prereleases=True):
        raise UsageError(
            f"{name.capitalize()} {version} is installed, but nbkit was only tested with {need}. With other versions a "
            "training may continue with other numbers without an error. Nothing was trained, and the checkpoints are "
            f"unchanged. Run {sys.executable} -m pip install '{need}', restart the kernel, and run this again."
        )


def extra_of(package: str) -> str | None:
    """Return the extra that brings a package, by the name under which it is imported; None if none does."""
    from packaging.requirements import Requirement

    for need in map(Requirement, requirements()):
        same = need.name.lower().replace("-", "_") == package.partition(".")[0].lower()
        if same and need.marker is not None:
            found = re.search(r"extra == [\"']([\w-]+)[\"']", str(need.marker))
            if found and found[1] in _MB:  # not the one for nbkit's own developers
                return found[1]
    return None


def how_to_install(error: ModuleNotFoundError) -> str:
    """Return a sentence on the extra that brings a missing package; "" if none of nbkit's extras does."""
    extra = extra_of(error.name or "")
    if extra is None:
        return ""
    return (
        f"The package {error.name} is not installed; it belongs to nbkit's extra {extra!r} (about {_MB[extra]} MB). "
        f"Install it with: {sys.executable} -m nbkit install {extra} . Then restart the kernel and run this again; the "
        "work in the store is kept."
    )
