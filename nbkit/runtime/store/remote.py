"""Any fsspec URL as a store: memory, sftp, s3, gcs and others.

A file is written under a temporary name and then moved; on object stores, where an upload is atomic by itself, it is
written directly. Each upload is read back before it counts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbkit.ground.files import TEMP_SUFFIX, sha256_of, write_atomically
from nbkit.runtime.errors import DamagedError, StoreError, UsageError
from nbkit.runtime.names import check_name, check_prefix
from nbkit.runtime.store.address import has_secrets, hide, show
from nbkit.runtime.store.folder import copy_checked
from nbkit.runtime.store.protocol import Stat

_WHOLE_UPLOADS = {"memory", "s3", "s3a", "gcs", "gs", "abfs", "az", "oci"}
_ONLY_READ = {"http", "https", "github", "git", "data", "reference", "zip", "tar", "libarchive", "jlab", "jupyter"}
_BLOCK = 1 << 20
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "modified", "updated", "last_modified")


class FsspecStore:
    """Files in an fsspec file system.

    Parameters
    ----------
    url : str
        Such as ``sftp://host/folder`` or ``s3://bucket/folder``.

    Raises
    ------
    UsageError
        If fsspec does not know the protocol, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self._address = url if url.endswith("://") else url.rstrip("/")
        self.url = show(self._address)
        from fsspec import AbstractFileSystem

        self.fs, self.root = _open(self._address)
        protocol = self.fs.protocol if isinstance(self.fs.protocol, str) else self.fs.protocol[0]
        self._whole = protocol in _WHOLE_UPLOADS
        self._move_copies = type(self.fs).mv is AbstractFileSystem.mv

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{check_name(name, 'store name')}"

    def put(self, path: Path, name: str) -> Stat:
        target, sha256 = self._path(name), sha256_of(path)
        size = os.path.getsize(path)
        folder, _, file = target.rpartition("/")
        temp = target if self._whole else f"{folder}/.{file}.{os.urandom(4).hex()}{TEMP_SUFFIX}"
        try:
            if self._content(target, size) == sha256:
                return Stat(name, size, f"sha256:{sha256}")
            self.fs.makedirs(folder, exist_ok=True)
            self.fs.put_file(os.fspath(path), temp)
            self._expect(temp, size, sha256, name)
            if temp != target:
                self.fs.mv(temp, target)
                if self._move_copies:
                    self._expect(target, size, sha256, name)
        except StoreError:
            self._remove(temp)
            raise
        except Exception as error:
            self._remove(temp)
            raise _worded(error, "put", name, self._address) from _cause(error, self._address)
        return Stat(name, size, f"sha256:{sha256}")

    def _expect(self, target: str, size: int, sha256: str, name: str) -> None:
        if self._content(target, size) != sha256:
            raise StoreError(f"{name} reads back from {self.url} otherwise than it was sent", passing=True)

    def _remove(self, temp: str) -> None:
        """Delete a failed upload, if the store allows it."""
        if not self._whole:
            with contextlib.suppress(Exception):  # the caller gets the first fault, not this one
                self.fs.rm_file(temp)

    def _content(self, target: str, size: int) -> str | None:
        """Return the SHA-256 of a file; None if there is none of that size."""
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
        source = self._path(name)
        try:
            info = self.fs.info(source)
            if info["type"] == "other":
                raise FileNotFoundError(source)  # a pipe would be waited for
            there = info["size"]
            with self.fs.open(source, "rb") as file:
                size, found = write_atomically(
                    path, lambda target: copy_checked(file, target, name, self.url, sha256, there)
                )
        except (DamagedError, StoreError):
            raise
        except Exception as error:
            if _is_missing(error):
                raise FileNotFoundError(errno.ENOENT, f"the store {self.url} holds no {name}") from None
            raise _worded(error, "get", name, self._address) from _cause(error, self._address)
        return Stat(name, size, f"sha256:{found}")

    def stat(self, name: str) -> Stat | None:
        path = self._path(name)
        try:
            self.fs.invalidate_cache()
            info = self.fs.info(path)
        except Exception as error:
            if _is_missing(error):
                return None
            raise _worded(error, "stat", name, self._address) from _cause(error, self._address)
        return Stat(name, int(info["size"])) if info["type"] == "file" else None

    def list(self, prefix: str = "") -> Iterator[Stat]:
        start = f"{self.root.rstrip('/')}/{check_prefix(prefix).rpartition('/')[0]}".rstrip("/")
        try:
            self.fs.invalidate_cache()
            found = self.fs.find(start, detail=True) if self.fs.exists(start) else {}
        except FileNotFoundError:
            return
        except Exception as error:
            raise _worded(error, "list", prefix, self._address) from _cause(error, self._address)
        base = self.fs._strip_protocol(self.root).rstrip("/")
        for path, info in sorted(found.items()):
            name = path.removeprefix(base).lstrip("/")
            if name.startswith(prefix) and "/." not in f"/{name}" and self._is_file(path, info):
                version = next((info[key] for key in _VERSIONS if info.get(key) is not None), None)
                yield Stat(name, int(info["size"]), changed=None if version is None else str(version))

    def _is_file(self, path: str, info: dict[str, Any]) -> bool:
        """Return whether something that is listed is a file, and no pipe or a link to itself; links may lead to one."""
        if info.get("type") != "other":
            return True
        with contextlib.suppress(OSError):
            return self.fs.info(path)["type"] == "file"
        return False

    def delete(self, name: str) -> None:
        path = self._path(name)
        try:
            self.fs.rm_file(path)
        except FileNotFoundError:
            return
        except Exception as error:
            raise _worded(error, "delete", name, self._address) from _cause(error, self._address)

    def connect(self) -> FsspecStore:
        """Return a store with a file system instance that no other thread uses."""
        other = object.__new__(FsspecStore)
        other.__dict__.update(self.__dict__)
        try:
            other.fs = type(self.fs)(*self.fs.storage_args, skip_instance_cache=True, **self.fs.storage_options)
        except Exception as error:
            raise _worded(error, "open", "the store", self._address) from _cause(error, self._address)
        return other


def _open(url: str) -> tuple[Any, str]:
    try:
        import fsspec

        protocol = fsspec.core.split_protocol(url)[0]
        if protocol in _ONLY_READ:
            raise ValueError(f"{protocol} cannot be written")
        return fsspec.core.url_to_fs(url)
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(
            f"The store {show(url)!r} cannot be opened: {hide(str(error), url)}. Allowed are a folder, or a URL that "
            "fsspec knows with its package installed. Nothing was written."
        ) from _cause(error, url)
    except Exception as error:  # each file system has errors of its own for a host that does not answer
        raise _worded(error, "open", "the store", url) from _cause(error, url)


def _is_missing(error: Exception) -> bool:
    """Return whether nothing is there, or a link that leads to itself."""
    return isinstance(error, FileNotFoundError | NotADirectoryError) or getattr(error, "errno", None) == errno.ELOOP


def _worded(error: Exception, verb: str, name: str, url: str) -> StoreError:
    permanent = isinstance(error, PermissionError | NotImplementedError | IsADirectoryError | ValueError)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        permanent = status < 500 and status not in (408, 409, 425, 429)
    words = f"{verb} {name} in {show(url)} failed: {type(error).__name__}: {hide(str(error), url)}"
    return StoreError(words, passing=not (permanent or full))


def _cause(error: Exception, url: str) -> Exception | None:
    """Return an error as the cause of another, unless a traceback would show the secrets of the address with it."""
    return None if has_secrets(url) else error
