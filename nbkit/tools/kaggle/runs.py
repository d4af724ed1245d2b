"""Runs on Kaggle: the record of each push in the store, and the state that Kaggle reports.

Each push writes one small file, ``<slug>/pushes/<time>-<id>.json``. So the dispatcher and every session know what was
pushed by whom and how far the phase was at that time, even without asking Kaggle.
"""

from __future__ import annotations

import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from nbkit.ground.files import read_json, write_json
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.ledger.records import Count, Seconds, Time, shortened
from nbkit.runtime.names import check_slug
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.words import show_duration
from nbkit.tools.kaggle.client import Kaggle, KaggleError, connect, has_credentials

BUSY = ("QUEUED", "RUNNING", "CANCEL_REQUESTED")


@dataclass(frozen=True)
class Push:
    """Record of a push.

    Attributes
    ----------
    slug : str
        The phase.
    ref, url : str
        ``<user>/<name>`` of the notebook on Kaggle, and its page.
    version : int
        Version of the notebook on Kaggle.
    time : float
        Unix time.
    hours : float
        The host's time limit for the run; on Colab its length, once it has ended.
    gpu : bool
        Whether it runs on a GPU.
    by : str
        Who pushed it: ``hand`` or ``dispatcher``.
    done, step : int
        Items done and training step in the store at that time.
    host : str
        ``kaggle`` or ``colab``.
    units : float
        Compute units that it used, or may use while it runs; 0 on Kaggle.
    shard : str
        Its part of the phase's items, such as ``2/2``; empty for all.
    lost : bool
        Whether its machine was lost, which says nothing about the run.
    """

    slug: str
    ref: str
    url: str
    version: Count
    time: Time
    hours: Seconds
    gpu: bool
    by: str
    done: int = 0
    step: int = 0
    host: str = "kaggle"
    units: Seconds = 0.0
    shard: str = ""
    lost: bool = False

    def row(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Run:
    """State of a run.

    Attributes
    ----------
    ref : str
        ``<user>/<name>`` of the notebook on Kaggle.
    state : str
        Kaggle's state in lower case, such as ``running``, ``complete`` or ``error``.
    message : str
        Kaggle's message about a failure.
    """

    ref: str
    state: str
    message: str = ""

    @property
    def busy(self) -> bool:
        """Whether it is queued or running."""
        return self.state.upper() in BUSY


def record_push(store: Store, push: Push, name: str = "") -> str:
    """Store the record of a push, under the name of an earlier one if given; return its name in the store."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(push.time))
    name = name or f"{check_slug(push.slug)}/pushes/{stamp}-{uuid.uuid4().hex[:8]}.json"
    with tempfile.TemporaryDirectory(prefix="nbkit-push-") as folder:
        path = Path(folder, "push.json")
        write_json(path, push.row())
        store.put(path, name)
    return name


def _to_stderr(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def read_pushes(store: Store, slug: str, say: Callable[[str], object] = _to_stderr) -> list[Push]:
    """Return all pushes of a phase, oldest first; `say` gets a line on each record that is damaged and left out."""
    found = []
    with tempfile.TemporaryDirectory(prefix="nbkit-push-") as folder:
        for number, stat in enumerate(list(store.list(f"{check_slug(slug)}/pushes/"))):
            path = Path(folder, f"{number}.json")
            store.get(stat.name, path)
            try:
                push = msgspec.convert(read_json(path), Push)
                if push.slug != slug or not all(text.isprintable() for text in (push.ref, push.url, push.by)):
                    raise ValueError(f"it is no push of {slug}")
                found.append(push)
            except ValueError as error:  # msgspec's errors are ValueErrors
                say(f"{stat.name} is no record of a push and is left out: {shortened(str(error))}")
    return sorted(found, key=lambda push: push.time)


def read_run(kaggle: Kaggle, ref: str) -> Run | None:
    """Return the state of a notebook's last run as Kaggle reports it; None if there is no run."""
    from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

    request = ApiGetKernelSessionStatusRequest()
    request.user_name, _, request.kernel_slug = ref.partition("/")

    def ask(api: Any) -> Any:
        with (
            api.build_kaggle_client() as client
        ):  # not the client's kernels_status: it reports a wrong key as a wrong name
            return client.kernels.kernels_api_client.get_kernel_session_status(request)

    try:
        answer = kaggle.ask(f"asking for the state of {ref}", ask)
    except KaggleError as error:
        if error.status in (403, 404):
            return None
        raise
    return Run(ref, answer.status.name.lower(), answer.failure_message or "")


def states(store: Store, slugs: list[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the state of the last pushed run of each phase, and a note if Kaggle could not be asked.

    Kaggle is not asked if nothing was pushed or this machine has no Kaggle credential. No error is raised.

    Returns
    -------
    runs : dict
        For each slug with a push, the fields of `Push` with ``state``, and ``message`` if Kaggle answered.
    note : str
        Empty if Kaggle was asked or nothing was pushed.
    """
    every = {slug: [push for push in read_pushes(store, slug) if push.host == "kaggle"] for slug in slugs}
    last = {slug: pushes[-1] for slug, pushes in every.items() if pushes}
    found: dict[str, dict[str, Any]] = {slug: {**push.row(), "state": "unknown"} for slug, push in last.items()}
    if not last or not has_credentials():
        return (
            found,
            "The state of the pushed runs is unknown, because this machine has no Kaggle credential." if last else "",
        )
    try:
        kaggle = connect(tries=2)  # a status table must not wait a minute for Kaggle
        for slug, push in last.items():
            run = read_run(kaggle, push.ref)
            if run is not None:
                found[slug] |= {"state": run.state, "message": run.message}
    except NbkitError as error:
        return found, f"Kaggle could not be asked for the state of the pushed runs: {error}"
    return found, ""


def state_words(found: dict[str, dict[str, Any]], note: str) -> list[str]:
    """Return one line of text for each run, and the note."""
    lines = []
    for slug, run in found.items():
        ago = show_duration(max(0.0, time.time() - run["time"]))
        why = f" ({run['message']})" if run.get("message") else ""
        lines.append(f"on Kaggle: {slug} {run['state']}{why}, version {run['version']}, pushed {ago} ago: {run['url']}")
    return [*lines, *([f"note: {note}"] if note else [])]
