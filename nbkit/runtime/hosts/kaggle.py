"""Kaggle: sessions of 12 hours at most, a working folder that an error or the wall takes along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbkit.runtime.hosts.host import Host


def detect(environ: Mapping[str, str]) -> Host | None:
    """Give this host where its variables are set."""
    kind = environ.get("KAGGLE_KERNEL_RUN_TYPE")
    if kind is None:
        return None
    return Host(
        name="kaggle",
        folder=Path("/kaggle/working/nbkit"),
        limit=9 * 3600.0,
        clock="process",
        batch=kind == "Batch",
        words="the machine ends at 12 h without warning; 9 h is the default budget",
    )
