"""Push the notebook of a phase to Kaggle with the data it needs.

Kaggle's client reports a rejected push as a success. Here it is an error that shows Kaggle's own message and what to
do. If the answer to a push is lost, Kaggle is asked whether the run exists before it is pushed again, because each run
costs quota.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.training.newest import stored_runs
from nbkit.runtime.training.sameness.asked import ANEW
from nbkit.runtime.words import parse_duration
from nbkit.tools.handing_on import credential_files, reachable
from nbkit.tools.kaggle.client import KEY_FILE, Kaggle, KaggleError
from nbkit.tools.kaggle.copy import pushed_copy, require_names
from nbkit.tools.kaggle.datasets import DRIVE_LOGIN, HUB_LOGIN, KAGGLE_KEY, ensure_dataset, ensure_wheel, look
from nbkit.tools.kaggle.runs import Push, record_push
from nbkit.tools.parameters import refuse_options
from nbkit.tools.phases import PLACEHOLDER, Phase, find_phase

WALL_HOURS = 12.0
_LEAVE = 0.25  # hours between the end of the run's own budget and Kaggle's time limit
_WHAT_TO_DO = (
    ("session count", "Wait until a run ends ('nbkit status' shows them), or let 'nbkit dispatch' push it then."),
    ("quota", "'nbkit quota' shows when the next week begins. Phases that need no GPU can be pushed now."),
    ("not valid", "Check the sources in the phase's kernel-metadata.json: each must exist and be readable for you."),
)


class PushRefused(KaggleError):
    """Kaggle rejected a push."""


@dataclass(frozen=True)
class Pushed:
    """Result of a push.

    Attributes
    ----------
    push : Push
    datasets : tuple of str
        Attached datasets.
    notes : tuple of str
        Datasets that were created or changed, as text.
    """

    push: Push
    datasets: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {**self.push.row(), "datasets": list(self.datasets), "notes": list(self.notes)}

    def words(self) -> str:
        """Return the result as text."""
        where = "a GPU" if self.push.gpu else "a CPU"
        lines = [f"pushed {self.push.slug} as version {self.push.version}, on {where}: {self.push.url}"]
        lines += [f"attached: {', '.join(self.datasets)}", *(f"note: {note}" for note in self.notes)]
        return "\n".join([*lines, "'nbkit status' shows its state, 'nbkit pull' downloads its log and files"])


def push_phase(
    kaggle: Kaggle,
    slug: str,
    store: Store,
    parameters: Mapping[str, Any] | None = None,
    limit: str | float | None = None,
    by: str = "hand",
    progress: tuple[int, int] = (0, 0),
    hours: float | None = None,
    clock: Callable[[], float] = time.time,
    resume: str | None = None,
) -> Pushed:
    """Push a phase's notebook as a private one, with nbkit's wheel and the store's credential attached.

    Parameters
    ----------
    kaggle : Kaggle
    slug : str
    store : Store
        Store of the run; Kaggle must be able to reach it.
    parameters : mapping or None
        Values for the notebook's parameters.
    limit : str, float or None
        Length of the session; None uses the phase's own.
    by : str
        Who pushes: ``hand`` or ``dispatcher``.
    progress : tuple of (int, int)
        Items done and step in the store, for the record.
    hours : float or None
        Time limit after which Kaggle ends the run; a quarter of an hour more than `limit` by default.
    clock : callable
        Returns the Unix time.
    resume : str or None
        ``accept`` to resume with changed settings or data, ``anew`` to start again, once.

    Returns
    -------
    pushed : Pushed

    Raises
    ------
    UsageError
        If Kaggle cannot reach the store, a public notebook would get a credential, or a data source does not exist.
        Nothing is pushed then.
    PushRefused
        If Kaggle rejects the push; the message includes Kaggle's own.
    """
    phase = find_phase(slug)
    notebook = home() / "notebooks" / phase.notebook
    address = reachable(store.url)
    length = (parse_duration(limit) or 0.0) / 3600 if limit is not None else phase.session_hours
    if length > WALL_HOURS - _LEAVE:
        raise UsageError(
            f"A session of {length:g} h is too long for Kaggle, which ends each at {WALL_HOURS:g} h. Use at most "
            f"--limit {WALL_HOURS - _LEAVE:g}h. Nothing was sent."
        )
    hours = length + _LEAVE if hours is None else hours
    refuse_options(parameters or {}, {"STORE": "--store", "LIMIT": "--limit"})
    given = {"STORE": address, "LIMIT": f"{3600 * length:.0f}s", **(parameters or {})}
    require_names(notebook, ("STORE", "LIMIT"))
    if resume is not None:
        require_names(notebook, ("RESUME",))
        # a pushed copy may run more than once, so its fresh start goes by a number
        given["RESUME"] = f"fresh-{max([1, *stored_runs(store, slug)])}" if resume == ANEW else resume
    content = pushed_copy(notebook, given)
    metadata = read_metadata(phase, kaggle.user)
    secrets = _secrets(kaggle, phase, address)
    if secrets and not metadata["is_private"]:
        raise UsageError(
            f"The kernel-metadata.json of {slug} says is_private = false, and a credential would be attached "
            f"({', '.join(secrets)}), which others could use in a copy. Set is_private = true. Nothing was sent."
        )
    _check_sources(kaggle, metadata["dataset_sources"])
    attached = [ensure_wheel(kaggle)]
    attached += [ensure_dataset(kaggle, name, files, secret=True) for name, files in secrets.items()]
    refs = [dataset.ref for dataset in attached]
    metadata["dataset_sources"] = [*metadata["dataset_sources"], *refs]
    notes = [f"dataset {d.ref}: {d.change}" for d in attached if d.change != "unchanged"]
    answer = _send(kaggle, metadata, content, hours)
    version, url = answer.version_number or 0, answer.url or f"https://www.kaggle.com/code/{metadata['id']}"
    push = Push(slug, metadata["id"], url, version, clock(), hours, phase.accelerator == "gpu", by, *progress)
    record_push(store, push)  # before the sources are checked: the run has begun and costs quota in any case
    _check_begun(answer, url)
    return Pushed(push, tuple(metadata["dataset_sources"]), tuple(notes))


def read_metadata(phase: Phase, user: str) -> dict[str, Any]:
    """Return the Kaggle metadata of a phase, with the user's name filled in.

    Raises
    ------
    UsageError
        If the file does not exist or is not JSON.
    """
    path = home() / "kaggle" / phase.kaggle_folder / "kernel-metadata.json"
    try:
        metadata = json.loads(path.read_text("utf-8").replace(PLACEHOLDER, user))
        if not isinstance(metadata, dict) or not isinstance(metadata.get("id"), str):
            raise ValueError("no object with an id")
    except FileNotFoundError:
        raise UsageError(
            f"{path} of the phase {phase.slug} does not exist. Run 'python -m nbkit new --all' in a checkout. Nothing "
            "was sent."
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error}). Correct it and run this again. Nothing was sent.") from None
    # the same values as the client takes for true
    metadata["is_private"] = str(metadata.get("is_private", True)).lower() in ("true", "t", "1", "yes", "y")
    metadata["id"] = f"{user}/{metadata['id'].rpartition('/')[2]}"
    metadata["code_file"] = "notebook.ipynb"
    return {"dataset_sources": [], **metadata}


def _secrets(kaggle: Kaggle, phase: Phase, address: str) -> dict[str, dict[str, bytes]]:
    """Return the files of each credential dataset that a run of the phase needs."""
    files = credential_files(address)
    name = HUB_LOGIN if address.startswith("hf://") else DRIVE_LOGIN
    secrets: dict[str, dict[str, bytes]] = {name: files} if files else {}
    if phase.slug == "dispatcher":
        secrets[KAGGLE_KEY] = {KEY_FILE: kaggle.key_file()}
    return secrets


def _check_sources(kaggle: Kaggle, sources: list[str]) -> None:
    for ref in sources:
        owner, _, rest = ref.partition("/")
        if look(kaggle, rest.partition("/")[0], owner) is None:
            raise UsageError(
                f"There is no dataset {ref} that {kaggle.user} can read, so the run would start without it. Correct "
                "dataset_sources in the phase's kernel-metadata.json. Nothing was pushed."
            )


def _send(kaggle: Kaggle, metadata: dict[str, Any], content: dict[str, Any], hours: float) -> Any:
    """Push exactly once: after a lost answer, push again only if Kaggle has no new version."""
    from kagglesdk.kernels.types.kernels_api_service import ApiSaveKernelResponse

    before = _version(kaggle, metadata["id"])
    sent = False

    def not_there() -> bool:
        nonlocal sent
        sent = _version(kaggle, metadata["id"]) > before
        return not sent

    with tempfile.TemporaryDirectory(prefix="nbkit-push-") as folder:
        Path(folder, "kernel-metadata.json").write_text(json.dumps(metadata), "utf-8")
        Path(folder, "notebook.ipynb").write_text(json.dumps(content), "utf-8")
        try:
            answer = kaggle.ask(
                f"pushing {metadata['id']}", lambda api: api.kernels_push(folder, f"{3600 * hours:.0f}"), not_there
            )
        except KaggleError:
            if not sent:
                raise
            answer = ApiSaveKernelResponse()
            answer.version_number = _version(kaggle, metadata["id"])
    if answer.error:
        advice = next((text for part, text in _WHAT_TO_DO if part in answer.error.lower()), "Nothing is running.")
        raise PushRefused(f"Kaggle rejected {metadata['id']}: {answer.error} {advice}")
    return answer


def _check_begun(answer: Any, url: str) -> None:
    """Raise PushRefused if the run has started without some of its data."""
    wrong = {
        kind: list(getattr(answer, f"invalid_{kind}_sources", None) or [])
        for kind in ("dataset", "competition", "kernel", "model")
    }
    named = "; ".join(f"invalid {kind} sources: {', '.join(refs)}" for kind, refs in wrong.items() if refs)
    if named:
        raise PushRefused(
            f"Kaggle has started the run without its data ({named}). Cancel it at {url} to save quota, correct the "
            "sources in the phase's kernel-metadata.json, and push again."
        )


def _version(kaggle: Kaggle, ref: str) -> int:
    """Return the newest version number of a notebook; 0 if there is none."""
    from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest

    request = ApiGetKernelRequest()
    request.user_name, _, request.kernel_slug = ref.partition("/")

    def ask(api: Any) -> Any:
        with api.build_kaggle_client() as client:
            return client.kernels.kernels_api_client.get_kernel(request)

    try:
        found = kaggle.ask(f"looking for {ref}", ask)
    except KaggleError as error:
        if error.status in (403, 404):
            return 0
        raise
    return found.metadata.current_version_number or 0 if found.metadata else 0
