"""Where each host keeps the user's Drive credential.

Files are searched first; Colab's secrets, which need the open page, come last. The text of a credential is only
returned to the caller.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from nbkit.runtime.hosts import detect
from nbkit.runtime.hosts.host import kaggle_input_folder

CREDENTIAL_FILE = "nbkit-drive-credential.json"
CREDENTIAL_VARIABLE = "NBKIT_DRIVE_CREDENTIAL"

_COLAB_FILES = Path("/content")


def host_credentials(
    environ: Mapping[str, str] | None = None, kaggle_input: Path | None = None, colab_files: Path = _COLAB_FILES
) -> Iterator[tuple[str, str]]:
    """Yield (description of the place, text) of every credential on this host.

    Parameters
    ----------
    environ : mapping or None
        Environment variables; those of this process by default.
    kaggle_input, colab_files : Path
        Folders for attached data and uploads; those of Kaggle and Colab by default.
    """
    host = detect(environ).name
    attached = kaggle_input or kaggle_input_folder(environ)
    if host == "kaggle" and attached is not None:
        # a private dataset is mounted as <slug>/ or, newer, as datasets/<owner>/<slug>/
        found = {path for depth in ("", "*/", "*/*/", "*/*/*/") for path in attached.glob(depth + CREDENTIAL_FILE)}
        yield from map(_file, sorted(found))
    elif host == "colab":
        if (colab_files / CREDENTIAL_FILE).is_file():
            yield _file(colab_files / CREDENTIAL_FILE)
        yield from _colab_secret()
    home = user_credential_path()
    if home.is_file():
        yield _file(home)


def user_credential_path() -> Path:
    """Return the file to which `nbkit login drive` writes the credential on the user's own machine."""
    import platformdirs

    return Path(platformdirs.user_config_dir("nbkit", appauthor=False)) / CREDENTIAL_FILE


def how_to_hand_on(environ: Mapping[str, str] | None = None) -> str:
    """Return text that tells where this host takes a credential from."""
    host = detect(os.environ if environ is None else environ).name
    return {
        "kaggle": f"a private dataset that holds {CREDENTIAL_FILE}, attached to the notebook",
        "colab": f"the secret {CREDENTIAL_VARIABLE} (key symbol at the left), or an upload of {CREDENTIAL_FILE}",
    }.get(host, f"the variable {CREDENTIAL_VARIABLE}, holding the path of {CREDENTIAL_FILE} or its one line")


def _file(path: Path) -> tuple[str, str]:
    return str(path), path.read_text("utf-8")


def _colab_secret() -> Iterator[tuple[str, str]]:
    try:
        from google.colab import userdata
    except ImportError:
        return  # a process on Colab's machine with another Python
    refusals = tuple(
        getattr(userdata, name)
        for name in ("SecretNotFoundError", "NotebookAccessError", "TimeoutException")
        if hasattr(userdata, name)
    )
    try:
        text = userdata.get(CREDENTIAL_VARIABLE)
    except refusals:
        return
    if text:
        yield f"Colab's secret {CREDENTIAL_VARIABLE}", text
