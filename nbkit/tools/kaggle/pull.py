"""Download the files and the log of a notebook's last run on Kaggle.

All pages of the listing are read, files are written atomically, and no file name can point outside of the folder. The
client's own download is not used, because it saves the body of an error answer as if it were the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_atomically
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.names import check_name
from nbkit.runtime.words import counted
from nbkit.tools.kaggle.client import TIMEOUT, Kaggle, KaggleError

_PAGE = 100


@dataclass(frozen=True)
class Pulled:
    """Result of a download.

    Attributes
    ----------
    ref : str
        ``<user>/<notebook>``.
    folder : Path
    files : tuple of Path
    log : Path or None
        None if Kaggle has no log yet.
    skipped : tuple of str
        Files that were not written, because their names are not safe.
    """

    ref: str
    folder: Path
    files: tuple[Path, ...]
    log: Path | None
    skipped: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "ref": self.ref, "folder": str(self.folder), "files": [str(path) for path in self.files],
            "log": str(self.log) if self.log else None, "skipped": list(self.skipped),
        }  # fmt: skip

    def words(self) -> str:
        """Return the result as text."""
        lines = [f"{counted(len(self.files), 'file')} of {self.ref} saved in {self.folder}"]
        lines.append(f"log: {self.log}" if self.log else "Kaggle has no log of this run yet")
        return "\n".join([*lines, *(f"note: {name!r} was not saved: its name is not safe" for name in self.skipped)])


def pull_run(kaggle: Kaggle, ref: str, folder: Path, patterns: Sequence[str] = ()) -> Pulled:
    """Download the files and the log of a notebook's last run.

    Parameters
    ----------
    kaggle : Kaggle
    ref : str
        ``<user>/<notebook>``.
    folder : Path
        Where the files are saved; existing files are replaced.
    patterns : sequence of str
        Names to fetch, such as ``figures/*``; without any, all.

    Returns
    -------
    pulled : Pulled

    Raises
    ------
    KaggleError
        If the notebook was never pushed, or Kaggle does not return its files.
    """
    files, skipped, log = [], [], ""
    for page in _pages(kaggle, ref):
        log = log or page.log or ""
        for file in page.files or []:
            if patterns and not any(fnmatch(file.file_name, pattern) for pattern in patterns):
                continue
            try:
                check_name(file.file_name)
            except NbkitError:
                skipped.append(file.file_name)
                continue
            files.append(_fetch(kaggle, file.url, folder / file.file_name))
    path = folder / f"{ref.rpartition('/')[2]}.log" if log else None
    if path is not None:
        write_atomically(path, lambda file: file.write(log_text(log).encode("utf-8")))
    return Pulled(ref, folder, tuple(files), path, tuple(skipped))


def read_log(kaggle: Kaggle, ref: str) -> str:
    """Return the log of a notebook's last run as far as Kaggle has it; "" if it has none yet."""
    return next((log_text(page.log) for page in _pages(kaggle, ref) if page.log), "")


def _pages(kaggle: Kaggle, ref: str) -> Iterator[Any]:
    """Yield the pages of the listing of a run's files."""
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

    request = ApiListKernelSessionOutputRequest()
    request.user_name, _, request.kernel_slug = ref.partition("/")
    request.page_size = _PAGE

    def ask(api: Any) -> Any:
        with api.build_kaggle_client() as client:
            return client.kernels.kernels_api_client.list_kernel_session_output(request)

    while True:
        try:
            page = kaggle.ask(f"listing the files of {ref}", ask)
        except KaggleError as error:
            if error.status in (403, 404):
                raise KaggleError(f"Kaggle has no run of {ref}. Start one with 'nbkit push'.", error.status) from None
            raise
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _fetch(kaggle: Kaggle, url: str, path: Path) -> Path:
    import requests

    def get(api: Any) -> None:
        with requests.get(url, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            write_atomically(path, lambda file: [file.write(block) for block in answer.iter_content(1 << 20)])

    kaggle.ask(f"downloading {path.name}", get)
    return path


def log_text(log: str) -> str:
    """Return Kaggle's JSON log as text, each line with its time in seconds; any other text is returned as it is."""
    try:
        rows = json.loads(log)
        return "".join(f"{float(row['time']):9.1f} {row['data'].rstrip()}\n" for row in rows)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return log
