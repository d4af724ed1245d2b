"""Pull: the files and the log of a notebook's last run on Kaggle.

Every page of the listing is read, every file is written whole or not at all, and no name can leave the folder. (The
client's own download writes the body of an error answer as the file.)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_atomically
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.names import check_name
from nbkit.tools.kaggle.client import TIMEOUT, Kaggle, KaggleError

_PAGE = 100


@dataclass(frozen=True)
class Pulled:
    """Say what came.

    Attributes
    ----------
    files : tuple of Path
    log : Path or None
    skipped : tuple of str
        Names that no folder should hold.
    """

    ref: str
    folder: Path
    files: tuple[Path, ...]
    log: Path | None
    skipped: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "ref": self.ref, "folder": str(self.folder), "files": [str(path) for path in self.files],
            "log": str(self.log) if self.log else None, "skipped": list(self.skipped),
        }  # fmt: skip

    def words(self) -> str:
        """Lay it out for reading."""
        lines = [f"{len(self.files)} files of {self.ref} are in {self.folder}"]
        lines.append(f"its log: {self.log}" if self.log else "Kaggle has no log of it yet")
        return "\n".join([*lines, *(f"note: {name!r} was not written: no safe name" for name in self.skipped)])


def pull_run(kaggle: Kaggle, ref: str, folder: Path) -> Pulled:
    """Bring the files and the log of a notebook's last run.

    Parameters
    ----------
    kaggle : Kaggle
    ref : str
        ``<user>/<notebook>``.
    folder : Path
        Files that are there already are replaced.

    Raises
    ------
    KaggleError
        Where it was never pushed, or Kaggle does not give its files.
    """
    from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

    request = ApiListKernelSessionOutputRequest()
    request.user_name, _, request.kernel_slug = ref.partition("/")
    request.page_size = _PAGE

    def ask(api: Any) -> Any:
        with api.build_kaggle_client() as client:
            return client.kernels.kernels_api_client.list_kernel_session_output(request)

    files, skipped, log = [], [], ""
    while True:
        try:
            page = kaggle.ask(f"listing the files of {ref}", ask)
        except KaggleError as error:
            if error.status in (403, 404):
                raise KaggleError(f"Kaggle has no run of {ref}; 'nbkit push' begins one.", error.status) from None
            raise
        log = log or page.log or ""
        for file in page.files or []:
            try:
                check_name(file.file_name)
            except NbkitError:
                skipped.append(file.file_name)
                continue
            files.append(_fetch(kaggle, file.url, folder / file.file_name))
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    path = folder / f"{request.kernel_slug}.log" if log else None
    if path is not None:
        write_atomically(path, lambda file: file.write(log_text(log).encode("utf-8")))
    return Pulled(ref, folder, tuple(files), path, tuple(skipped))


def _fetch(kaggle: Kaggle, url: str, path: Path) -> Path:
    import requests

    def get(api: Any) -> None:
        with requests.get(url, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            write_atomically(path, lambda file: [file.write(block) for block in answer.iter_content(1 << 20)])

    kaggle.ask(f"downloading {path.name}", get)
    return path


def log_text(log: str) -> str:
    """Return a log as lines with seconds; Kaggle hands it out as JSON."""
    try:
        rows = json.loads(log)
        return "".join(f"{float(row['time']):9.1f} {row['data'].rstrip()}\n" for row in rows)
    except (ValueError, TypeError, KeyError):
        return log
