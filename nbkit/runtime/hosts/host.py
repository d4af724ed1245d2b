"""The hosts a session may run on: Kaggle, Colab, Lightning Studio, anywhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KAGGLE_ROOT_VARIABLE = "NBKIT_KAGGLE_ROOT"  # a rehearsal's folder in place of /kaggle
COLAB_ROOT_VARIABLE = "NBKIT_COLAB_ROOT"  # a test's folder in place of /content
_KAGGLE_ROOT = "/kaggle"
_COLAB_ROOT = "/content"


@dataclass(frozen=True)
class Host:
    """Where a session runs.

    Attributes
    ----------
    name : str
        ``kaggle``, ``colab``, ``studio`` or ``local``.
    folder : Path
        For this machine's files, which are lost with the machine.
    limit : float or None
        Seconds of a session, safely below the host's own limit; None if it has none.
    clock : str
        ``process`` if the limit counts from the start of the process, ``open`` if from the session's opening.
    batch : bool
        True if no person watches.
    words : str
        What a user should know about the host.
    room : int or None
        Bytes that the host keeps of what is in `folder`; None if only the disk sets a limit.
    """

    name: str
    folder: Path
    limit: float | None
    clock: str
    batch: bool
    words: str
    room: int | None = None


def detect(environ: Mapping[str, str] | None = None) -> Host:
    """Return the host that this process runs on.

    Parameters
    ----------
    environ : mapping or None
        Environment variables; those of this process by default.
    """
    environ = os.environ if environ is None else environ
    # Kaggle's image is built on Colab's, so Kaggle is tested first
    if "KAGGLE_KERNEL_RUN_TYPE" in environ:
        return Host(
            name="kaggle",
            folder=Path(environ.get(KAGGLE_ROOT_VARIABLE, _KAGGLE_ROOT), "working", "nbkit"),
            limit=9 * 3600.0,
            clock="process",
            batch=environ["KAGGLE_KERNEL_RUN_TYPE"] == "Batch",
            words="the machine ends at 12 h without warning; 9 h is the default budget",
            room=20 * 10**9,  # of /kaggle/working
        )
    if "COLAB_RELEASE_TAG" in environ:
        return Host(
            name="colab",
            folder=colab_folder(environ) / "nbkit",
            limit=9 * 3600.0,
            clock="process",
            batch=False,
            words="the machine ends at 12 h, earlier when idle; what is on it is lost then",
        )
    if "LIGHTNING_CLOUD_SPACE_ID" in environ:
        return Host(
            name="studio",
            folder=Path(".nbkit"),
            limit=3.75 * 3600.0,
            clock="process",
            batch=False,
            words="a free Studio restarts after 4 h; 3 h 45 min is the default budget",
        )
    return Host(
        name="local",
        folder=Path(".nbkit"),
        limit=None,
        clock="open",
        batch=False,
        words="no wall unless a limit is given",
    )


def kaggle_input_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the folder of attached Kaggle datasets, or None on another host."""
    environ = os.environ if environ is None else environ
    if "KAGGLE_KERNEL_RUN_TYPE" not in environ:
        return None
    return Path(environ.get(KAGGLE_ROOT_VARIABLE, _KAGGLE_ROOT), "input")


def colab_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return Colab's folder of uploads."""
    return Path((os.environ if environ is None else environ).get(COLAB_ROOT_VARIABLE, _COLAB_ROOT))


def store_warning(address: str) -> str:
    """Return a warning about a store in a mounted Drive; empty for any other address."""
    if not address.startswith("/content/drive/"):
        return ""
    return (
        "a mounted Drive: what it has not sent when the runtime disconnects is lost, although it was acknowledged; "
        "gdrive://<folder id> ('nbkit login drive') keeps what it acknowledges"
    )


@contextmanager
def environment(told: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and restore the earlier ones afterwards."""
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
