"""The Hub credential: one token, as a secret.

The token is in no representation, message or traceback of this module.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from nbkit.runtime.errors import UsageError
from nbkit.runtime.hosts.credentials import HUB_FILE, HUB_VARIABLE, host_credentials, how_to_hand_on
from nbkit.runtime.store.private import Credential, is_encrypted

ENDPOINT = "https://huggingface.co"
_TOKEN = re.compile(r"[\x21-\x7e]{8,}")  # the Hub's own begin with hf_, a loopback's need not
_NEXT = "Run 'nbkit login hf' on your own machine; it writes the file and prints where to put it."


@dataclass(frozen=True, repr=False)
class HubCredential(Credential):
    """A token and the server that it is for.

    Attributes
    ----------
    token : str
        With the right to write to the repository.
    endpoint : str
        The only server that gets the token.
    where : str
        Where the credential was found, for messages.
    """

    token: str
    endpoint: str = ENDPOINT
    where: str = ""

    def __post_init__(self) -> None:
        if not is_encrypted(self.endpoint):
            raise UsageError(
                f"The Hub token from {self.where} would be sent to {self.endpoint!r} unencrypted. Allowed is an "
                "https:// address in HF_ENDPOINT. Nothing was sent."
            )

    def to_text(self) -> str:
        """Return one line of JSON for `read_hub_credential`: for a file or a secret, not for printing."""
        fields = {"token": self.token}
        return json.dumps(fields | ({"endpoint": self.endpoint} if self.endpoint != ENDPOINT else {}))

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that must never be shown."""
        return (self.token,)


def read_hub_credential(text: str, where: str, endpoint: str | None = None) -> HubCredential:
    """Return the credential of a text: a token, or the JSON that `nbkit login hf` writes.

    Raises
    ------
    UsageError
        For any other text.
    """
    text, fields = text.strip(), {}
    if text.startswith("{"):
        try:
            fields = json.loads(text)
            text = str(fields["token"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UsageError(f"The Hub credential from {where} is JSON without a token. {_NEXT}") from None
    if not _TOKEN.fullmatch(text):
        raise UsageError(
            f"The Hub credential from {where} is no token: {len(text)} characters, a token is one word of at least 8. "
            f"{_NEXT}"
        )
    return HubCredential(text, str(endpoint or fields.get("endpoint") or ENDPOINT).rstrip("/"), where)


def find_hub_credential(environ: Mapping[str, str] | None = None) -> HubCredential:
    """Return the first Hub token found: in the variable, of the host, of the user, of the Hub's own client.

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
    endpoint = environ.get("HF_ENDPOINT", "").strip() or None
    value = environ.get(HUB_VARIABLE, "").strip()
    if value:
        return read_hub_credential(value, f"the variable {HUB_VARIABLE}", endpoint)
    for where, text in host_credentials(environ, file=HUB_FILE, variable=HUB_VARIABLE):
        return read_hub_credential(text, where, endpoint)
    from huggingface_hub import get_token

    if token := get_token():
        return read_hub_credential(token, "the login of huggingface_hub", endpoint)
    raise UsageError(
        f"No Hub token was found. This host takes {how_to_hand_on(environ, HUB_FILE, HUB_VARIABLE)}. {_NEXT} Nothing "
        "was opened."
    )
