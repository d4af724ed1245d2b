"""A notebook that `nbkit prove` runs: its first `session.fit` becomes a proof, and ends it.

The variable NBKIT_PROVE holds the options of the proof and the temporary folder that takes the place of the user's
folder and store, which are read and not written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import ProofEnded
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.layered import LayeredStore
from nbkit.runtime.store.opening import open_store
from nbkit.runtime.store.protocol import Store

VARIABLE = "NBKIT_PROVE"


def asked() -> dict[str, Any] | None:
    """Return ``folder``, ``reads`` and ``options`` if this process runs for a proof, else None."""
    text = os.environ.get(VARIABLE)
    return json.loads(text) if text else None


def in_its_place(store: Store, folder: Path | None, slug: str) -> tuple[Store, Path | None]:
    """Return the store and the folder of a session: those given, or temporary ones if it is opened for a proof."""
    told = asked()
    if told is None:
        return store, folder
    temporary = Path(told["folder"])
    own, upper = f"{slug}/", FolderStore(temporary / "store")
    lower = open_store(told["reads"]) if told["reads"] else store
    return (upper if lower.url == upper.url else LayeredStore(upper, lower, own)), temporary / "work"


def prove_and_end(session: Any, module: Any, data: Any, options: Mapping[str, Any]) -> None:
    """Prove instead of training, if this process runs for a proof; the result goes into the journal.

    Raises
    ------
    ProofEnded
        After the proof.
    """
    told = asked()
    if told is None:
        return
    report = session.prove(module, data, **{**options, **told["options"]})
    session.journal("proof", **report.row())
    raise ProofEnded("The notebook ends here, because nbkit prove asked for the proof only.")
