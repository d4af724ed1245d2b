"""A training's metrics in a file format of others: CSV, TensorBoard or Weights & Biases.

``session.fit(module, data, loggers="csv")`` writes one run over all sessions. Only rows that a checkpoint holds are
written, and they are written when it is saved: what a kill takes is trained again and would otherwise stand there
twice. The files go to ``<slug>/logs/<name>/`` in the store, so that they survive the machine.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import Callback

from nbkit.ground.extras import how_to_install
from nbkit.ground.files import write_atomically
from nbkit.runtime.errors import UsageError

Row = dict[str, Any]


class _Sink(Protocol):
    def write(self, rows: Sequence[Row], everything: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


class _Csv:
    """All rows in one file, written anew each time: a new metric is a new column."""

    def __init__(self, folder: Path, session: Any, step: int) -> None:
        self.path = folder / "metrics.csv"

    def write(self, rows: Sequence[Row], everything: Sequence[Row]) -> None:
        names = dict.fromkeys(name for row in everything for name in row)
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(everything)
        write_atomically(self.path, lambda file: file.write(text.getvalue().encode()))

    def close(self) -> None:
        pass


class _TensorBoard:
    """One event file per session in one run; `purge_step` hides what an earlier one wrote beyond its checkpoint."""

    def __init__(self, folder: Path, session: Any, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(os.fspath(folder), purge_step=step or None)

    def write(self, rows: Sequence[Row], everything: Sequence[Row]) -> None:
        for row in rows:
            for name, value in row.items():
                if name != "step":
                    self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    """One run by an id that follows from the phase's store; offline unless WANDB_MODE says otherwise."""

    def __init__(self, folder: Path, session: Any, step: int) -> None:
        import wandb

        run = f"{getattr(session.store, 'url', '')}/{session.slug}"  # the same in every session
        self.run = wandb.init(
            project="nbkit", id=hashlib.sha256(run.encode()).hexdigest()[:16], name=session.slug, resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"), dir=os.fspath(folder),
        )  # fmt: skip

    def write(self, rows: Sequence[Row], everything: Sequence[Row]) -> None:
        for row in rows:
            self.run.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])

    def close(self) -> None:
        self.run.finish()


_SINKS: dict[str, Callable[[Path, Any, int], _Sink]] = {"csv": _Csv, "tensorboard": _TensorBoard, "wandb": _Wandb}


class SavedLog(Callback):
    """Write the rows of each saved checkpoint to a log of another format.

    Parameters
    ----------
    name : str
        ``csv``, ``tensorboard`` or ``wandb``.
    session : Session
    """

    def __init__(self, name: str, session: Any) -> None:
        self.name, self.session = name, session
        self.folder = Path(session.folder) / "logs" / name
        self._sink: _Sink | None = None
        self._written = 0

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        return Callback, ()  # in the other processes of a training, which write nothing

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self._history,) = [log for log in trainer.loggers if type(log).__name__ == "History"]
        self._written = self._history.saved
        self._sink = _SINKS[self.name](self.folder, self.session, trainer.global_step)
        if self.name == "csv":
            self._written = 0  # its file is whole each time

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._bring()

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        if self._sink is None:
            return
        self._bring()
        self._sink.close()
        self._sink = None
        self._send()

    def _bring(self) -> None:
        if self._sink is None or self._history.saved <= self._written:
            return
        rows = list(self._history.rows(0 if self.name == "csv" else self._written, self._history.saved))
        shown = [{k: v for k, v in row.items() if math.isfinite(v)} for row in rows]
        self._sink.write(shown, shown)
        self._written = self._history.saved
        self._send()

    def _send(self) -> None:
        prefix = f"{self.session.slug}/logs/{self.name}"
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and not path.is_symlink()]
        if self.session.outbox is not None and files:
            named = [(path, f"{prefix}/{path.relative_to(self.folder).as_posix()}") for path in files]
            self.session.outbox.send(named, f"{prefix}")


def with_log(session: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a training, with a log that is given by its name as a callback.

    Raises
    ------
    UsageError
        If the name is unknown, or its package is not installed.
    """
    name = options.get("loggers")
    if name is not None and not isinstance(name, str):
        return options
    rest = {key: value for key, value in options.items() if key != "loggers"}
    if name is None:
        return rest
    if name not in _SINKS:
        raise UsageError(f"LOGGER={name!r} is unknown; allowed are None, {', '.join(_SINKS)}. Nothing was trained.")
    package = {"csv": "csv", "tensorboard": "tensorboard", "wandb": "wandb"}[name]
    try:
        __import__(package)
    except ModuleNotFoundError as error:
        raise UsageError(f"LOGGER={name!r}: {how_to_install(error) or error} Nothing was trained.") from error
    return {**rest, "callbacks": [*rest.get("callbacks", ()), SavedLog(name, session)]}
