"""The one-time login to Drive in a browser.

It runs on the user's own machine, creates the folder of the store, and writes the credential to a file that only its
owner can read. Nothing secret is printed.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.hosts.credentials import CREDENTIAL_FILE, CREDENTIAL_VARIABLE, user_credential_path
from nbkit.runtime.store.drive.credential import SCOPE, DriveCredential, find_credential

_FOLDER = "nbkit"
_CONSOLE = "https://console.cloud.google.com"
HOW_TO_MAKE_A_CLIENT = f"""\
A login needs an OAuth client of your own, made once, free:
 1. {_CONSOLE}/projectcreate - make a project.
 2. {_CONSOLE}/apis/library/drive.googleapis.com - switch the Google Drive API on.
 3. {_CONSOLE}/auth/overview - name the app; audience External; then press 'Publish app'.
    In 'Testing' Google ends every login after 7 days. The scope drive.file needs no review.
 4. {_CONSOLE}/auth/clients - create a client of the type 'Desktop app' and download its JSON.
Then: nbkit login drive --client client_secret_....json"""


@dataclass(frozen=True)
class Login:
    """Result of a login.

    Attributes
    ----------
    credential : Path
        The file that was written.
    store : str
        Address of the folder, such as ``gdrive://1AbC...``.
    """

    credential: Path
    store: str

    def words(self) -> str:
        """Return text that tells where the credential is and how to use it on each host."""
        return f"""\
logged in. The credential lies in {self.credential} (readable by you alone; whoever has it can read and change
what nbkit keeps in your Drive, and nothing else there).
store: {self.store}
hand it on:
  this machine  nothing to do; --store {self.store}
  Kaggle        a private dataset that holds {CREDENTIAL_FILE}, attached to the notebook; 'nbkit push' sees to it
                (Kaggle's own secrets are dropped by every push)
  Colab         the secret {CREDENTIAL_VARIABLE} (key symbol at the left) with the file's one line, or an upload of it
  elsewhere     {CREDENTIAL_VARIABLE}=<path of the file>
take it back: https://myaccount.google.com/connections"""


def login_drive(
    client: str | os.PathLike[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    folder: str = _FOLDER,
    browser: bool = True,
) -> Login:
    """Log in to Drive in a browser, find or create the store's folder, and write the credential.

    Parameters
    ----------
    client : path or None
        The downloaded JSON of the OAuth client; None takes the client of an earlier login.
    path : path or None
        File for the credential; None takes one in the user's configuration folder.
    folder : str
        Title of the folder in Drive.
    browser : bool
        False to print the address only, on a machine without a browser.

    Returns
    -------
    login : Login

    Raises
    ------
    UsageError
        If the client file is missing or wrong, or access is refused in the browser.
    """
    target = Path(path) if path is not None else user_credential_path()
    credential = _ask(_client(client), browser, target)
    store = f"gdrive://{_store_folder(credential, folder)}"
    credential.write(target)
    return Login(target, store)


def _client(client: str | os.PathLike[str] | None) -> DriveCredential:
    """Return a credential in which only the client is valid."""
    if client is None:
        try:
            return find_credential()
        except UsageError:
            words = f"No OAuth client was given and there is no earlier login here.\n{HOW_TO_MAKE_A_CLIENT}"
            raise UsageError(words) from None
    file = Path(client).expanduser()
    if not file.is_file():
        raise UsageError(f"The OAuth client {str(client)!r} is no file.\n{HOW_TO_MAKE_A_CLIENT}")
    try:
        fields = json.loads(file.read_text("utf-8"))["installed"]
        known = {name: fields[name] for name in ("auth_uri", "token_uri", "api_root") if name in fields}
        return DriveCredential(fields["client_id"], fields["client_secret"], "", where=str(file), **known)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{file} is not the JSON of an OAuth client of the type 'Desktop app' ({type(error).__name__}: {error}).\n"
            f"{HOW_TO_MAKE_A_CLIENT}"
        ) from None


def _ask(client: DriveCredential, browser: bool, target: Path) -> DriveCredential:
    """Let PyDrive2 ask the user in a browser, and return the new credential."""
    from pydrive2.auth import AuthError, GoogleAuth

    from nbkit.runtime.store.drive.access import headless_settings

    # of an earlier login, nothing may be loaded or kept
    auth = GoogleAuth(settings={**headless_settings(client), "save_credentials": False}, http_timeout=60.0)
    never = os.environ.pop("GDRIVE_NON_INTERACTIVE", None)
    try:
        auth.LocalWebserverAuth(port_numbers=[8080, 8090, _free_port()], launch_browser=browser)
    except AuthError as error:
        words = str(error) or type(error).__name__
        raise UsageError(f"The login was not completed ({words}). Nothing was written.") from None
    finally:
        if never is not None:
            os.environ["GDRIVE_NON_INTERACTIVE"] = never
    given = auth.credentials
    if not given.refresh_token:
        raise NbkitError(
            "Google issued no refresh token, so the login would end after an hour. Remove the app at "
            "https://myaccount.google.com/connections and log in again. Nothing was written."
        )
    scopes = (given.token_response or {}).get("scope", SCOPE).split()
    if SCOPE not in scopes:
        raise UsageError(
            f"The login does not allow what nbkit needs: the box for {SCOPE} was left empty in the browser. Log in "
            "again and tick it. Nothing was written."
        )
    return replace(client, refresh_token=given.refresh_token, where=str(target))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _store_folder(credential: DriveCredential, title: str) -> str:
    """Return the id of the app's oldest folder of this title, creating it if there is none."""
    from nbkit.runtime.store.drive import answers
    from nbkit.runtime.store.drive.access import DriveAccess
    from nbkit.runtime.store.drive.faults import DriveError
    from nbkit.runtime.store.drive.tree import FOLDER

    access = DriveAccess(credential)
    quoted = title.replace("\\", "\\\\").replace("'", "\\'")
    query = f"title='{quoted}' and mimeType='{FOLDER}' and 'root' in parents and trashed=false"
    request = access.files().list(q=query, fields="kind,items(id,title,createdDate)")
    rows, _ = access.call(request, f"looking for the folder {title}", lambda answer: answers.page(answer, answers.row))
    found = [row for row in rows if row.get("title") == title and "createdDate" in row]
    if found:
        return min(found, key=lambda row: (row["createdDate"], row["id"]))["id"]
    request = access.files().generateIds(maxResults=1, fields="ids")
    id = access.call(request, "asking for a file id", answers.ids)[0]
    body = {"id": id, "title": title, "mimeType": FOLDER, "parents": [{"id": "root"}]}
    try:
        request = access.files().insert(body=body, fields="id")
        access.call(request, f"making the folder {title}", lambda answer: answers.row(answer, id))
    except DriveError as error:
        if error.status != 409:  # 409: an earlier request, whose answer was lost, has created it
            raise
    return id
