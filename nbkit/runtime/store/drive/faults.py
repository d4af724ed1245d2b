"""Drive's faults: which are passing, which are permanent, and what to do about the latter.

Each becomes a `DriveError`, a `StoreError` whose message has no address and no token: the address of an upload is as
good as a password.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import httplib2
from googleapiclient.errors import Error as ClientError
from googleapiclient.errors import HttpError
from oauth2client.client import AccessTokenRefreshError

from nbkit.runtime.errors import NbkitError, StoreError
from nbkit.runtime.store.drive.answers import OddAnswer
from nbkit.runtime.store.retried import retry_after

_RATES = {"rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded", "backendError", "internalError"}
_STATUSES = {408, 425, 429}
_FOREIGN = {403, 404, 407, 451}  # of another server's page, where Drive's own word for the fault is missing
_SECRET = re.compile(r"ya29\.[\w.-]+|1//[\w-]+|upload_id=[^\s&\"']+|Bearer\s+\S+")

_FULL = (
    "The Drive is full: {doing} was refused (storageQuotaExceeded). A free account holds 15 GB, its trash included, "
    "together with Gmail and Photos. What is in the store is safe, and files that wait are kept on this machine. Empty "
    "the trash or delete old files in Drive, then run again."
)
_LOGIN = (
    "The login to Drive no longer works ({cause}): {doing} was refused. The credential came from {where}. Google ends "
    "a login when it is revoked, unused for six months, or, while the consent screen stands in 'Testing', after 7 "
    "days: set it to 'In production'. What is in the store is safe, and files that wait are kept on this machine. Run "
    "'nbkit login drive' on your own machine, put the new credential where the old one was found, and run again."
)
_CLIENT = (
    "The OAuth client of the Drive credential from {where} is refused ({cause}): {doing} failed. It was deleted or its "
    "secret was changed in the Google Cloud console. Files that wait are kept on this machine. Create a client of the "
    "type 'Desktop app' there, run 'nbkit login drive --client FILE', and put the new credential where this one was "
    "found."
)
_PERMANENT = {
    "dailyLimitExceeded": "your OAuth client has no requests left today; the count restarts at midnight Pacific time",
    "numChildrenInNonRootLimitExceeded": "the folder has 500000 files, the most that Drive allows",
    "teamDriveFileLimitExceeded": "the shared drive has as many files as Drive allows",
    "appNotAuthorizedToFile": "nbkit may see only what it created itself (scope drive.file), which this is not",
    "insufficientFilePermissions": "this account may not write there",
    "accessNotConfigured": "the Google Drive API is not switched on in the Google Cloud project of your OAuth client",
}


class DriveError(StoreError):
    """A request that Drive refused or did not answer.

    Attributes
    ----------
    status : int or None
        HTTP status; None if no answer came.
    reason : str
        Drive's own word, such as ``"userRateLimitExceeded"``.
    """

    def __init__(
        self,
        message: str,
        *,
        passing: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message, passing=passing, retry_after=retry_after)
        self.status, self.reason = status, reason

    @property
    def is_gone(self) -> bool:
        """Whether Drive itself said that there is no such file, and not the page of a network's login."""
        return self.status == 404 and "notfound" in self.reason.lower()


@contextlib.contextmanager
def in_words(doing: str, where: str) -> Iterator[None]:
    """Turn every error of the client libraries into a `DriveError`.

    Parameters
    ----------
    doing : str
        What was attempted, such as ``"put a/b.npz"``.
    where : str
        Where the credential was found.
    """
    try:
        yield
    except (NbkitError, MemoryError):
        raise
    except AccessTokenRefreshError as error:
        raise _refresh_refused(error, doing, where) from None
    except HttpError as error:
        raise _answered(error, doing, where) from None
    except (httplib2.HttpLib2Error, HTTPException, OSError, ClientError, ValueError) as error:
        raise _unanswered(error, doing) from None
    except Exception as error:  # the client libraries stumble over answers that are not Drive's, each in its own way
        raise _unanswered(OddAnswer(f"{type(error).__name__} in the client"), doing) from None


def _refresh_refused(error: AccessTokenRefreshError, doing: str, where: str) -> DriveError:
    cause, status = _clean(str(error)), getattr(error, "status", None)
    code = cause.partition(":")[0].strip()
    if code == "invalid_grant":
        return DriveError(_LOGIN.format(cause=cause, doing=doing, where=where), status=status, reason=code)
    if code in ("invalid_client", "unauthorized_client", "deleted_client"):
        return DriveError(_CLIENT.format(cause=cause, doing=doing, where=where), status=status, reason=code)
    passing = status is None or status >= 500 or status in _STATUSES or code in ("internal_failure", "server_error")
    passing = passing or code.startswith("Invalid response")  # no word of the login server: another has answered
    return DriveError(
        f"{doing} failed: no access token was issued for the credential from {where} ({cause})",
        passing=passing, status=status, reason=code,
    )  # fmt: skip


def _answered(error: HttpError, doing: str, where: str) -> DriveError:
    status, reason = int(error.resp.status), _reason(error.content)
    words = f"{doing} failed: Drive answered {status}{f' ({reason})' if reason else ''}"
    known: dict[str, Any] = {"status": status, "reason": reason}
    if reason in ("storageQuotaExceeded", "quotaExceeded"):
        return DriveError(_FULL.format(doing=doing), **known)
    if status == 401:
        # a new token was just issued, so the login is good and the API will accept it soon
        return DriveError(f"{words}; the login itself is good", passing=True, **known)
    if status >= 500 or status < 400 or status in _STATUSES or reason in _RATES or (status in _FOREIGN and not reason):
        return DriveError(words, passing=True, retry_after=retry_after(error.resp.get("retry-after")), **known)
    why = _PERMANENT.get(reason) or _clean(error._get_reason())[:200]
    return DriveError(f"{words}: {why}. Files that wait are kept on this machine.", **known)


def _unanswered(error: Exception, doing: str) -> DriveError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return DriveError(
            f"{doing} failed: the server's certificate is not trusted here ({error.verify_message}). Look at this "
            "machine's clock and proxy. Files that wait are kept on this machine."
        )
    if isinstance(error, httplib2.ServerNotFoundError):
        why = "the server's name cannot be found; is the internet on? (Kaggle: notebook settings, Internet)"
    elif isinstance(error, TimeoutError):
        why = "no answer in time"
    elif isinstance(error, ValueError):
        what = str(error) if isinstance(error, OddAnswer) else "no JSON"
        why = f"the answer was not Drive's ({what}); does this network ask for a login of its own?"
    else:
        why = f"the connection broke ({type(error).__name__})"
    return DriveError(f"{doing} failed: {why}", passing=True)


def _reason(content: bytes) -> str:
    """Return Drive's own word for a fault; empty if the body has none, as an HTML page of a gateway."""
    try:
        error = json.loads(content)["error"]
        return str(error["errors"][0]["reason"]) if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ""


def _clean(text: str) -> str:
    return _SECRET.sub("...", text)
