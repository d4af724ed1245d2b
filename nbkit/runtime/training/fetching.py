"""The checkpoint of a phase for those who do not train it: later phases, scores, figures."""

from __future__ import annotations

from pathlib import Path

from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.training.generations import Generations


def fetch_checkpoint(store: Store, slug: str, which: str, folder: Path) -> Path:
    """Return the verified local path of a phase's checkpoint.

    Parameters
    ----------
    store : Store
    slug : str
        The trained phase.
    which : str
        ``"best"`` by the monitored metric (the newest if none was monitored), or ``"newest"``.
    folder : Path
        Target folder.

    Raises
    ------
    UsageError
        If the store holds no checkpoint.
    """
    if which not in ("best", "newest"):
        raise UsageError(f"which={which!r} is unknown; allowed are 'best' and 'newest'. Nothing was fetched.")
    found = Generations(slug, folder / slug, store).newest(best=which == "best")
    if found is None:
        raise UsageError(f"{store.url} holds no checkpoint of {slug}; train {slug} with this store first.")
    return found[1]
