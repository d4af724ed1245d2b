"""The check that the installed Lightning was tested.

Resuming bit for bit depends on details of Lightning's loops that change between releases. With an untested release a
training may continue with other numbers, or end without a step, and no error is shown. So the range in the list is the
tested one: the tests run with its lowest and newest release, and nothing is trained outside of it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nbkit.ground.extras import requirements
from nbkit.runtime.errors import UsageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TESTED = ("lightning",)  # packages that are only used in the range that was tested


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
