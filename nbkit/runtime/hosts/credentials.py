"""Where each host keeps the user's credential for the store: the login to Drive, or the Hub's token.

Files are searched first; Colab's secrets, which need the open page, come last. The text of a credential is only
returned to the caller.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from nbkit.runtime.hosts import detect
from nbkit.runtime.hosts.host import colab_folder, kaggle_input_folder

CREDENTIAL_FILE = "nbkit-drive-credential.json"
CREDENTIAL_VARIABLE = "NBKIT_DRIVE_CREDENTIAL"
HUB_FILE = "nbkit-hub-credential.json"
HUB_VARIABLE = "HF_TOKEN"  # the Hub's own client reads it, too


def host_credentials(
    environ: Mapping[str, str] | None = None,
    kaggle_input: Path | None = None,
    colab_files: Path | None = None,
    file: str = CREDENTIAL_FILE,
    variable: str = CREDENTIAL_VARIABLE,
) -> Iterator[tuple[str, str]]:
    """Yield (description of the place, text) of every credential on this host.

    Parameters
    ----------
    environ : mapping or None
        Environment variables; those of this process by default.
    kaggle_input, colab_files : Path or None
        Folders for attached data and uploads; those of Kaggle and Colab by default.
    file, variable : str
        Name of the credential's file, and of Colab's secret; those of Drive by default.
    """
    host = detect(environ).name
    attached = kaggle_input or kaggle_input_folder(environ)
    if host == "kaggle" and attached is not None:
        # a private dataset is mounted as <slug>/ or, newer, as datasets/<owner>/<slug>/
        found = {path for depth in ("", "*/", "*/*/", "*/*/*/") for path in attached.glob(depth + file)}
        yield from map(_file, sorted(found))
    elif host == "colab":
        uploaded = (colab_files or colab_folder(environ)) / file
        if uploaded.is_file():
            yield _file(uploaded)
        yield from _colab_secret(variable)
    home = user_credential_path(file)
    if home.is_file():
        yield _file(home)


def user_credential_path(file: str = CREDENTIAL_FILE) -> Path:
    """Return the file to which `nbkit login` writes a credential on the user's own machine."""
    import platformdirs

    return Path(platformdirs.user_config_dir("nbkit", appauthor=False)) / file


def how_to_hand_on(
    environ: Mapping[str, str] | None = None, file: str = CREDENTIAL_FILE, variable: str = CREDENTIAL_VARIABLE
) -> str:
    """Return text that tells where this host takes a credential from."""
    host = detect(os.environ if environ is None else environ).name
    return {
        "kaggle": f"a private dataset that holds {file}, attached to the notebook",
        "colab": f"the secret {variable} (key symbol at the left), or an upload of {file}",
    }.get(host, _variable_words(file, variable))


def _variable_words(file: str, variable: str) -> str:
    if variable == HUB_VARIABLE:
        return f"the variable {variable}, holding the token"
    return f"the variable {variable}, holding the path of {file} or its one line"


def _file(path: Path) -> tuple[str, str]:
    return str(path), path.read_text("utf-8")


def _colab_secret(variable: str) -> Iterator[tuple[str, str]]:
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
        text = userdata.get(variable)
    except refusals:
        return
    if text:
        yield f"Colab's secret {variable}", text
