"""Colab: 12 hours at most, less when idle, and no GPU for certain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbkit.runtime.hosts.host import Host


def detect(environ: Mapping[str, str]) -> Host | None:
    """Give this host where its variables are set."""
    if "COLAB_RELEASE_TAG" not in environ:
        return None
    return Host(
        name="colab",
        folder=Path("/content/nbkit"),
        limit=9 * 3600.0,
        clock="process",
        batch=False,
        words="the machine ends at 12 h, earlier when idle; what is on it is lost then",
    )


def store_warning(address: str) -> str:
    """Say what a store in a mounted Drive deserves; empty for any other."""
    if not address.startswith("/content/drive/"):
        return ""
    return (
        "a mounted Drive: what it has not sent when the runtime disconnects is lost, although it was acknowledged; "
        "gdrive://<folder id> ('nbkit login drive') keeps what it acknowledges"
    )
