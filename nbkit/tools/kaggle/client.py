"""The connection to Kaggle: its own client, with time-outs and retries that it lacks.

`import kaggle` logs in, makes a folder and prints, so it happens inside functions, silenced. The key is in no
representation and no message of this module, and the client is never verbose: it would print the key.
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

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.hosts.host import kaggle_input_folder
from nbkit.runtime.store.retried import retry, retry_after

T = TypeVar("T")
KEY_FILE = "kaggle.json"
TIMEOUT = 60.0  # seconds without a byte; the client itself would wait for ever
TRIES, FIRST_WAIT, LONGEST_WAIT = 6, 1.0, 60.0
_SESSION_TOKEN = "KAGGLE_API_V1_TOKEN"  # a notebook's own token, which must not stand before the attached key
_PASSING = (408, 429, 500, 502, 503, 504)
HOW_TO_LOG_IN = (
    "Make a token at https://www.kaggle.com/settings/api and save it as ~/.kaggle/kaggle.json, or set KAGGLE_USERNAME "
    "and KAGGLE_KEY; nothing of it is ever printed."
)


class KaggleError(NbkitError):
    """Report that Kaggle did not do what was asked.

    Parameters
    ----------
    message : str
    status : int or None
        HTTP status; None where no answer came.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def has_credentials() -> bool:
    """Return whether this machine could log in to Kaggle, without trying."""
    if os.environ.get("KAGGLE_API_TOKEN") or (os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY")):
        return True
    return attached_key() is not None or any(path.is_file() for path in _files())


def _files() -> Iterator[Path]:
    home, own = Path.home(), os.environ.get("KAGGLE_CONFIG_DIR")
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config", "kaggle")
    yield from (Path(folder, KEY_FILE) for folder in ([own] if own else [home / ".kaggle", settings]))
    yield from (home / ".kaggle" / name for name in ("access_token", "access_token.txt", "credentials.json"))


def attached_key() -> Path | None:
    """Return the key file of an attached private dataset, on Kaggle itself; None elsewhere."""
    folder = kaggle_input_folder()
    if folder is None:
        return None
    # a dataset is mounted as <slug>/ or, newer, as datasets/<owner>/<slug>/
    found = (path for depth in ("*/", "*/*/", "*/*/*/") for path in glob.glob(str(folder / (depth + KEY_FILE))))
    return next((Path(path) for path in sorted(found)), None)


class Kaggle:
    """Call Kaggle as one user.

    Parameters
    ----------
    api : KaggleApi
        Of the real client, logged in.
    attached : bool
        True where the key comes from an attached dataset.
    first_wait : float
        Seconds before the second try.
    tries : int
        Of one call.
    """

    def __init__(self, api: Any, attached: bool = False, first_wait: float = FIRST_WAIT, tries: int = TRIES) -> None:
        self._api, self._first_wait, self._tries, self._attached = api, first_wait, tries, attached
        self.user: str = api.config_values[api.CONFIG_NAME_USER]

    def __repr__(self) -> str:
        return f"Kaggle(as {self.user})"

    def key_file(self) -> bytes:
        """Return the key as the file of an attached dataset: for a private dataset, never for printing.

        Raises
        ------
        UsageError
            For a login in the browser, whose tokens end after hours.
        """
        values, api = self._api.config_values, self._api
        kept = {name: values[field] for name, field in _key_fields(api).items() if values.get(field)}
        if "key" not in kept and ("token" not in kept or values.get(api.CONFIG_NAME_AUTH_METHOD, "").endswith("OAUTH")):
            raise UsageError(
                "this machine is logged in to Kaggle in a way that ends after hours, and an unattended run needs a key "
                f"that stays. {HOW_TO_LOG_IN} Nothing was sent."
            )
        return json.dumps(kept).encode()

    def ask(self, what: str, call: Callable[[Any], T], again: Callable[[], bool] | None = None) -> T:
        """Make one call and give its answer; passing faults are tried again.

        Parameters
        ----------
        what : str
            What it is for, such as ``"reading the quota"``.
        call : callable
            Gets the client's `KaggleApi`.
        again : callable or None
            Asked before another try of a call that must not happen twice; False gives up with the fault.

        Raises
        ------
        KaggleError
            Where Kaggle refused, or did not answer.
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
            raise _in_words(what, error, self.user) from None

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
    """Keep the client's own prints out of the output; its faults come as errors."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def connect(first_wait: float | None = None, tries: int = TRIES) -> Kaggle:
    """Log in to Kaggle with what is here: an attached key, variables, or files of the client.

    Raises
    ------
    UsageError
        Where there is no credential, or the client is not installed.
    KaggleError
        Where Kaggle does not answer or refuses the credential.
    """
    if not has_credentials():
        raise UsageError(f"no Kaggle credential is here. {HOW_TO_LOG_IN}")
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
        raise UsageError(f"Kaggle takes none of the credentials that are here. {HOW_TO_LOG_IN}") from None
    except Exception as error:
        if not _is_of_the_client(error):
            raise
        raise _in_words("logging in", error, "") from None
    return Kaggle(api, False, first_wait, tries)


def _key_fields(api: Any) -> dict[str, str]:
    return {"username": api.CONFIG_NAME_USER, "key": api.CONFIG_NAME_KEY, "token": api.CONFIG_NAME_TOKEN}


def _read_key(path: Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    try:
        fields = json.loads(path.read_text("utf-8"))
        if not fields["username"] or not (fields.get("key") or fields.get("token")):
            raise ValueError("empty")
        return fields
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not the {KEY_FILE} that Kaggle hands out ({type(error).__name__}). Attach the dataset that "
            "'nbkit push dispatcher' made."
        ) from None


def _client() -> type:
    try:
        with quiet():  # it logs in and prints where it cannot
            from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError as error:
        raise UsageError(
            f"Kaggle's client is not here ({error}). Install it with 'pip install kaggle six'. Nothing was sent."
        ) from None
    return KaggleApi


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


# -- faults ------------------------------------------------------------------------------------------------------------


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_of_the_client(error: BaseException) -> bool:
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    return isinstance(error, RequestException | HTTPError | OSError | ValueError)


def _is_passing(error: BaseException) -> bool:
    from requests.exceptions import ChunkedEncodingError, ConnectionError, JSONDecodeError, Timeout

    html = isinstance(error, JSONDecodeError | json.JSONDecodeError)  # of a proxy, in place of JSON
    broken = isinstance(error, ConnectionError | Timeout | ChunkedEncodingError)
    return html or broken or _status(error) in _PASSING


def _asked_wait(error: BaseException) -> float:
    """Return the seconds that Kaggle asked to wait, 0 where it did not, at most a few minutes."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return min(retry_after(headers.get("Retry-After")) or 0.0, 300.0)


def _in_words(what: str, error: Exception, user: str) -> KaggleError:
    status = _status(error)
    if status == 401:
        return KaggleError(f"{what}: Kaggle refuses the credential of {user or 'this machine'}. {HOW_TO_LOG_IN}", 401)
    said = re.sub(r" for url: \S+", "", str(error))[:500]
    if status is None and _is_passing(error):
        return KaggleError(
            f"{what}: Kaggle did not answer ({type(error).__name__}), tried again and again. Look at the connection "
            "and run it again.",
        )
    if status == 429:
        return KaggleError(f"{what}: Kaggle asks for fewer requests ({said}). Wait some minutes, run it again.", 429)
    return KaggleError(f"{what}: Kaggle answered {said}", status)
