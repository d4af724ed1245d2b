"""The command login: once, on the user's own machine, to Google Drive or to the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

import typer

login = typer.Typer(no_args_is_help=True, help="Log in, once, on your own machine.")


@login.callback()
def _login() -> None:
    """Log in, once, on your own machine."""


@login.command("drive")
def login_drive_command(
    client: Annotated[str | None, typer.Option(metavar="FILE", help="JSON of your OAuth client, as downloaded")] = None,
    folder: Annotated[str, typer.Option(help="name of the store's folder in Drive")] = "nbkit",
    browser: Annotated[bool, typer.Option(help="open a browser here")] = True,
) -> int:
    """Log in to Google Drive with a browser, once; print where the credential is kept and how to pass it on."""
    from nbkit.runtime.store.drive.login import login_drive

    print(login_drive(client, folder=folder, browser=browser).words())
    return 0


@login.command("hf")
def login_hub_command(
    name: Annotated[str, typer.Option(help="name of the private data set, or OWNER/NAME")] = "nbkit",
) -> int:
    """Log in to the Hugging Face Hub with a token, once; it is asked for without being shown, or is in HF_TOKEN."""
    from nbkit.runtime.store.hub.login import login_hub

    print(login_hub(name).words())
    return 0
