"""The Hub's faults: which are passing, which are permanent, and what to do about the latter.

Each becomes a `HubError`, a `StoreError` whose message has no token and no signed address.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from nbkit.runtime.errors import StoreError
from nbkit.runtime.store.address import hide
from nbkit.runtime.store.retried import retry_after

_STATUSES = {408, 409, 412, 425, 429}
_TRANSPORT = {"httpx", "httpx2", "httpcore", "requests", "urllib3", "ssl", "json"}
_SECRET = re.compile(r"hf_\w{6,}|Bearer\s+\S+")
_RESETS = re.compile(r"\bt=(\d+)")

_LOGIN = (
    "The Hub's token no longer works (401): {doing} was refused. The token came from {where}. It was revoked, or it "
    "has expired. What is in the store is safe, and files that wait are kept on this machine. Run 'nbkit login hf' on "
    "your own machine with a new token, put it where the old one was found, and run again."
)
_MISSING = (
    "The Hub shows no data set {repo} to the token from {where}: {doing} was refused (404). It does not exist, or the "
    "token may not see it. Files that wait are kept on this machine. 'nbkit login hf' makes a private one and prints "
    "its hf:// address."
)
_RIGHTS = (
    "The token from {where} may not do this (403): {doing} was refused: {words}. Allowed is a token with the right to "
    "write to {repo}. Files that wait are kept on this machine. Make one at https://huggingface.co/settings/tokens, "
    "and run 'nbkit login hf'."
)
_FULL = (
    "The Hub's storage is full: {doing} was refused: {words}. Earlier contents of a repository count, too. What is in "
    "the store is safe, and files that wait are kept on this machine. Delete another repository or the history of this "
    "one on its settings page, then run again."
)


class HubError(StoreError):
    """The Hub failed to do what was requested.

    Attributes
    ----------
    status : int or None
        HTTP status; None if no answer came.
    """

    def __init__(
        self, message: str, *, passing: bool = False, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, passing=passing, retry_after=retry_after)
        self.status = status


@contextlib.contextmanager
def in_words(doing: str, repo: str, where: str) -> Iterator[None]:
    """Turn every error of the Hub's client into a `HubError`.

    Parameters
    ----------
    doing : str
        What was attempted, such as ``"put 3 files"``.
    repo : str
        Name of the data set.
    where : str
        Where the token was found.

    Raises
    ------
    HubError
    FileNotFoundError
        If a local file is gone.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise _worded(error, doing, repo, where) from None


def _worded(error: Exception, doing: str, repo: str, where: str) -> Exception:
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the client wraps what an upload's thread met
    if isinstance(error, HfHubHTTPError):
        return _answered(error, doing, repo, where)
    if isinstance(error, FileNotFoundError) and error.filename:
        return error
    words = _clean(error)
    if isinstance(error, ValueError) and re.search("storage|quota", words, re.IGNORECASE):
        return HubError(_FULL.format(doing=doing, words=words))
    if isinstance(error, OSError | ValueError) or type(error).__module__.partition(".")[0] in _TRANSPORT:
        why = "the answer was not what the client expects" if isinstance(error, ValueError) else "the connection broke"
        return HubError(f"{doing} failed: {why} ({type(error).__name__}: {words})", passing=True)
    return error


def _answered(error: HfHubHTTPError, doing: str, repo: str, where: str) -> HubError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    headers = getattr(response, "headers", {})
    words = _clean(getattr(error, "server_message", None) or error)
    known = {"doing": doing, "repo": repo, "where": where, "words": words}
    if status == 401:
        return HubError(_LOGIN.format(**known), status=status)
    if isinstance(error, EntryNotFoundError):  # another session has just deleted what was to be deleted
        return HubError(f"{doing} failed: {words}", passing=True, status=status)
    if status == 404:
        return HubError(_MISSING.format(**known), status=status)
    if status in (402, 403, 507) and re.search("storage|quota|limit", words, re.IGNORECASE):
        return HubError(_FULL.format(**known), status=status)
    if status == 403:
        return HubError(_RIGHTS.format(**known), status=status)
    if status is None or status >= 500 or status in _STATUSES:
        wait = retry_after(headers.get("retry-after"))
        if wait is None and (resets := _RESETS.search(headers.get("ratelimit", ""))) and status == 429:
            wait = float(resets[1])
        return HubError(f"{doing} failed: the Hub answered {status}", passing=True, retry_after=wait, status=status)
    return HubError(
        f"{doing} failed: the Hub answered {status}: {words}. Files that wait are kept on this machine.", status=status
    )


def _clean(error: object) -> str:
    return _SECRET.sub("...", hide(" ".join(str(error).split())))[:300]
