"""Runs on Kaggle: what was pushed, kept in the store, and how Kaggle says it goes.

A push leaves one small file, ``<slug>/pushes/<time>-<id>.json``, written once. So every session and the dispatcher
know what was pushed by whom and how far the phase was then, also without asking Kaggle.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_json
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.names import check_slug
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.words import show_duration
from nbkit.tools.kaggle.client import Kaggle, KaggleError, connect, has_credentials

BUSY = ("QUEUED", "RUNNING", "CANCEL_REQUESTED")


@dataclass(frozen=True)
class Push:
    """Say what was pushed.

    Attributes
    ----------
    slug, ref, url : str
        The phase; the run's ``<user>/<name>`` and page.
    version : int
        Of the notebook on Kaggle.
    time : float
        Unix time.
    hours : float
        Longest that the run may take.
    gpu : bool
    by : str
        ``hand`` or ``dispatcher``.
    done, step : int
        How far the phase was in the store.
    """

    slug: str
    ref: str
    url: str
    version: int
    time: float
    hours: float
    gpu: bool
    by: str
    done: int = 0
    step: int = 0

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Run:
    """Say how a run goes.

    Attributes
    ----------
    state : str
        Kaggle's word in small letters, such as ``running``, ``complete`` or ``error``.
    message : str
        Kaggle's words on a failure.
    """

    ref: str
    state: str
    message: str = ""

    @property
    def busy(self) -> bool:
        """True where it waits or runs."""
        return self.state.upper() in BUSY


def record_push(store: Store, push: Push) -> str:
    """Keep a push in the store; gives its name there."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(push.time))
    name = f"{check_slug(push.slug)}/pushes/{stamp}-{uuid.uuid4().hex[:8]}.json"
    with tempfile.TemporaryDirectory(prefix="nbkit-push-") as folder:
        path = Path(folder, "push.json")
        write_json(path, push.row())
        store.put(path, name)
    return name


def read_pushes(store: Store, slug: str) -> list[Push]:
    """Return all pushes of a phase, oldest first."""
    known = {field.name for field in fields(Push)}
    found = []
    with tempfile.TemporaryDirectory(prefix="nbkit-push-") as folder:
        for number, stat in enumerate(list(store.list(f"{check_slug(slug)}/pushes/"))):
            path = Path(folder, f"{number}.json")
            store.get(stat.name, path)
            row = json.loads(path.read_text("utf-8"))
            found.append(Push(**{name: value for name, value in row.items() if name in known}))
    return sorted(found, key=lambda push: push.time)


def read_run(kaggle: Kaggle, ref: str) -> Run | None:
    """Ask Kaggle how the last run of a notebook goes; None where there is none."""
    from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

    request = ApiGetKernelSessionStatusRequest()
    request.user_name, _, request.kernel_slug = ref.partition("/")

    def ask(api: Any) -> Any:
        with api.build_kaggle_client() as client:  # the client's own kernels_status takes a wrong key for a wrong name
            return client.kernels.kernels_api_client.get_kernel_session_status(request)

    try:
        answer = kaggle.ask(f"asking for the state of {ref}", ask)
    except KaggleError as error:
        if error.status in (403, 404):
            return None
        raise
    return Run(ref, answer.status.name.lower(), answer.failure_message or "")


def states(store: Store, slugs: list[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """Return how the pushed runs of phases go, by slug, and words where Kaggle could not be asked.

    Nothing is asked where nothing was pushed, or where this machine has no Kaggle credential; it never fails.
    """
    last = {slug: pushes[-1] for slug in slugs if (pushes := read_pushes(store, slug))}
    found: dict[str, dict[str, Any]] = {slug: {**push.row(), "state": "unknown"} for slug, push in last.items()}
    if not last or not has_credentials():
        return found, "no Kaggle credential is here to ask how the pushed runs go" if last else ""
    try:
        kaggle = connect(tries=2)  # nobody waits a minute for a table
        for slug, push in last.items():
            run = read_run(kaggle, push.ref)
            if run is not None:
                found[slug] |= {"state": run.state, "message": run.message}
    except NbkitError as error:
        return found, f"Kaggle could not be asked how the pushed runs go: {error}"
    return found, ""


def state_words(found: dict[str, dict[str, Any]], note: str) -> list[str]:
    """Lay the runs out for reading, a line each."""
    lines = []
    for slug, run in found.items():
        ago = show_duration(max(0.0, time.time() - run["time"]))
        why = f" ({run['message']})" if run.get("message") else ""
        lines.append(f"at Kaggle: {slug} {run['state']}{why}, version {run['version']}, pushed {ago} ago: {run['url']}")
    return [*lines, *([f"note: {note}"] if note else [])]
