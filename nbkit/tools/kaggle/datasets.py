"""The user's own private datasets: nbkit's wheel, and the credentials that a run needs.

What cannot go with a push goes here. A new version is made only when the content changed, known by a marker file
whose name holds the content's hash. A credential is never put into a dataset that others can see.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.home import checkout
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.tools.kaggle.client import Kaggle, KaggleError

WHEEL, DRIVE_LOGIN, KAGGLE_KEY = "nbkit-wheel", "nbkit-drive-login", "nbkit-kaggle-key"
PATIENCE = 600.0  # seconds that Kaggle may take to make a dataset ready
POLL = 1.0  # seconds until it is looked at again, doubled each time
_READY, _FAILED = "READY", ("FAILED", "DELETED")
_GONE = (403, 404)  # Kaggle answers 403 for what is not there


@dataclass(frozen=True)
class Dataset:
    """Say what became of a dataset.

    Attributes
    ----------
    ref : str
        ``<user>/<slug>``.
    change : str
        ``made``, ``new version`` or ``unchanged``.
    """

    ref: str
    change: str


def build_wheel(folder: Path, root: Path | None = None) -> Path:
    """Build nbkit's wheel from the checkout, without a network; the same sources give the same bytes.

    Raises
    ------
    UsageError
        Without the build backend.
    NbkitError
        Where it fails.
    """
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=root or checkout(), capture_output=True, text=True)
    if "No module named 'hatchling'" in done.stderr:
        raise UsageError(
            f"the wheel for Kaggle is built with hatchling, which is not here: {sys.executable} -m pip install "
            "hatchling. Nothing was sent."
        )
    built = sorted(folder.glob("*.whl"))
    if done.returncode or not built:
        raise NbkitError(f"nbkit's wheel could not be built. Nothing was sent.\n{done.stderr[-2000:]}")
    return built[-1]


def ensure_wheel(kaggle: Kaggle) -> Dataset:
    """See to it that the user's wheel dataset holds this checkout's nbkit.

    Raises
    ------
    NbkitError
        Where nbkit runs from a wheel, as on Kaggle itself, and the dataset is not there.
    """
    if checkout() is None:
        if look(kaggle, WHEEL) is None:
            raise NbkitError(
                f"there is no dataset {kaggle.user}/{WHEEL}, and without a checkout no wheel can be built. Run "
                "'nbkit push' once from a checkout. Nothing was sent."
            )
        return Dataset(f"{kaggle.user}/{WHEEL}", "unchanged")
    with tempfile.TemporaryDirectory(prefix="nbkit-wheel-") as folder:
        wheel = build_wheel(Path(folder))
        return ensure_dataset(kaggle, WHEEL, {wheel.name: wheel.read_bytes()})


def ensure_dataset(kaggle: Kaggle, slug: str, files: Mapping[str, bytes], *, secret: bool = False) -> Dataset:
    """See to it that a private dataset holds exactly these files.

    Parameters
    ----------
    kaggle : Kaggle
    slug : str
    files : mapping
        Content by name.
    secret : bool
        True to delete older versions, so that a credential that was taken back is not kept.

    Raises
    ------
    UsageError
        For a dataset that others can see.
    KaggleError
        Where Kaggle does not take it.
    """
    ref = f"{kaggle.user}/{slug}"
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])}\n".encode() + files[name])
    marker = f"content-{digest.hexdigest()[:16]}.txt"
    there = look(kaggle, slug)
    if there is not None and not there.is_private:
        raise UsageError(
            f"the dataset {ref} is public, and nbkit puts nothing there. Make it private at "
            f"https://www.kaggle.com/datasets/{ref}/settings. Nothing was sent."
        )
    if there is not None and marker in _names(kaggle, ref) and _state(kaggle, ref) == _READY:
        return Dataset(ref, "unchanged")
    with tempfile.TemporaryDirectory(prefix="nbkit-dataset-") as folder, _temporary_files_in(folder):
        _lay_out(Path(folder, "files"), slug, ref, {**files, marker: b"nbkit compares this file's name\n"})
        refusal = _upload(kaggle, ref, Path(folder, "files"), secret)
    # the client tries again by itself where an answer was lost, and is then told that the name is taken
    if refusal and (look(kaggle, slug) is None or marker not in _names(kaggle, ref)):
        raise KaggleError(f"Kaggle refuses the dataset {ref}: {refusal} Nothing was pushed.")
    _wait(kaggle, ref)
    lost = {*files, marker} - _names(kaggle, ref)
    if lost:  # the client goes on without a file that it could not upload, and says nothing
        raise KaggleError(f"Kaggle made {ref} without {', '.join(sorted(lost))}. Run it again; nothing was pushed.")
    return Dataset(ref, "made" if there is None else "new version")


def look(kaggle: Kaggle, slug: str, owner: str | None = None) -> Any:
    """Give Kaggle's description of a dataset, of the user's own by default; None where there is none to see."""
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = owner or kaggle.user, slug

    def ask(api: Any) -> Any:
        with api.build_kaggle_client() as client:
            return client.datasets.dataset_api_client.get_dataset(request)

    try:
        return kaggle.ask(f"looking for the dataset {request.owner_slug}/{slug}", ask)
    except KaggleError as error:
        if error.status in _GONE:
            return None
        raise


def _names(kaggle: Kaggle, ref: str) -> set[str]:
    names: set[str] = set()
    token: str | None = None
    while True:
        page = kaggle.ask(
            f"listing {ref}", lambda api, token=token: api.dataset_list_files(ref, page_token=token, page_size=100)
        )
        names |= {file.name for file in page.dataset_files or []}
        token = page.next_page_token
        if not token:
            return names


def _state(kaggle: Kaggle, ref: str) -> str:
    return kaggle.ask(f"asking for the state of {ref}", lambda api: api.dataset_status(ref)).upper()


@contextlib.contextmanager
def _temporary_files_in(folder: str) -> Any:
    """Keep the client's notes on its uploads in a folder that is wiped."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def _lay_out(folder: Path, slug: str, ref: str, files: Mapping[str, bytes]) -> None:
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    metadata = {"id": ref, "title": slug.replace("-", " "), "licenses": [{"name": "unknown"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata))


def _upload(kaggle: Kaggle, ref: str, folder: Path, secret: bool) -> str:
    def send(api: Any) -> Any:
        if look(kaggle, ref.rpartition("/")[2]) is None:  # asked again at each try: an unanswered one may have made it
            return api.dataset_create_new(str(folder), public=False, quiet=True)
        return api.dataset_create_version(str(folder), "by nbkit push", quiet=True, delete_old_versions=secret)

    return kaggle.ask(f"uploading {ref}", send).error or ""


def _wait(kaggle: Kaggle, ref: str) -> None:
    pause = POLL
    end = time.monotonic() + PATIENCE
    while True:
        try:
            state = _state(kaggle, ref)
        except KaggleError as error:
            if error.status not in _GONE:
                raise
            state = "not there yet"
        if state == _READY:
            return
        if state in _FAILED or time.monotonic() > end:
            raise KaggleError(
                f"the dataset {ref} is not ready ({state.lower()}); look at https://www.kaggle.com/datasets/{ref} and "
                "run it again. Nothing was pushed."
            )
        time.sleep(pause)
        pause = min(2 * pause, 10.0)
