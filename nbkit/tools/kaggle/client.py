"""Connection to Kaggle: Kaggle's own client, with the time-outs and retries that it lacks.

`import kaggle` logs in, creates a folder and prints, so it is imported inside functions with its output suppressed. No
representation and no message of this module contains the key, and the client is never verbose, because it would print
the key.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from nbkit.ground.extras import how_to_install
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.hosts.host import kaggle_input_folder
from nbkit.runtime.store.retried import retry, retry_after

T = TypeVar("T")
KEY_FILE = "kaggle.json"
TIMEOUT = 60.0  # seconds without a byte; without it the client waits forever
TRIES, FIRST_WAIT, LONGEST_WAIT = 6, 1.0, 60.0
_SESSION_TOKEN = "KAGGLE_API_V1_TOKEN"  # a notebook's own token; the client would prefer it to the attached key
_PASSING = (408, 429, 500, 502, 503, 504)
HOW_TO_LOG_IN = (
    "Create a token at https://www.kaggle.com/settings/api. Save its text as ~/.kaggle/access_token, or set "
    "KAGGLE_API_TOKEN to it; the file of an older key is ~/.kaggle/kaggle.json. They are never printed."
)


class KaggleError(NbkitError):
    """A request to Kaggle failed.

    Parameters
    ----------
    message : str
    status : int or None
        HTTP status; None if there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def has_credentials() -> bool:
    """Return whether this machine has a credential for Kaggle; no login is tried."""
    if os.environ.get("KAGGLE_API_TOKEN") or (os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY")):
        return True
    return attached_key() is not None or any(path.is_file() for path in _files())


def _files() -> Iterator[Path]:
    home, own = Path.home(), os.environ.get("KAGGLE_CONFIG_DIR")
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "kaggle")
    yield from (Path(folder, KEY_FILE) for folder in ([own] if own else [home / ".kaggle", settings]))
    yield from (home / ".kaggle" / name for name in ("access_token", "access_token.txt", "credentials.json"))


def attached_key() -> Path | None:
    """Return the key file in an attached private dataset on Kaggle; None if there is none or on other hosts."""
    folder = kaggle_input_folder()
    if folder is None:
        return None
    # Kaggle mounts a dataset as <slug>/ or, since recently, as datasets/<owner>/<slug>/
    found = (path for depth in ("*/", "*/*/", "*/*/*/") for path in glob.glob(str(folder / (depth + KEY_FILE))))
    return next((Path(path) for path in sorted(found)), None)


class Kaggle:
    """Calls to Kaggle as one user.

    Parameters
    ----------
    api : KaggleApi
        Kaggle's client, logged in.
    attached : bool
        True if the key comes from an attached dataset.
    first_wait : float
        Seconds before the second try of a call.
    tries : int
        Maximum number of tries per call.
    """

    def __init__(self, api: Any, attached: bool = False, first_wait: float = FIRST_WAIT, tries: int = TRIES) -> None:
        self._api, self._first_wait, self._tries, self._attached = api, first_wait, tries, attached
        self.user: str = api.config_values[api.CONFIG_NAME_USER]

    def __repr__(self) -> str:
        return f"Kaggle(as {self.user})"

    def key_file(self) -> bytes:
        """Return the content of a key file for a private dataset. It must never be printed.

        Raises
        ------
        UsageError
            If the login was made in a browser: its tokens expire after hours.
        """
        values, api = self._api.config_values, self._api
        kept = {name: values[field] for name, field in _key_fields(api).items() if values.get(field)}
        if "key" not in kept and ("token" not in kept or values.get(api.CONFIG_NAME_AUTH_METHOD, "").endswith("OAUTH")):
            raise UsageError(
                "The Kaggle login of this machine expires after some hours, but an unattended run needs a permanent "
                f"key. {HOW_TO_LOG_IN} Nothing was sent."
            )
        return json.dumps(kept).encode()

    def ask(self, what: str, call: Callable[[Any], T], again: Callable[[], bool] | None = None) -> T:
        """Make one call and return its answer; try again after temporary errors.

        Parameters
        ----------
        what : str
            Purpose of the call for error messages, such as ``"reading the quota"``.
        call : callable
            Called with the client's `KaggleApi`.
        again : callable or None
            For a call that must not succeed twice: called before another try; if it returns False, the error is raised
            instead.

        Raises
        ------
        KaggleError
            If Kaggle refused the call or did not answer.
        """

        def passing(error: BaseException) -> bool:
            return _is_passing(error) and (again is None or again())

        patience = {"first_wait": self._first_wait, "longest_wait": LONGEST_WAIT, "asked": _asked_wait}
        try:
            with self._as_the_user(), quiet():
                return retry(lambda: call(self._api), self._tries, passing=passing, **patience)
        except Exception as error:
            if isinstance(error, NbkitError) or not _is_of_the_client(error):
                raise
            raise _kaggle_error(what, error, self.user) from None

    @contextlib.contextmanager
    def _as_the_user(self) -> Iterator[None]:
        token = os.environ.pop(_SESSION_TOKEN, None) if self._attached else None
        try:
            yield
        finally:
            if token is not None:
                os.environ[_SESSION_TOKEN] = token


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress what the client prints; its failures are raised as errors all the same."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def connect(first_wait: float | None = None, tries: int = TRIES) -> Kaggle:
    """Log in to Kaggle with the credential of this machine: an attached key, variables, or the client's own files.

    Parameters
    ----------
    first_wait : float or None
        Seconds before the second try of a call; None for the default.
    tries : int
        Maximum number of tries per call.

    Returns
    -------
    kaggle : Kaggle

    Raises
    ------
    UsageError
        If there is no credential or the client is not installed.
    KaggleError
        If Kaggle does not answer or rejects the credential.
    """
    if not has_credentials():
        raise UsageError(f"This machine has no Kaggle credential. {HOW_TO_LOG_IN} Nothing was sent.")
    first_wait = FIRST_WAIT if first_wait is None else first_wait
    key = _read_key(attached_key())
    api = _timed(_client())()
    api.args = ["--local"] if os.environ.get("KAGGLE_API_ENVIRONMENT") == "LOCALHOST" else []
    if key is not None:
        api.config_values = {field: key[name] for name, field in _key_fields(api).items() if name in key}
        return Kaggle(api, True, first_wait, tries)
    try:
        with quiet():
            api.authenticate()
    except SystemExit:
        fault = next(filter(None, map(_fault_of, _files())), "Kaggle accepts none of this machine's credentials.")
        raise UsageError(f"{fault} {HOW_TO_LOG_IN}") from None
    except Exception as error:
        if not _is_of_the_client(error):
            raise
        raise _kaggle_error("logging in", error, "") from None
    return Kaggle(api, False, first_wait, tries)


def _key_fields(api: Any) -> dict[str, str]:
    return {"username": api.CONFIG_NAME_USER, "key": api.CONFIG_NAME_KEY, "token": api.CONFIG_NAME_TOKEN}


def _read_key(path: Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    try:
        fields = json.loads(path.read_text("utf-8"))
        texts = [fields["username"], fields.get("key") or fields.get("token")]
        if not all(isinstance(text, str) and text for text in texts):
            raise ValueError("empty")
        return fields
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} is not a valid {KEY_FILE} of Kaggle ({type(error).__name__}). Attach the dataset that "
            "'nbkit push dispatcher' creates. Nothing was sent."
        ) from None


def _fault_of(path: Path) -> str:
    """Return what is wrong with a credential's file, without its content; empty if nothing is seen."""
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""
    if not text:
        return f"{path} is empty."
    if path.suffix != ".json":
        return ""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        new = " It looks like a token of the new form, which belongs into access_token beside it." * ("{" not in text)
        return f"{path} is not the JSON of a key.{new}"
    lacking = [name for name in ("username", "key") if not isinstance(fields, dict) or not fields.get(name)]
    return f"{path} has no {' and no '.join(lacking)}." if lacking and path.name == KEY_FILE else ""


def _client() -> type:
    try:
        with contextlib.suppress(FileExistsError):
            return _imported()
        return _imported()  # another process, importing it for the first time, too, made its folder in between
    except ModuleNotFoundError as error:
        raise UsageError(f"Kaggle's client is not there. {how_to_install(error) or error} Nothing was sent.") from None


def _imported() -> type:
    with quiet():  # the import logs in, and prints if it cannot
        import kaggle  # by itself: after a failure its parts cannot be imported before it

    return kaggle.KaggleApi


def _timed(client: type) -> type:
    class Timed(client):
        """Kaggle's client with a time-out on every request."""

        def build_kaggle_client(self) -> Any:
            built = super().build_kaggle_client()
            http = built.http_client()
            http._init_session()
            send = http._session.send
            http._session.send = lambda request, **more: send(request, **{"timeout": TIMEOUT, **more})
            return built

    return Timed


# -- errors ------------------------------------------------------------------------------------------------------------


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_of_the_client(error: BaseException) -> bool:
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    return isinstance(error, RequestException | HTTPError | OSError | ValueError)


def _is_passing(error: BaseException) -> bool:
    from requests.exceptions import ChunkedEncodingError, ConnectionError, JSONDecodeError, Timeout

    html = isinstance(error, JSONDecodeError | json.JSONDecodeError)  # a proxy answered with a page in place of JSON
    broken = isinstance(error, ConnectionError | Timeout | ChunkedEncodingError)
    return html or broken or _status(error) in _PASSING


def _asked_wait(error: BaseException) -> float:
    """Return the seconds that Kaggle asked to wait, at most 300; 0 if it did not ask."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return min(retry_after(headers.get("Retry-After")) or 0.0, 300.0)


def _kaggle_error(what: str, error: Exception, user: str) -> KaggleError:
    status = _status(error)
    start = f"Error while {what}"
    if status == 401:
        return KaggleError(f"{start}: Kaggle rejects the credential of {user or 'this machine'}. {HOW_TO_LOG_IN}", 401)
    answer = re.sub(r" for url: \S+", "", str(error))[:500]
    if status is None and _is_passing(error):
        return KaggleError(
            f"{start}: Kaggle did not answer ({type(error).__name__}). Check the connection and run the command again.",
        )
    if status == 429:
        return KaggleError(f"{start}: Kaggle asks for fewer requests ({answer}). Wait some minutes and try again.", 429)
    return KaggleError(f"{start}: Kaggle answered {answer}", status)
