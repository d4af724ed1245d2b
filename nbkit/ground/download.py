"""A file by its path, its URL, or its place on the hub."""

from __future__ import annotations

from pathlib import Path


def local_file(address: str | Path, cache: str | Path | None = None) -> Path:
    """Return the path of a file, which is downloaded if the address is not a path.

    Parameters
    ----------
    address : str or path
        A path; a URL (http or https); or ``hf://owner/repository/file`` for a file of huggingface.co.
    cache : path, optional
        Folder for downloads; by default the user's own cache.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be downloaded; a file that was downloaded before needs no network.
    """
    text = str(address)
    if text.startswith("hf://"):
        return _from_hub(text)
    if text.startswith(("http://", "https://")):
        return _from_url(text, cache)
    path = Path(text).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}; pass the path of a file, a URL, or hf://owner/repository/file."
        )
    return path


def _from_hub(address: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    owner, _, rest = address.removeprefix("hf://").partition("/")
    repository, _, name = rest.partition("/")
    if not (owner and repository and name):
        raise ValueError(f"{address!r} is no file of the hub; give hf://owner/repository/file.")
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", name))
    except (HfHubHTTPError, EntryNotFoundError, OSError) as error:
        raise ValueError(_refusal(address, error)) from error


def _from_url(address: str, cache: str | Path | None) -> Path:
    import pooch

    folder = pooch.os_cache("nbkit") if cache is None else Path(cache)
    try:
        # Names carry a hash of the URL. The content has no known hash: a strict load follows, and checks every weight.
        return Path(pooch.retrieve(address, known_hash=None, path=folder, progressbar=False))
    except (OSError, ValueError) as error:
        raise ValueError(_refusal(address, error)) from error


def _refusal(address: str, error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return (
        f"{address} could not be downloaded: {type(error).__name__}: {first[:200]}. Turn the network on, check the "
        "address, or download it elsewhere and pass its path."
    )
