"""One login to Drive for all threads of a process, each with its own connection.

Nothing here opens a browser, asks a question or waits without a limit: a credential that cannot be refreshed is an
error at once. PyDrive2 logs in and refreshes the token; its Drive v2 service makes the requests.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import httplib2
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from oauth2client.client import OAuth2Credentials
from pydrive2.auth import GoogleAuth

from nbkit.runtime.store.drive.answers import OddAnswer
from nbkit.runtime.store.drive.credential import SCOPE, DriveCredential
from nbkit.runtime.store.drive.faults import DriveError, in_words
from nbkit.runtime.store.retried import retry

T = TypeVar("T")
_TOKEN = re.compile(r"[\x21-\x7e]+")  # it becomes part of a header

TIMEOUT = 60.0  # seconds that one read or write of a socket may take
TRIES = 4  # of one request, before the store's own retries
FIRST_WAIT = 0.4  # seconds, doubled each time
_LONGEST_WAIT = 5.0  # longer waits are left to the store's retries, which know the session's end


class DriveAccess:
    """Authorized requests to Drive.

    Parameters
    ----------
    credential : DriveCredential
    timeout : float
        Seconds.
    first_wait : float
        Seconds before the second try of a request.
    """

    def __init__(self, credential: DriveCredential, timeout: float = TIMEOUT, first_wait: float = FIRST_WAIT) -> None:
        os.environ.setdefault("GDRIVE_NON_INTERACTIVE", "1")  # else PyDrive2 opens a browser and waits for ever
        logger = logging.getLogger("googleapiclient.http")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)  # it warns of each fault that is retried here
        self.credential, self._timeout, self._first_wait = credential, timeout, first_wait
        self._auth = GoogleAuth(settings=headless_settings(credential), http_timeout=timeout)
        self._auth.LoadCredentials()
        self._lock = threading.Lock()
        self._own = threading.local()
        self._files: Any = None

    def __repr__(self) -> str:
        return f"DriveAccess({self.credential!r})"

    def files(self) -> Any:
        """Return the service's ``files`` collection, whose methods return requests."""
        with self._lock:
            if self._files is None:
                self._files = self.service().files()  # once: each call takes 8 ms
        return self._files

    def service(self) -> Any:
        """Return a new Drive v2 service for the credential's server."""
        document = json.loads(get_static_doc("drive", "v2"))
        document["rootUrl"] = self.credential.api_root
        return build_from_document(document, http=self._bare_http())

    def http(self) -> Any:
        """Return this thread's own authorized connection, its access token refreshed if it has expired."""
        if getattr(self._own, "process", None) != os.getpid():  # a forked child must not use its parent's socket
            self._own.http, self._own.process = self._auth.Get_Http_Object(), os.getpid()
        credentials = self._auth.credentials
        if not credentials.access_token or credentials.access_token_expired:
            with self._lock:
                if not credentials.access_token or credentials.access_token_expired:
                    self._refresh(credentials)
        return self._own.http

    def _refresh(self, credentials: Any) -> None:
        """Get a new access token; what is not from the login server changes nothing."""
        known, token = credentials.refresh_token, None
        try:
            credentials.refresh(self._bare_http())
            token = credentials.access_token
            if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
                token = None
                raise OddAnswer("no access token")
        finally:
            credentials.access_token = token
            if token is None or not isinstance(credentials.refresh_token, str):
                credentials.refresh_token = known

    def _bare_http(self) -> httplib2.Http:
        return httplib2.Http(timeout=self._timeout)

    def drop_connection(self) -> None:
        """Close this thread's connection: after a fault it may be half-way through an answer."""
        self._own.process = None

    def once(self, doing: str, action: Any) -> Any:
        """Call ``action(http)`` with this thread's connection; any fault becomes a `DriveError`."""
        try:
            with in_words(doing, self.credential.where):
                return action(self.http())
        except DriveError as error:
            if error.status is None:
                self.drop_connection()
            raise

    def call(self, request: Any, doing: str, form: Callable[[Any], T]) -> T:
        """Execute a request that may be repeated, and return its answer.

        Parameters
        ----------
        request : HttpRequest
        doing : str
            For messages.
        form : callable
            One of `answers`: returns the answer in its form, or raises OddAnswer, which is a passing fault.

        Raises
        ------
        DriveError
            At once for a permanent fault. For a passing one after the last try, or if the server asks for a long wait.
        """
        return self.retried(lambda: self.once(doing, lambda http: form(request.execute(http=http))))

    def retried(self, call: Callable[[], T]) -> T:
        """Make a call that may be repeated, again after passing faults, and return its result."""
        return retry(call, TRIES, self._first_wait, time_left=lambda: _LONGEST_WAIT)


def headless_settings(credential: DriveCredential) -> dict[str, Any]:
    """Return settings with which PyDrive2 refreshes tokens without a person and writes no file."""
    saved = OAuth2Credentials(
        access_token=None,
        client_id=credential.client_id,
        client_secret=credential.client_secret,
        refresh_token=credential.refresh_token,
        token_expiry=None,
        token_uri=credential.token_uri,
        user_agent=None,
        scopes=[SCOPE],
    )
    return {
        "client_config_backend": "settings",
        "client_config": {
            "client_id": credential.client_id,
            "client_secret": credential.client_secret,
            "auth_uri": credential.auth_uri,
            "token_uri": credential.token_uri,
            "revoke_uri": "https://oauth2.googleapis.com/revoke",
            "redirect_uri": "",
        },
        # in memory: an attached dataset is on a read-only disk
        "save_credentials": True,
        "save_credentials_backend": "dictionary",
        "save_credentials_dict": {"login": saved.to_json()},
        "save_credentials_key": "login",
        "get_refresh_token": True,
        "oauth_scope": [SCOPE],
    }
