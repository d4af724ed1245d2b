"""Any fsspec URL as a store: memory, sftp, s3, gcs and the like.

Written under a temporary name and moved where a move is one step; on object stores, where an upload is whole by
itself, written directly. Every upload is read back before it counts.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import DamagedError, StoreError, UsageError
from nbkit.runtime.files import TEMP_SUFFIX, copy_hashed, sha256_of, write_atomically
from nbkit.runtime.names import check_name
from nbkit.runtime.store.protocol import Stat

_WHOLE_UPLOADS = {"memory", "s3", "s3a", "gcs", "gs", "abfs", "az", "oci", "hf"}
_BLOCK = 1 << 20


class FsspecStore:
    """Keep files behind an fsspec file system.

    Parameters
    ----------
    url : str
        Such as ``sftp://host/folder`` or ``s3://bucket/folder``.

    Raises
    ------
    UsageError
        For a protocol that fsspec does not know or whose package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.fs, self.root = _open(self.url)
        protocol = self.fs.protocol if isinstance(self.fs.protocol, str) else self.fs.protocol[0]
        self._whole = protocol in _WHOLE_UPLOADS

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{check_name(name, 'store name')}"

    def put(self, path: Path, name: str) -> Stat:
        target, sha256 = self._path(name), sha256_of(path)
        size = os.path.getsize(path)
        folder, _, file = target.rpartition("/")
        temp = target if self._whole else f"{folder}/.{file}.{os.getpid()}{TEMP_SUFFIX}"
        try:
            if self._content(target, size) == sha256:
                return Stat(name, size, f"sha256:{sha256}")
            self.fs.makedirs(folder, exist_ok=True)
            self.fs.put_file(os.fspath(path), temp)
            if self._content(temp, size) != sha256:
                raise StoreError(f"{name} reads back from {self.url} otherwise than it was sent", passing=True)
            if temp != target:
                self.fs.mv(temp, target)
        except StoreError:
            raise
        except Exception as error:
            raise _worded(error, "put", name, self.url) from error
        return Stat(name, size, f"sha256:{sha256}")

    def _content(self, target: str, size: int) -> str | None:
        """Give the hash of what is there, None where nothing of that size is."""
        try:
            self.fs.invalidate_cache()
            if self.fs.info(target)["size"] != size:
                return None
            digest = hashlib.sha256()
            with self.fs.open(target, "rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        try:
            with self.fs.open(self._path(name), "rb") as file:
                size, found = write_atomically(path, lambda target: copy_hashed(file, target))
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, f"the store {self.url} holds no {name}") from None
        except Exception as error:
            raise _worded(error, "get", name, self.url) from error
        if sha256 and found != sha256:
            path.unlink(missing_ok=True)
            raise DamagedError(
                f"{name} in {self.url} came with SHA-256 {found[:12]}..., its receipt says {sha256[:12]}.... The "
                "fetched copy was removed. Run again; if it stays so, 'nbkit verify' shows what else is hurt."
            )
        return Stat(name, size, f"sha256:{found}")

    def stat(self, name: str) -> Stat | None:
        try:
            self.fs.invalidate_cache()
            info = self.fs.info(self._path(name))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _worded(error, "stat", name, self.url) from error
        return Stat(name, int(info["size"])) if info["type"] == "file" else None

    def list(self, prefix: str = "") -> Iterator[Stat]:
        start = f"{self.root.rstrip('/')}/{prefix.rpartition('/')[0]}".rstrip("/")
        try:
            self.fs.invalidate_cache()
            found = self.fs.find(start, detail=True) if self.fs.exists(start) else {}
        except FileNotFoundError:
            return
        except Exception as error:
            raise _worded(error, "list", prefix, self.url) from error
        cut = len(self.fs._strip_protocol(self.root).rstrip("/")) + 1
        for path, info in sorted(found.items()):
            name = path[cut:]
            if name.startswith(prefix) and not name.rpartition("/")[2].startswith("."):
                yield Stat(name, int(info["size"]))

    def delete(self, name: str) -> None:
        try:
            self.fs.rm_file(self._path(name))
        except FileNotFoundError:
            return
        except Exception as error:
            raise _worded(error, "delete", name, self.url) from error

    def connect(self) -> FsspecStore:
        """Give a store with a file system instance that no other thread uses."""
        other = object.__new__(FsspecStore)
        other.url, other.root, other._whole = self.url, self.root, self._whole
        other.fs = type(self.fs)(*self.fs.storage_args, skip_instance_cache=True, **self.fs.storage_options)
        return other


def _open(url: str) -> tuple[Any, str]:
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"the store {url!r} cannot be opened: {error}. Allowed are a folder, or a URL that fsspec knows with its "
            "package installed. Nothing was written."
        ) from error


def _worded(error: Exception, verb: str, name: str, url: str) -> StoreError:
    permanent = isinstance(error, PermissionError | NotImplementedError | IsADirectoryError | ValueError)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        permanent = status < 500 and status not in (408, 409, 425, 429)
    return StoreError(f"{verb} {name} in {url} failed: {type(error).__name__}: {error}", passing=not (permanent or full))
