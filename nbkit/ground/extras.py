"""Requirements of nbkit with its extras, from ``pyproject.toml``, and which extra brings a package that is missing."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib

from nbkit.ground.home import import_folder

DISTRIBUTION = "nbkit-neuro"  # the name nbkit on the public index belongs to another project
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
