"""Options that several commands have, and what they make of them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nbkit.runtime.errors import UsageError

StoreOption = Annotated[
    str | None, typer.Option(metavar="URL", help="folder or URL; by default NBKIT_STORE, or ./nbkit-store")
]
ParameterOption = Annotated[
    list[str] | None,
    typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="notebook parameter; JSON or text"),
]
AcceptOption = Annotated[
    bool, typer.Option("--accept-changes", help="resume trainings although settings or data have changed")
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
    print(json.dumps(document, indent=1) if as_json else text, flush=True)
