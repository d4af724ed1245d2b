"""NWB files of the DANDI archive (https://dandiarchive.org), by the archive's own client, one asset at a time.

An asset is named by its id, which never changes its content, so a row gives the same file in every session. It is
fetched for its item only and removed afterwards: a dandiset may be larger than the disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbkit.neuro.signals.intake.facts import RecordingError

_NAME = re.compile(r"(?:DANDI:)?(\d{6})(?:/([\w.]+))?(?::(.*))?", re.IGNORECASE)


def dandi_assets(path: str, api_url: str | None = None) -> list[dict[str, Any]]:
    """List the NWB assets of a dandiset as path, id, version and size in bytes, sorted by path.

    Parameters
    ----------
    path : str
        ``DANDI:000140``, with a version ``DANDI:000140/0.220113.0408`` and, after a colon, the start of the assets'
        paths: ``DANDI:000140:sub-Jenkins``. Without a version it is the newest published one.
    api_url : str, optional
        Another server of the archive's interface; by default dandiarchive.org.

    Raises
    ------
    RecordingError
        If the name is not valid, there is no such dandiset, or it has no such NWB file.
    """
    match = _NAME.fullmatch(path.strip())
    if match is None:
        seen = f"PATH={path!r} names no dandiset" if path.strip() else "PATH is not set"
        raise RecordingError(
            f"{seen}; give DANDI:000140, or with a version and the start of a path "
            "DANDI:000140/0.220113.0408:sub-Jenkins."
        )
    from dandi.exceptions import NotFoundError

    number, version, start = match[1], match[2], match[3] or ""
    with _client(api_url) as client:
        try:
            dandiset = client.get_dandiset(number, version, lazy=False)
            found = [a for a in dandiset.get_assets_with_path_prefix(start, order="path") if a.path.endswith(".nwb")]
        except NotFoundError as error:
            raise RecordingError(f"{path}: {error}") from None
        version = dandiset.version_id
    if not found:
        raise RecordingError(f"DANDI:{number}/{version} has no NWB file whose path starts with {start!r}.")
    rows = [{"path": a.path, "asset": a.identifier, "version": version, "size": a.size} for a in found]
    return sorted(rows, key=lambda row: row["path"])


def fetch_asset(row: Mapping[str, str], folder: Path, api_url: str | None = None) -> Path:
    """Fetch the asset of a row into a folder and return its path.

    Raises
    ------
    RecordingError
        If the archive does not have it any more, or the download is shorter than the archive says.
    """
    from dandi.exceptions import NotFoundError

    path = folder / Path(row["path"]).name
    with _client(api_url) as client:
        try:
            asset = client.get_asset(row["asset"])
        except NotFoundError as error:
            raise RecordingError(f"{row['path']}: {error}") from None
        asset.download(path)
        size = int(asset.size)
    if path.stat().st_size != size:
        raise RecordingError(
            f"{path.name} has {path.stat().st_size} bytes, the archive says {size}; run this item again."
        )
    return path


def _client(api_url: str | None) -> Any:
    try:
        from dandi.dandiapi import DandiAPIClient
    except ImportError:
        raise RecordingError("DANDI needs its client: pip install dandi (or nbkit-neuro[dandi]).") from None
    return DandiAPIClient.for_dandi_instance("dandi") if api_url is None else DandiAPIClient(api_url)
