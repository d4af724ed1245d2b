"""Location of this nbkit: a checkout of the repository or an installed package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def import_folder() -> Path:
    """Return the folder that another process needs on its PYTHONPATH to import the same nbkit."""
    return _PACKAGE.parent


def home() -> Path:
    """Return the folder that holds ``manifests/``, ``notebooks/`` and ``kaggle/``.

    Returns
    -------
    folder : Path
        The root of the checkout, or the package folder if nbkit was installed from a wheel.
    """
    return _PACKAGE.parent if (_PACKAGE.parent / "manifests" / "phases.toml").is_file() else _PACKAGE


def checkout() -> Path | None:
    """Return the root of the checkout that this nbkit runs from.

    Returns
    -------
    folder : Path or None
        None if nbkit was installed from a wheel.
    """
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir() else None
