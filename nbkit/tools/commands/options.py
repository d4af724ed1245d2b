"""Options that several commands have, and what they make of them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Annotated, Any

import typer

from nbkit.runtime.errors import NbkitError, UsageError

StoreOption = Annotated[
    str | None, typer.Option(metavar="URL", help="folder or URL; by default NBKIT_STORE, or ./nbkit-store")
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="notebook parameter; JSON or text"),
]
AcceptOption = Annotated[
    bool, typer.Option("--accept-changes", help="go on although settings, data or rows of a manifest have changed")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="start trainings again beside the earlier checkpoints")]
SlugsArgument = Annotated[list[str] | None, typer.Argument(metavar="[SLUG...]", help="phases; all by default")]
SmokeOption = Annotated[bool, typer.Option("--smoke", help="small sizes: set the notebook's SMOKE")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document instead of text")]
SlugArgument = Annotated[str, typer.Argument(metavar="SLUG", help="the phase")]


def resume_of(accept_changes: bool, fresh: bool) -> str | None:
    from nbkit.runtime.training.sameness.asked import ACCEPT, ANEW

    if accept_changes and fresh:
        raise UsageError("--fresh begins without a checkpoint, so there is nothing to accept. Give one. Nothing began.")
    return ACCEPT if accept_changes else ANEW if fresh else None


def opened(store: str | None) -> Any:
    from nbkit.runtime.store.opening import open_store, store_address
    from nbkit.runtime.store.retried import Retried

    return Retried(open_store(store_address(store)))


def show(document: Any, as_json: bool, text: str) -> None:
    """Print a result.

    Raises
    ------
    NbkitError
        If what the output goes to is full, or fails.
    """
    try:
        print(json.dumps(document, indent=1) if as_json else text, flush=True)
    except BrokenPipeError:
        raise  # its reader has seen enough, which click treats as such
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # what is left in the buffer would fail once more at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise NbkitError(
            f"The result could not be written to the output: {error.strerror}. The store is as it was. Free some "
            "space, or send the output elsewhere, and run again."
        ) from None
