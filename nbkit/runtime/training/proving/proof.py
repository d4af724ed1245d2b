"""The proof: train some steps in one go, train them again with stops, and compare.

Nothing of it reaches the session's store or folder, and the objects that it is given are left as they were: they are
pickled, and everything runs in other processes and in a temporary folder.
"""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nbkit.runtime import errors
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.training.protocol import TrainingSession, device_of
from nbkit.runtime.training.proving import causes
from nbkit.runtime.training.proving.compare import (
    Difference,
    by_place,
    differing_names,
    final_difference,
    first_difference,
)
from nbkit.runtime.training.proving.interpreters import Interpreters
from nbkit.runtime.training.proving.report import ProofReport
from nbkit.runtime.training.proving.stops import Batch, Stop, affordable, draw_stops
from nbkit.runtime.training.proving.trial_session import pickled
from nbkit.runtime.training.ranks.world import current_world
from nbkit.runtime.words import parse_duration

STEPS, STOPS, LIMIT = 36, 6, "2min"
_NAMED = 4
_SHARE = 0.2  # of the time limit for the batches of one run; there are up to four runs
_EPOCHS, _VALIDATIONS, _VALIDATION_BATCHES = 3, 4, 3
_NOT_OURS = (
    "val_time_share",
    "loggers",
    "fresh",
    "accept_changes",
    "save_every",
    "max_steps",
    "limit_val_batches",
    "limit_train_batches",
)


def prove(
    session: TrainingSession,
    module: Any,
    data: Any,
    *,
    steps: int = STEPS,
    stops: int = STOPS,
    seed: int | None = None,
    limit: str | float = LIMIT,
    interpreters: Interpreters | None = None,
    **options: Any,
) -> ProofReport:
    """Train some steps twice, once in one go and once with stops, and compare all bits.

    Parameters
    ----------
    session : TrainingSession
        Its device and seed are used, and nothing else.
    module : LightningModule
    data : LightningDataModule or DataLoader
    steps : int
        Optimizer steps of either training. Epochs and validations are shortened, so that several fit into them.
    stops : int
        How often the second training is stopped, fewer if sessions take long to start; one of the stops is a kill.
    seed : int or None
        Determines where; None takes the session's.
    limit : str or float
        Longest time. With slow steps, fewer of them are trained.
    interpreters : Interpreters or None
        Running interpreters, for several proofs; None starts them.
    **options
        Those of `fit`. Loggers are left out.

    Returns
    -------
    report : ProofReport

    Raises
    ------
    UsageError
        If `fit` refuses the training, the training fails by itself, or the module, data or callbacks cannot be copied.
    NbkitError
        If the time was too short.
    """
    began = time.monotonic()
    _check(steps, stops)
    allowed = parse_duration(limit) or float("inf")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbkit-proof-")))
        running = interpreters or stack.enter_context(Interpreters(folder / "log.txt"))
        content = _pickled(session, module, data, _options(module, options, steps))
        (folder / "parts.pickle").write_bytes(content)
        trials = _Trials(folder, running, began + min(allowed, 3600.0), allowed * _SHARE)
        report = _proof(trials, stops, session.seed if seed is None else seed, device_of(session).accelerator != "cpu")
    return replace(report, seconds=time.monotonic() - began)


def _proof(trials: _Trials, stops: int, seed: int, on_gpu: bool) -> ProofReport:
    whole, records = trials.whole("in-one-go", 0)
    batches = _batches(records)
    if len(batches) < 3:
        raise NbkitError(
            f"In the time of the proof only {len(batches)} batches were trained, too few to stop in. Nothing of the "
            "training was changed. Give it more time (limit='10min') or smaller sizes."
        )
    stops = affordable(stops, trials.end - time.monotonic(), trials.took, whole["seconds"])
    sessions: list[list[dict[str, Any]]] = []
    words: list[str] = []
    stopped: dict[str, Any] = {}
    asked: Stop | None = None
    for stop, stopped, made in trials.stopped(draw_stops(batches, stops, seed), batches[-1], whole["reason"]):
        if asked is not None:
            words.append(_words(asked, made))
        asked = stop
        if made:
            sessions.append(made)
        if "error" in stopped:
            error = f"{stopped['words'] if stopped['ours'] else stopped['error'] + ': ' + stopped['words']}"
            return ProofReport(False, whole["step"], tuple(words), cause=causes.Cause("refused"), error=error)
    report = ProofReport(True, whole["step"], tuple(words))
    found = first_difference(records, sessions)
    difference = found[0] if found else final_difference(whole, stopped)
    if difference is None:
        return report
    report = replace(report, exact=False, first=difference)
    resumed = found[1] if found else None
    if not trials.time_for_another():
        return replace(report, cause=_lost(difference, records, resumed, whole["clues"]))
    again, repeated = trials.whole("again", 0)
    of_same = differing_names(records, repeated) | _names(final_difference(whole, again))
    if difference.trained_names & of_same:
        return replace(report, cause=causes.not_repeatable(difference, whole["clues"], on_gpu))
    if not difference.trained:
        found = first_difference(records, sessions, of_same)
        left = found[0] if found else final_difference(whole, stopped, of_same)
        if left is None:
            return replace(report, exact=True, first=None, notes=tuple(sorted(of_same)[:_NAMED]))
        difference, resumed = left, found[1] if found else None
        report = replace(report, first=difference)
    if trials.time_for_another():
        other, hashed = trials.whole("other-hashes", 1)
        if difference.trained_names & (differing_names(records, hashed) | _names(final_difference(whole, other))):
            return replace(report, cause=causes.of_hashes(whole["clues"]))
    return replace(report, cause=_lost(difference, records, resumed, whole["clues"]))


def _lost(difference: Difference, records: list[dict[str, Any]], resumed: Any, clues: Any) -> causes.Cause:
    if resumed is None:
        return causes.lost_at_resume(difference, {}, {}, {}, clues)
    there = by_place(records)[(*resumed["place"], "start")]
    return causes.lost_at_resume(difference, there["held"], resumed["held"], records[0]["held"], clues)


def _names(difference: Difference | None) -> set[str]:
    return set() if difference is None else {difference.name, *difference.others}


class _Trials:
    """The sessions of a proof, one after the other, each in a folder and process of its own."""

    def __init__(self, folder: Path, running: Interpreters, end: float, seconds: float) -> None:
        self.folder, self.running, self.end, self.seconds = folder, running, end, seconds
        self.took = 0.0  # of a run in one go

    def time_for_another(self) -> bool:
        """Return whether there is time for another run in one go."""
        return time.monotonic() + 1.5 * self.took < self.end

    def whole(self, name: str, interpreter: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Train in one go; raise an error if that fails, because then nothing can be compared."""
        began = time.monotonic()
        ended, records = self._run(self.folder / name, interpreter, None, self.seconds)
        self.took = time.monotonic() - began
        if "error" in ended:
            kind = getattr(errors, ended["error"], UsageError) if ended["ours"] else UsageError
            if ended["ours"]:
                raise kind(ended["words"])
            raise UsageError(
                f"The training fails by itself, in one go: {ended['error']}: {ended['words']}\n{ended['trace']}\n"
                "Correct it and prove again. Nothing of the training was changed."
            )
        return ended, records

    def stopped(
        self, stops: Sequence[Stop], last: Batch, reason: str
    ) -> Iterator[tuple[Stop | None, dict[str, Any], list[dict[str, Any]]]]:
        """Train with stops; yield each stop, how its session ended, and its records."""
        end = None if reason == "complete" else Stop(last.place, "end", "the end")
        before = None
        for number, stop in enumerate([*stops, end]):
            folder = self.folder / f"session-{number + 1}"
            folder.mkdir()
            if before is not None and (before / "checkpoints").is_dir():
                shutil.move(before / "checkpoints", folder / "checkpoints")
            ended, records = self._run(folder, 1, stop, None)
            yield stop if stop is not end else None, ended, records
            if ended.get("reason") == "complete" or "error" in ended:
                return
            before = folder

    def _run(
        self, folder: Path, interpreter: int, stop: Stop | None, seconds: float | None
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        import torch

        folder.mkdir(exist_ok=True)
        job = {
            "parts": str(self.folder / "parts.pickle"),
            "folder": str(folder),
            "stop": asdict(stop) if stop is not None else None,
            "seconds": seconds,
            "threads": torch.get_num_threads(),
        }
        code = self.running.run(interpreter, job, max(1.0, self.end - time.monotonic()))
        lines = folder / "records.jsonl"
        records = [json.loads(line) for line in lines.read_text("utf-8").splitlines()] if lines.is_file() else []
        if code and not (stop is not None and stop.kill):
            raise NbkitError(
                f"A process of the proof ended with code {code}, most often because memory ran out: "
                f"{self.running.last_words()} Nothing of the training was changed."
            )
        ended = folder / "ended.json"
        return (json.loads(ended.read_text("utf-8")) if ended.is_file() else {"reason": "killed"}), records


def _batches(records: list[dict[str, Any]]) -> list[Batch]:
    """Return what happened at the batches of a run, from its records."""
    validated = {tuple(record["place"]) for record in records if record["when"] == "validation"}
    step, found = 0, []
    for record in records:
        if record["when"] == "end":
            place = (record["place"][0], record["place"][1])
            found.append(Batch(place, record["step"] > step, place in validated))
            step = record["step"]
    return found


def _words(stop: Stop, resumed: list[dict[str, Any]]) -> str:
    """Describe a stop by where the next session resumed; a kill, by where it was."""
    place = stop.place if stop.kill or not resumed else resumed[0]["place"]
    return f"{stop.kind}: epoch {place[0]}, batch {place[1]}"


def _check(steps: int, stops: int) -> None:
    for name, value, least in (("steps", steps, 4), ("stops", stops, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"{name} is {value!r}; it must be a whole number from {least}. Nothing was begun.")
    if (world := current_world()).size > 1:
        raise UsageError(
            f"This process is one of {world.size} that torchrun started, and a proof starts its own. Run it as a plain "
            "script, with devices= as an option. Nothing was begun."
        )


def _options(module: Any, options: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return the options of `fit` for a short training that passes through several epochs and validations."""
    given = {name: value for name, value in options.items() if name not in _NOT_OURS}
    batches = steps * max(1, options.get("accumulate_grad_batches", 1))
    in_epoch = max(3, batches // _EPOCHS)
    for name, most in (("limit_train_batches", in_epoch), ("limit_val_batches", _VALIDATION_BATCHES)):
        own = options.get(name)
        given[name] = own if own is not None and (isinstance(own, float) or own <= most) else most
    every = options.get("val_check_interval")
    if isinstance(every, int) and not isinstance(every, bool):
        given["val_check_interval"] = max(1, min(every, batches // _VALIDATIONS, in_epoch))
    wanted = options.get("max_steps") or getattr(getattr(module, "settings", None), "max_steps", None)
    given["max_steps"] = min(steps, wanted) if isinstance(wanted, int) and wanted > 0 else steps
    given.setdefault("log_every_n_steps", 5)
    return {**given, "save_every": None, "callbacks": [*options.get("callbacks", ())]}


def _pickled(session: TrainingSession, module: Any, data: Any, options: dict[str, Any]) -> bytes:
    try:
        import cloudpickle
    except ImportError:  # joblib brought its own copy before it asked for this one
        from joblib.externals import cloudpickle

    chosen = device_of(session)
    device = {name: getattr(chosen, name) for name in ("accelerator", "count", "name", "precision", "reason")}
    facts = {"slug": session.slug, "seed": session.seed, "device": device}
    facts |= {name: getattr(session, name, None) for name in ("smoke", "shard")}
    if getattr(data, "trainer", None) is not None:  # of an earlier fit
        data = copy.copy(data)
        data.trainer = None
    parts = {"module": module, "data": data, "options": options}
    try:
        return pickle.dumps(facts) + pickled(cloudpickle, parts, session)
    except Exception as error:
        name = next((n for n, part in parts.items() if not _can_be_pickled(cloudpickle, part, session)), "training")
        raise UsageError(
            f"The {name.replace('options', 'callbacks')} cannot be copied for a proof: {error}. Keep open files, "
            "locks, connections, generator objects and other sessions out of them, or open them in setup(). Nothing "
            "was trained."
        ) from error


def _can_be_pickled(cloudpickle: Any, part: Any, session: Any) -> bool:
    try:
        pickled(cloudpickle, part, session)
    except Exception:  # an object's own way to be pickled may raise anything; the caller names it and the error
        return False
    return True
