"""The one-time login to the Hub: one token, one private data set.

It runs on the user's own machine, makes the data set, and writes the token to a file that only its owner can read.
Nothing secret is printed, and the token is in no command line.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from nbkit.runtime.errors import UsageError
from nbkit.runtime.hosts.credentials import HUB_FILE, HUB_VARIABLE, user_credential_path
from nbkit.runtime.store.hub.access import HubAccess
from nbkit.runtime.store.hub.credential import find_hub_credential, read_hub_credential

_NAME = "nbkit"
HOW_TO_MAKE_A_TOKEN = """\
A token is made once, free: https://huggingface.co/settings/tokens - 'Create new token', type 'Write', or 'Fine-grained'
with the right to write to the one data set that nbkit uses, once it exists."""


@dataclass(frozen=True)
class HubLogin:
    """Result of a login.

    Attributes
    ----------
    credential : Path
        The file that was written.
    store : str
        Address of the data set, such as ``hf://datasets/me/nbkit``.
    """

    credential: Path
    store: str

    def words(self) -> str:
        """Return text that tells where the token is and how to use it on each host."""
        return f"""\
logged in. The token lies in {self.credential} (readable by you alone; whoever has it can do what the token may).
store: {self.store} (private)
hand it on:
  this machine  nothing to do; --store {self.store}
  Kaggle        a private dataset that holds {HUB_FILE}, attached to the notebook; 'nbkit push' sees to it
  Colab         the secret {HUB_VARIABLE} (key symbol at the left) with the token, or an upload of the file;
                'nbkit push --host colab' sees to it
  elsewhere     the variable {HUB_VARIABLE} with the token, or the file in the same place
take it back: https://huggingface.co/settings/tokens"""


def login_hub(name: str = _NAME, path: str | os.PathLike[str] | None = None, token: str | None = None) -> HubLogin:
    """Make the private data set, if it is not there, and write the token to a file.

    Parameters
    ----------
    name : str
        ``name`` or ``owner/name`` of the data set.
    path : path or None
        File for the credential; None takes one in the user's configuration folder.
    token : str or None
        None takes the variable HF_TOKEN, else asks for it without showing it; or takes the one of an earlier login.

    Raises
    ------
    UsageError
        If there is no token, or the data set is public.
    HubError
        If the Hub refuses the token.
    """
    target = Path(path) if path is not None else user_credential_path(HUB_FILE)
    endpoint = os.environ.get("HF_ENDPOINT", "").strip() or None
    text = token or os.environ.get(HUB_VARIABLE, "") or _asked()
    credential = read_hub_credential(text, "what was entered", endpoint) if text else find_hub_credential()
    access = HubAccess(name, credential)
    user = access.call("look at the login", lambda: access.api.whoami()["name"])
    access.repo = name if "/" in name else f"{user}/{name}"
    access.call(
        f"make the data set {access.repo}",
        lambda: access.api.create_repo(access.repo, repo_type="dataset", private=True, exist_ok=True),
    )
    known = access.call("look at the data set", lambda: access.api.dataset_info(access.repo, expand=["private"]))
    if not known.private:
        raise UsageError(
            f"The data set {access.repo} is public: everybody could read what nbkit stores. Make it private on its "
            "settings page, or give another with --name. Nothing was written."
        )
    credential.write(target)
    return HubLogin(target, f"hf://datasets/{access.repo}")


def _asked() -> str:
    """Return the token that a person types or pastes, which the terminal does not show; empty without a terminal."""
    if not sys.stdin.isatty():
        return ""
    from getpass import getpass

    print(HOW_TO_MAKE_A_TOKEN)
    return getpass("Token (it is not shown; empty takes that of an earlier login): ").strip()
