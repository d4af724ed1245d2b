"""The Drive credential: a small JSON text for one login.

Its secrets are in no representation, message or traceback of this module. The message on a faulty text names what is
missing, never what it contains.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import UsageError
from nbkit.runtime.hosts.credentials import CREDENTIAL_FILE, CREDENTIAL_VARIABLE, host_credentials, how_to_hand_on
from nbkit.runtime.store.private import Credential, is_encrypted

SCOPE = "https://www.googleapis.com/auth/drive.file"
AUTH_URI = "https://accounts.google.com/o/oauth2/auth"
TOKEN_URI = "https://oauth2.googleapis.com/token"
API_ROOT = "https://www.googleapis.com/"
_NEXT = "Run 'nbkit login drive' on your own machine; it writes the file and prints where to put it."


@dataclass(frozen=True, repr=False)
class DriveCredential(Credential):
    """Result of one login.

    Attributes
    ----------
    client_id, client_secret : str
        Of the user's own OAuth client (type "Desktop app").
    refresh_token : str
        Exchanged for access tokens, which are valid for an hour.
    token_uri : str
        Server of that exchange.
    api_root : str
        The only server that gets the access tokens.
    auth_uri : str
        The page where a person logs in; used by the next login only.
    where : str
        Where the credential was found, for messages.
    """

    client_id: str
    client_secret: str
    refresh_token: str
    token_uri: str = TOKEN_URI
    api_root: str = API_ROOT
    auth_uri: str = AUTH_URI
    where: str = ""

    def __post_init__(self) -> None:
        for address in (self.token_uri, self.api_root, self.auth_uri):
            if not is_encrypted(address):
                raise UsageError(
                    f"The Drive credential from {self.where} would be sent to {address!r} unencrypted. {_NEXT}"
                )

    def to_text(self) -> str:
        """Return one line of JSON for `read_credential`: for a file or a secret, not for printing."""
        fields = {"client_id": self.client_id, "client_secret": self.client_secret, "scopes": [SCOPE]}
        fields |= {"refresh_token": self.refresh_token, "token_uri": self.token_uri}
        others = {"api_root": (self.api_root, API_ROOT), "auth_uri": (self.auth_uri, AUTH_URI)}
        fields |= {name: value for name, (value, usual) in others.items() if value != usual}
        return json.dumps(fields)

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that must never be shown."""
        return tuple(s for s in (self.client_secret, self.refresh_token) if s)


def read_credential(text: str, where: str) -> DriveCredential:
    """Return the credential of a text: JSON, or JSON in base64.

    Raises
    ------
    UsageError
        For any other text, such as the files of other kinds that Google issues.
    """
    fields = _decode(text, where)
    if fields.get("type") == "service_account":
        raise UsageError(
            f"The Drive credential from {where} is a service account. It has no storage of its own, and Drive would "
            f"refuse each upload. Allowed is a login of your own. {_NEXT}"
        )
    if "installed" in fields or "web" in fields:
        raise UsageError(
            f"{where} has an OAuth client, not a login. Pass it to 'nbkit login drive --client FILE', and use the "
            f"{CREDENTIAL_FILE} that this writes."
        )
    missing = [name for name in ("client_id", "client_secret", "refresh_token") if not fields.get(name)]
    if missing:
        raise UsageError(f"The Drive credential from {where} has no {' and no '.join(missing)}. {_NEXT}")
    others = {name: fields[name] for name in ("token_uri", "api_root", "auth_uri") if fields.get(name)}
    return DriveCredential(fields["client_id"], fields["client_secret"], fields["refresh_token"], where=where, **others)


def _decode(text: str, where: str) -> dict[str, Any]:
    text = text.strip()
    try:
        fields = json.loads(text if text.startswith("{") else base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise UsageError(
            f"The Drive credential from {where} cannot be read: {len(text)} characters that are neither JSON nor JSON "
            f"in base64. {_NEXT}"
        )
    return fields


def find_credential(environ: Mapping[str, str] | None = None) -> DriveCredential:
    """Return the first Drive credential found: in the variable, of the host, of the user.

    Parameters
    ----------
    environ : mapping or None
        Environment variables; those of this process by default.

    Raises
    ------
    UsageError
        If there is none, or the first one cannot be used.
    """
    environ = os.environ if environ is None else environ
    value = environ.get(CREDENTIAL_VARIABLE, "").strip()
    if value:
        return _from_variable(value)
    for where, text in host_credentials(environ):
        return read_credential(text, where)
    raise UsageError(
        f"No Drive credential was found. This host takes {how_to_hand_on(environ)}. {_NEXT} Nothing was opened."
    )


def _from_variable(value: str) -> DriveCredential:
    where = f"the variable {CREDENTIAL_VARIABLE}"
    if value.startswith(("/", "~", ".")) or value.endswith(".json"):
        path = Path(value).expanduser()
        if not path.is_file():
            raise UsageError(f"{where} names {value!r}, which is no file. {_NEXT}")
        return read_credential(path.read_text("utf-8"), str(path))
    return read_credential(value, where)
