"""What a run on another machine needs to reach the store: the files of its credential."""

from __future__ import annotations

from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.address import has_secrets, show


def credential_files(address: str) -> dict[str, bytes]:
    """Return the files, name to content, with which a run elsewhere opens a store; empty where it needs none.

    Raises
    ------
    UsageError
        If this machine has no credential for the store.
    """
    if address.startswith(("gdrive://", "https://drive.google.com/")):
        from nbkit.runtime.hosts.credentials import CREDENTIAL_FILE
        from nbkit.runtime.store.drive.credential import find_credential

        return {CREDENTIAL_FILE: find_credential().to_text().encode()}
    if address.startswith("hf://"):
        from nbkit.runtime.hosts.credentials import HUB_FILE
        from nbkit.runtime.store.hub.credential import find_hub_credential

        return {HUB_FILE: find_hub_credential().to_text().encode()}
    return {}


def reachable(address: str, host: str = "Kaggle") -> str:
    """Return the address of a store if a run on a host can reach it.

    Raises
    ------
    UsageError
        If it is a folder of this machine, or holds a password.
    """
    if "://" not in address or address.startswith("file://"):
        raise UsageError(
            f"The store {address} is a folder of this machine, and a run on {host} cannot reach it. Use a store with a "
            "URL: 'nbkit login drive' creates gdrive://<folder id>, 'nbkit login hf' hf://datasets/<user>/<name>. Pass "
            "it with --store or NBKIT_STORE. Nothing was sent."
        )
    if has_secrets(address):
        raise UsageError(
            f"The address of the store {show(address)} holds a password or token, and a pushed notebook contains the "
            "address. Use a store whose credential is a file of its own: 'nbkit login drive' creates one. Nothing was "
            "sent."
        )
    return address
