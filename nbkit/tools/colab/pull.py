"""Fetch what the runs of a phase left in the store: executed notebooks, results, figures, logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import UsageError
from nbkit.runtime.names import check_slug
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.words import counted

_LARGE = ("items/", "ledger/", "checkpoints/", "pushes/")  # fetched only where a pattern asks for them


@dataclass(frozen=True)
class Fetched:
    """Result of a download from the store.

    Attributes
    ----------
    slug : str
    folder : Path
    files : tuple of Path
    """

    slug: str
    folder: Path
    files: tuple[Path, ...]

    def row(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {"slug": self.slug, "folder": str(self.folder), "files": [str(path) for path in self.files]}

    def words(self) -> str:
        """Return the result as text."""
        return f"{counted(len(self.files), 'file')} of {self.slug} saved in {self.folder}"


def pull_stored(store: Store, slug: str, folder: Path, patterns: Sequence[str] = ()) -> Fetched:
    """Download the files of a phase from the store.

    Parameters
    ----------
    store : Store
    slug : str
    folder : Path
        Where the files are saved; existing files are replaced.
    patterns : sequence of str
        Names to fetch, such as ``figures/*``; without any, all but items, checkpoints and records.

    Raises
    ------
    UsageError
        If there is no such file.
    """
    prefix = f"{check_slug(slug)}/"
    names = [stat.name.removeprefix(prefix) for stat in store.list(prefix)]
    wanted = [name for name in names if is_wanted(name, patterns)]
    if not wanted:
        there = sorted({name.partition("/")[0] for name in names})
        raise UsageError(
            f"{store.url} has no file of {slug} that fits {', '.join(patterns) or 'an output'}. There are: "
            f"{', '.join(there) or 'none at all'}. Nothing was fetched."
        )
    for name in wanted:
        store.get(prefix + name, folder / name)
    return Fetched(slug, folder, tuple(folder / name for name in wanted))


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a file is to be fetched."""
    if patterns:
        return any(fnmatch(name, pattern) for pattern in patterns)
    return not name.startswith(_LARGE)
