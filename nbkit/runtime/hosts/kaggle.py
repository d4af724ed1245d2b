"""Kaggle: sessions of 12 hours at most, a working folder that an error or the wall takes along."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nbkit.runtime.hosts.host import Host

ROOT_VARIABLE = "NBKIT_KAGGLE_ROOT"  # a rehearsal's own folder in place of /kaggle: it needs no rights there
_ROOT = "/kaggle"


def detect(environ: Mapping[str, str]) -> Host | None:
    """Give this host where its variables are set."""
    kind = environ.get("KAGGLE_KERNEL_RUN_TYPE")
    if kind is None:
        return None
    return Host(
        name="kaggle",
        folder=Path(environ.get(ROOT_VARIABLE, _ROOT), "working", "nbkit"),
        limit=9 * 3600.0,
        clock="process",
        batch=kind == "Batch",
        words="the machine ends at 12 h without warning; 9 h is the default budget",
        room=20 * 10**9,  # of /kaggle/working
    )


def input_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """Give where attached datasets lie; None on another host."""
    environ = os.environ if environ is None else environ
    return Path(environ.get(ROOT_VARIABLE, _ROOT), "input") if "KAGGLE_KERNEL_RUN_TYPE" in environ else None
