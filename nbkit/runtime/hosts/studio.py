"""Lightning Studio: a folder that stays, a machine that may be taken after four hours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbkit.runtime.hosts.host import Host


def detect(environ: Mapping[str, str]) -> Host | None:
    """Give this host where its variables are set."""
    if "LIGHTNING_CLOUD_SPACE_ID" not in environ:
        return None
    return Host(
        name="studio",
        folder=Path(".nbkit"),
        limit=3.75 * 3600.0,
        clock="process",
        batch=False,
        words="a free Studio restarts after 4 h; 3 h 45 min is the default budget",
    )
