"""nbkit: one long, reliable run out of many short, free GPU sessions.

Importing this package loads nothing heavy and does nothing: no folder is made, no network asked, no seed set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbkit.ground import __version__

__all__ = ["__version__", "open_session", "settings"]

if TYPE_CHECKING:
    from nbkit.runtime.session import open_session
    from nbkit.runtime.settings import settings

_HOMES = {"open_session": "nbkit.runtime.session", "settings": "nbkit.runtime.settings"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'nbkit' has no attribute {name!r}; it offers {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
