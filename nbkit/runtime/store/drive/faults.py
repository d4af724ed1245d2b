"""What Drive's refusals mean: which pass, which do not, and what to do about those.

Every fault becomes a `DriveError`, a `StoreError` whose words hold no address and no token: addresses of uploads are as
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

from nbkit.runtime.errors import StoreError
from nbkit.runtime.store.retried import retry_after

_RATES = {"rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded", "backendError", "internalError"}
_STATUSES = {408, 425, 429}
_SECRET = re.compile(r"ya29\.[\w.-]+|1//[\w-]+|upload_id=[^\s&\"']+|Bearer\s+\S+")

_FULL = (
    "the Drive is full: {doing} was refused (storageQuotaExceeded). A free account holds 15 GB, its trash included, "
    "together with Gmail and Photos. What is in the store stands, what waits is kept on this machine. Empty the trash "
    "or delete old files in Drive, then run again."
)
_LOGIN = (
    "the login to Drive no longer works ({cause}): {doing} was refused. The credential came from {where}. Google ends "
    "a login when it is revoked, unused for six months, or, while the consent screen stands in 'Testing', after 7 "
    "days: set it to 'In production'. What is in the store stands, what waits is kept on this machine. Run 'nbkit "
    "login drive' on your own machine, put the new credential where the old one was read, and run again."
)
_CLIENT = (
    "the OAuth client of the Drive credential from {where} is refused ({cause}): {doing} failed. It was deleted or its "
    "secret was changed in the Google Cloud console. What waits is kept on this machine. Make a client of the type "
    "'Desktop app' there, run 'nbkit login drive --client FILE', and put the new credential where this one was read."
)
_PERMANENT = {
    "dailyLimitExceeded": "the day's requests of your OAuth client are used up; they begin again at midnight Pacific",
    "numChildrenInNonRootLimitExceeded": "the folder holds 500000 files, more than Drive allows in one",
    "teamDriveFileLimitExceeded": "the shared drive holds as many files as it may",
    "appNotAuthorizedToFile": "nbkit may see only what it made itself (scope drive.file), and this it did not make",
    "insufficientFilePermissions": "this account may not write there",
    "accessNotConfigured": "the Google Drive API is not switched on in the Google Cloud project of your OAuth client",
}


class DriveError(StoreError):
    """Report what Drive refused.

    Attributes
    ----------
    status : int or None
        HTTP status; None where no answer came.
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


@contextlib.contextmanager
def in_words(doing: str, where: str) -> Iterator[None]:
    """Turn whatever the client libraries raise into a `DriveError`.

    Parameters
    ----------
    doing : str
        What was attempted, such as ``"put a/b.npz"``.
    where : str
        Where the credential was read.
    """
    try:
        yield
    except StoreError:
        raise
    except AccessTokenRefreshError as error:
        raise _refresh_refused(error, doing, where) from None
    except HttpError as error:
        raise _answered(error, doing, where) from None
    except (httplib2.HttpLib2Error, HTTPException, OSError, ClientError, ValueError) as error:
        raise _unanswered(error, doing) from None


def _refresh_refused(error: AccessTokenRefreshError, doing: str, where: str) -> DriveError:
    cause, status = _clean(str(error)), getattr(error, "status", None)
    code = cause.partition(":")[0].strip()
    if code == "invalid_grant":
        return DriveError(_LOGIN.format(cause=cause, doing=doing, where=where), status=status, reason=code)
    if code in ("invalid_client", "unauthorized_client", "deleted_client"):
        return DriveError(_CLIENT.format(cause=cause, doing=doing, where=where), status=status, reason=code)
    passing = status is None or status >= 500 or status in _STATUSES or code in ("internal_failure", "server_error")
    return DriveError(
        f"{doing} failed: no access token was given for the credential from {where} ({cause})",
        passing=passing, status=status, reason=code,
    )  # fmt: skip


def _answered(error: HttpError, doing: str, where: str) -> DriveError:
    status, reason = int(error.resp.status), _reason(error.content)
    words = f"{doing} failed: Drive answered {status}{f' ({reason})' if reason else ''}"
    known: dict[str, Any] = {"status": status, "reason": reason}
    if reason in ("storageQuotaExceeded", "quotaExceeded"):
        return DriveError(_FULL.format(doing=doing), **known)
    if status == 401:
        # the token endpoint has just given a new token, so the login is good and the API will follow
        return DriveError(f"{words}; the login itself is good", passing=True, **known)
    if status >= 500 or status < 400 or status in _STATUSES or reason in _RATES:
        return DriveError(words, passing=True, retry_after=retry_after(error.resp.get("retry-after")), **known)
    why = _PERMANENT.get(reason) or _clean(error._get_reason())[:200]
    return DriveError(f"{words}: {why}. What waits is kept on this machine.", **known)


def _unanswered(error: Exception, doing: str) -> DriveError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return DriveError(
            f"{doing} failed: the server's certificate is not trusted here ({error.verify_message}). Look at this "
            "machine's clock and proxy. What waits is kept on this machine."
        )
    if isinstance(error, httplib2.ServerNotFoundError):
        why = "the server's name cannot be found; is the internet on? (Kaggle: notebook settings, Internet)"
    elif isinstance(error, TimeoutError):
        why = "no answer in time"
    elif isinstance(error, ValueError):
        why = "the answer was no JSON"
    else:
        why = f"the connection broke ({type(error).__name__})"
    return DriveError(f"{doing} failed: {why}", passing=True)


def _reason(content: bytes) -> str:
    """Give Drive's own word for a refusal; empty where the body holds none, as an HTML page of a gateway."""
    try:
        error = json.loads(content)["error"]
        return str(error["errors"][0]["reason"]) if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


def _clean(text: str) -> str:
    return _SECRET.sub("...", text)
