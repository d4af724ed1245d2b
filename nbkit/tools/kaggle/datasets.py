"""The user's private datasets on Kaggle: nbkit's wheel, and the credentials that a run needs.

They contain what a push cannot upload. A new version is uploaded only if the content changed, which is seen from a
marker file whose name contains the content's hash. A credential is never uploaded to a dataset that others can see.
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

WHEEL, DRIVE_LOGIN, HUB_LOGIN, KAGGLE_KEY = "nbkit-wheel", "nbkit-drive-login", "nbkit-hub-login", "nbkit-kaggle-key"
PATIENCE = 600.0  # seconds that Kaggle may take to prepare a dataset
POLL = 1.0  # seconds between the first two looks, doubled each time
_READY, _FAILED = "READY", ("FAILED", "DELETED")
_GONE = (403, 404)  # Kaggle also answers 403 if something does not exist


@dataclass(frozen=True)
class Dataset:
    """Result of an upload.

    Attributes
    ----------
    ref : str
        ``<user>/<slug>``.
    change : str
        ``created``, ``new version`` or ``unchanged``.
    """

    ref: str
    change: str


def build_wheel(folder: Path, root: Path | None = None) -> Path:
    """Build nbkit's wheel from the checkout without network access, and return its path.

    The same sources result in the same bytes.

    Parameters
    ----------
    folder : Path
        Where the wheel is written.
    root : Path or None
        The checkout; the one that is running by default.

    Raises
    ------
    UsageError
        If the build backend is not installed.
    NbkitError
        If the build fails.
    """
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=root or checkout(), capture_output=True, text=True)
    if "No module named 'hatchling'" in done.stderr:
        raise UsageError(
            "The wheel for the host is built with hatchling, which is not installed. It comes with: "
            f"{sys.executable} -m nbkit install kaggle . Nothing was sent."
        )
    built = sorted(folder.glob("*.whl"))
    if done.returncode or not built:
        raise NbkitError(f"The wheel of nbkit could not be built. Nothing was sent.\n{done.stderr[-2000:]}")
    return built[-1]


def ensure_wheel(kaggle: Kaggle) -> Dataset:
    """Upload the wheel of this checkout to the user's wheel dataset, unless it is there already.

    Returns
    -------
    dataset : Dataset

    Raises
    ------
    NbkitError
        If nbkit runs from a wheel, as on Kaggle, and the dataset does not exist.
    """
    if checkout() is None:
        if look(kaggle, WHEEL) is None:
            raise NbkitError(
                f"The dataset {kaggle.user}/{WHEEL} does not exist, and no wheel can be built without a checkout. Run "
                "'nbkit push' once from a checkout. Nothing was sent."
            )
        return Dataset(f"{kaggle.user}/{WHEEL}", "unchanged")
    with tempfile.TemporaryDirectory(prefix="nbkit-wheel-") as folder:
        wheel = build_wheel(Path(folder))
        return ensure_dataset(kaggle, WHEEL, {wheel.name: wheel.read_bytes()})


def ensure_dataset(kaggle: Kaggle, slug: str, files: Mapping[str, bytes], *, secret: bool = False) -> Dataset:
    """Make a private dataset contain exactly these files; upload nothing if it does already.

    Parameters
    ----------
    kaggle : Kaggle
    slug : str
        Name of the dataset below the user's account.
    files : mapping
        Content of each file by name.
    secret : bool
        True to delete older versions, so that no revoked credential remains on Kaggle.

    Returns
    -------
    dataset : Dataset

    Raises
    ------
    UsageError
        If others can see the dataset.
    KaggleError
        If Kaggle rejects the upload or loses a file.
    """
    ref = f"{kaggle.user}/{slug}"
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])}\n".encode() + files[name])
    marker = f"content-{digest.hexdigest()[:16]}.txt"
    there = look(kaggle, slug)
    if there is not None and not there.is_private:
        raise UsageError(
            f"The dataset {ref} is public, and nbkit uploads to private datasets only. Make it private at "
            f"https://www.kaggle.com/datasets/{ref}/settings. Nothing was sent."
        )
    if there is not None and marker in _names(kaggle, ref) and _state(kaggle, ref) == _READY:
        return Dataset(ref, "unchanged")
    with tempfile.TemporaryDirectory(prefix="nbkit-dataset-") as folder, _temporary_files_in(folder):
        _write_files(Path(folder, "files"), slug, ref, {**files, marker: b"nbkit compares this file's name\n"})
        refusal = _upload(kaggle, ref, Path(folder, "files"), secret)
    # after a lost answer the client tries again by itself, and is then told that the name is taken
    if refusal and (look(kaggle, slug) is None or marker not in _names(kaggle, ref)):
        raise KaggleError(f"Kaggle rejected the dataset {ref}: {refusal} Nothing was pushed.")
    _wait(kaggle, ref)
    lost = {*files, marker} - _names(kaggle, ref)
    if lost:  # the client silently leaves out a file that it could not upload
        names = ", ".join(sorted(lost))
        raise KaggleError(f"Kaggle created {ref} without {names}. Run the command again. Nothing was pushed.")
    return Dataset(ref, "created" if there is None else "new version")


def look(kaggle: Kaggle, slug: str, owner: str | None = None) -> Any:
    """Return Kaggle's description of a dataset, of the user's own by default; None if no such dataset is visible."""
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
    """Make the client write its upload records to a folder that is deleted afterwards."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def _write_files(folder: Path, slug: str, ref: str, files: Mapping[str, bytes]) -> None:
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    metadata = {"id": ref, "title": slug.replace("-", " "), "licenses": [{"name": "unknown"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata))


def _upload(kaggle: Kaggle, ref: str, folder: Path, secret: bool) -> str:
    def send(api: Any) -> Any:
        if look(kaggle, ref.rpartition("/")[2]) is None:  # in every try: a try without an answer may have created it
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
            state = "not created yet"
        if state == _READY:
            return
        if state in _FAILED or time.monotonic() > end:
            raise KaggleError(
                f"The dataset {ref} is not ready ({state.lower()}). Look at https://www.kaggle.com/datasets/{ref} and "
                "run the command again. Nothing was pushed."
            )
        time.sleep(pause)
        pause = min(2 * pause, 10.0)
