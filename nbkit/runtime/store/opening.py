"""Open a store from an address."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nbkit.ground.extras import how_to_install
from nbkit.ground.home import home
from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.address import looks_mistyped, show
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
        if isinstance(url, Store):
            return url
        raise UsageError(f"store={url!r} is no store. Give a folder or a URL, as text or path. Nothing was written.")
    text = os.fspath(url)
    if text.startswith(("gdrive://", "https://drive.google.com/")):
        return _open_drive(text)
    if text.startswith("hf://"):
        return _open_hub(text)
    if "://" in text and not text.startswith("file://"):
        from nbkit.runtime.store.remote import FsspecStore

        return FsspecStore(text)
    folder = _folder_of(text)
    fault = _folder_fault(folder)
    if fault is not None:
        raise UsageError(f"The store {text!r} {fault}. A store is a folder or a URL. Nothing was written.")
    return FolderStore(folder)


def _folder_of(text: str) -> Path:
    """Return the folder that an address without a scheme names.

    Raises
    ------
    UsageError
        If a URL was meant: taken for a folder it would be lost with the machine, and its password be in the path.
    """
    if looks_mistyped(text):
        raise UsageError(
            f"The store {show(text)!r} looks like a URL, but has no '://' after its scheme. Write it as "
            "scheme://user:password@host/folder, or gdrive://<folder id>. If it is a folder, give its whole path, "
            "which begins with a slash. Nothing was written."
        )
    return _at_home(text.removeprefix("file://"))


def local_folder(folder: object) -> Path | None:
    """Return a session's folder on this machine, if it can be one; None for the host's default.

    Raises
    ------
    UsageError
        If it is no path.
    """
    if folder is None:
        return None
    if not isinstance(folder, str | os.PathLike) or "\0" in str(folder):
        raise UsageError(f"folder={folder!r} is no path of a folder. Give it as text or path. Nothing was written.")
    return Path(folder)


def _at_home(text: str) -> Path:
    if "\0" in text:
        raise UsageError(f"The folder {text!r} holds a NUL, which no path can. Give another. Nothing was written.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(
            f"The folder {text!r} begins with the home of a user that this machine does not know. Write its whole "
            "path. Nothing was written."
        ) from None


def _folder_fault(folder: Path) -> str | None:
    """Return why a path can be no folder of a store, as the end of a sentence; None where it is or can become one."""
    try:
        return None if stat.S_ISDIR(os.stat(folder).st_mode) else "is a file"
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        return f"cannot be opened: {os.strerror(error.errno or 0)}"
    above = Path(os.path.abspath(folder))
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    if not above.is_dir():
        return f"does not exist and cannot be made, because {above} is {_kind(above)} and no folder"
    if not os.access(above, os.W_OK | os.X_OK):
        return f"does not exist and cannot be made, because nothing can be written in {above}"
    return _not_made(folder, above)


def _kind(path: Path) -> str:
    return "a link to what is not there" if path.is_symlink() and not path.exists() else "a file"


def _not_made(folder: Path, above: Path) -> str | None:
    """Return why a system's own folder, such as /proc, refuses new ones though its rights allow them.

    Only such a folder is tried, which is known by having no size: nothing is made by those who only look.
    """
    try:
        if os.statvfs(above).f_blocks:
            return None
        first = above / folder.absolute().relative_to(above).parts[0]
        first.mkdir()
        first.rmdir()
    except OSError as error:
        return f"does not exist and cannot be made in {above}: {os.strerror(error.errno or 0)}"
    return None


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
    return text if "://" in text else os.path.realpath(_folder_of(text))


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
