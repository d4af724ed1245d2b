"""Sets of recordings that a published archive holds: downloaded once, checked, and put where the list expects them."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from nbkit.ground.download import local_file
from nbkit.ground.files import make_folder
from nbkit.runtime.errors import NbkitError
from nbkit.tools.results.listing import Data


def fetch(one: Data, data: Path) -> None:
    """Download the archive of a set and unpack its part into ``data/<folder>``, whole or not at all.

    Parameters
    ----------
    one : Data
        With the archive's url, the folder inside it, and the SHA-256 of some of the files there.
    data : Path
        Folder of all sets.

    Raises
    ------
    NbkitError
        If the archive cannot be downloaded or opened, or a file in it is missing or another than that of the list.
    """
    try:
        archive = local_file(one.url, data / "downloads")
    except (OSError, ValueError) as error:
        raise NbkitError(f"{one.folder} was not downloaded: {error}") from error
    make_folder(data)
    with tempfile.TemporaryDirectory(dir=data, prefix=".unpacked-") as scratch:
        target = Path(scratch, one.folder)
        try:
            _unpack(archive, PurePosixPath(one.inside), target)
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise NbkitError(f"{one.url} is no whole archive: {error}. Remove {archive} and run again.") from error
        for name, wanted in one.sha256.items():
            path = target / name
            found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "not in it"
            if found != wanted:
                raise NbkitError(
                    f"{name} of {one.url} is another file than the list was made with: SHA-256 {found}, expected "
                    f"{wanted}. Nothing was unpacked. Remove {archive}, or give the recordings yourself in {data}."
                )
        shutil.move(target, data / one.folder)


def _unpack(archive: Path, inside: PurePosixPath, target: Path) -> None:
    """Unpack the files below one folder of an archive; names that lead out of it are refused."""
    make_folder(target)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            names = [name for name in file.namelist() if _is_below(name, inside) and not name.endswith("/")]
            for name in names:
                path = target.joinpath(*PurePosixPath(name).relative_to(inside).parts)
                make_folder(path.parent)
                path.write_bytes(file.read(name))
        return
    with tarfile.open(archive) as file:
        for member in file:
            if member.isfile() and _is_below(member.name, inside):
                member.name = str(PurePosixPath(member.name).relative_to(inside))
                file.extract(member, target, filter="data")


def _is_below(name: str, inside: PurePosixPath) -> bool:
    path = PurePosixPath(name)
    return path.is_relative_to(inside) and ".." not in path.parts
