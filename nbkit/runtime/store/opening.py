"""Open a store from an address."""

from __future__ import annotations

import os
from pathlib import Path

from nbkit.ground.extras import how_to_install
from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.address import show
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Store

NOTEBOOKS_MARK = ".nbkit-notebooks"  # in a folder of copies that `nbkit notebooks` made


def open_store(url: str | os.PathLike[str] | Store) -> Store:
    """Open a store.

    Parameters
    ----------
    url : str, path or Store
        A folder, ``gdrive://<folder id>``, ``hf://datasets/<user>/<name>``, or any URL that fsspec knows. An open store
        is returned as it is.

    Raises
    ------
    UsageError
        If the path is a file, or the URL cannot be opened.
    """
    if not isinstance(url, str | os.PathLike):
        return url
    text = os.fspath(url)
    if text.startswith(("gdrive://", "https://drive.google.com/")):
        return _open_drive(text)
    if text.startswith("hf://"):
        return _open_hub(text)
    if "://" in text and not text.startswith("file://"):
        from nbkit.runtime.store.remote import FsspecStore

        return FsspecStore(text)
    folder = Path(text.removeprefix("file://")).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"The store {text!r} is a file. A store is a folder or a URL. Nothing was written.")
    return FolderStore(folder)


def default_store() -> Path:
    """Return the folder ``nbkit-store`` of the current folder; for a folder of notebooks, the one beside it.

    A kernel works in its notebook's folder and a terminal in the one above, and both should find the same store.
    """
    here = Path.cwd()
    of_notebooks = (here / NOTEBOOKS_MARK).is_file() or here == home() / "notebooks"
    return (here.parent if of_notebooks else here) / "nbkit-store"


def store_address(store: str | os.PathLike[str] | None) -> str:
    """Return a store's address that is valid in any working folder: a URL as it is, a folder as absolute path."""
    text = os.fspath(store or os.environ.get("NBKIT_STORE") or default_store())
    return text if "://" in text else str(Path(text).expanduser().resolve())


def _open_drive(url: str) -> Store:
    try:
        from nbkit.runtime.store.drive.store import open_drive
    except ModuleNotFoundError as error:
        raise UsageError(
            f"The store {show(url)!r} needs a package more. {how_to_install(error) or error} Nothing was written."
        ) from error
    return open_drive(url)


def _open_hub(url: str) -> Store:
    try:
        from nbkit.runtime.store.hub.store import open_hub
    except ImportError as error:
        raise UsageError(
            f"The store {show(url)!r} needs huggingface_hub 1.0 or newer, which is not installed ({error}). Run 'pip "
            "install -U huggingface_hub'. Nothing was written."
        ) from error
    return open_hub(show(url))
