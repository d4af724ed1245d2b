"""The likeliest cause of a difference, and what to do about it.

Two more uninterrupted runs tell what no look at one of them can: if they differ from the first one, the training is not
repeatable at all, and stops have nothing to do with it. Otherwise a resume has lost something, and what the objects of
Python hold is compared at the batch where the session resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbkit.runtime.training.proving.compare import Difference
from nbkit.runtime.training.proving.held import WORKERS

_NAMED = 3  # places that a message names


@dataclass(frozen=True)
class Cause:
    """The likeliest cause of a difference.

    Attributes
    ----------
    kind : str
        One of the keys of `REMEDIES`.
    where : tuple of str
        The places in the user's code or objects; may be empty.
    """

    kind: str
    where: tuple[str, ...] = ()

    def words(self) -> str:
        """Return the cause and the remedy as sentences."""
        what, remedy = REMEDIES[self.kind]
        where = f" ({'; '.join(self.where)})" if self.where else ""
        return f"The likeliest cause is {what}{where}. {remedy}"


REMEDIES = {
    "generator in the data": (
        "a random generator that the dataset or its transforms hold, whose state no checkpoint has",
        "Draw from the global generators (random, np.random or torch) in __getitem__: they are seeded for every item. "
        "Or make the generator in __getitem__ from the index.",
    ),
    "generator": (
        "a random generator of your own, whose state no checkpoint has",
        "Draw from the global generators (torch.rand, np.random, random), which are seeded for every step, or keep the "
        "generator's state in state_dict or on_save_checkpoint.",
    ),
    "data": (
        "state that the dataset or DataModule changes while it is read",
        "Let an item depend on its index only, and keep what must change in the DataModule's state_dict and "
        "load_state_dict.",
    ),
    "workers": (
        "state that the dataset keeps in the processes of the DataLoader's workers, which begin anew in each session",
        "Let an item depend on its index only. With num_workers=0 a proof can name what changes.",
    ),
    "module": (
        "an attribute of the module that changes and is not saved",
        "Register it as a buffer (self.register_buffer), or save it in on_save_checkpoint and restore it in "
        "on_load_checkpoint.",
    ),
    "callback": (
        "an attribute of a callback that changes and is not saved",
        "Give the callback state_dict and load_state_dict.",
    ),
    "optimizer": (
        "state of an optimizer that is not in its state_dict",
        "Keep it in the optimizer's state or param_groups.",
    ),
    "process": (
        "state that belongs to the Python process: a global, class attribute, closure or cache",
        "Another session begins with it as it was at the import. Move it into the module as a buffer, or compute it "
        "from trainer.global_step and current_epoch.",
    ),
    "environment": (
        "an environment variable that the training changes and reads",
        "Another session begins without it. Move it into the module as a buffer.",
    ),
    "file": (
        "a file that the training writes and reads again",
        "Another machine does not have it. Keep its content in the module as a buffer or in on_save_checkpoint.",
    ),
    "epoch start": (
        "what a hook at the start of the epoch sets, because a session that resumes in an epoch does not call it again",
        "Set it from trainer.current_epoch in on_train_start, too, or keep it in a buffer or state_dict.",
    ),
    "clock": (
        "the time of day or a measured time",
        "Two uninterrupted runs differ, too. Use trainer.global_step instead of the clock.",
    ),
    "entropy": (
        "random numbers of the system, which no seed reaches (os.urandom, uuid, secrets, the process id)",
        "Two uninterrupted runs differ, too. Draw from random, np.random or torch, which are seeded.",
    ),
    "unseeded": (
        "a random generator that is made without a seed",
        "Two uninterrupted runs differ, too. Draw from random, np.random or torch, which are seeded, or give a seed.",
    ),
    "hash": (
        "the order of a set or the value of hash(), which Python changes from one process to the next",
        "Sort what comes out of a set (sorted(...)), and use zlib.crc32 instead of hash().",
    ),
    "thread": (
        "the timing of threads or processes of your own",
        "Two uninterrupted runs differ, too. Wait for their results at a fixed step.",
    ),
    "kernels": (
        "kernels of the GPU that sum in no fixed order",
        "Two uninterrupted runs differ, too. Give deterministic=True to fit; it costs some speed.",
    ),
    "not repeatable": (
        "something outside of the training that differs between two processes",
        "Two uninterrupted runs differ, too: look for clocks, threads, other processes and files that change.",
    ),
    "refused": ("given in that message", "Correct that first."),
    "unknown": (
        "state outside of what a checkpoint holds and of what can be looked at, such as that of a C library, a file or "
        "another process",
        "Look at what the training reads besides its batch and its weights.",
    ),
}

_NOT_REPEATABLE = ("entropy", "clock", "thread", "unseeded")
_OF_CLUE = {"generator": "unseeded"}


def not_repeatable(difference: Difference, clues: Sequence[Sequence[str]], on_gpu: bool) -> Cause:
    """Return the cause where two uninterrupted runs differ."""
    part = "data" if difference.name.startswith("batch") else "module"
    if part == "data" or not on_gpu:
        clues = sorted(clues, key=lambda clue: clue[3] != part)
    else:  # equal batches give other results on a GPU: unless the module's own code says why, it is the kernels
        clues = [clue for clue in clues if clue[3] == part]
    for kind in _NOT_REPEATABLE:
        where = [f"{call} in {place}" for found, call, place, _ in clues if _OF_CLUE.get(found, found) == kind]
        if where:
            return Cause(kind, tuple(where[:_NAMED]))
    return Cause("kernels" if on_gpu else "not repeatable")


def of_hashes(clues: Sequence[Sequence[str]]) -> Cause:
    """Return the cause where two uninterrupted runs differ only if Python's hashes do."""
    return Cause("hash", tuple(f"{call} in {place}" for kind, call, place, _ in clues if kind == "hash")[:_NAMED])


def lost_at_resume(
    difference: Difference,
    whole: Mapping[str, str],
    resumed: Mapping[str, str],
    begun: Mapping[str, str],
    clues: Sequence[Sequence[str]],
) -> Cause:
    """Return the cause where uninterrupted runs are equal.

    Parameters
    ----------
    difference : Difference
    whole, resumed : mappings
        What the objects held before the batch where the session resumed, in both runs.
    begun : mapping
        What they held before the first batch of the uninterrupted run.
    clues : sequence
        Calls in the user's code.
    """
    lost = [path for path in {**whole, **resumed} if whole.get(path) != resumed.get(path)]
    # what changed while it was trained comes before what was never there
    lost.sort(key=lambda path: (begun.get(path) == whole.get(path), path.startswith("len("), len(path)))
    by_kind: dict[str, list[str]] = {}
    for path in lost:
        if kind := _kind_of(path, f"{whole.get(path, '')} {resumed.get(path, '')}"):
            by_kind.setdefault(kind, []).append(path.removeprefix("len(").removesuffix(")"))
    order = ["module", "callback", "optimizer", "process", "generator", "environment", "data", "generator in the data"]
    if difference.name.startswith("batch"):
        order = ["generator in the data", "generator", "data", "process", "environment", *order]
    if difference.name.startswith(("modules", "frozen")):
        return Cause("epoch start", (difference.name,))
    for hook in (place for kind, names, place, _ in clues if kind == "epoch start" and _sets(names, by_kind)):
        return Cause("epoch start", (hook, *_sets_of(by_kind)[:_NAMED]))
    for kind in sorted(by_kind, key=lambda kind: order.index(kind)):
        return Cause(kind, tuple(dict.fromkeys(by_kind[kind]))[:_NAMED])
    files = tuple(f"{call} in {place}" for kind, call, place, _ in clues if kind == "file")
    hooks, inside = {}, difference.resumed_at is not None and difference.resumed_at[1] > 0
    for names, place in ((names, place) for kind, names, place, _ in clues if kind == "epoch start" and inside):
        hooks[place] = _all_seen(names, whole)
    for kind, where in (  # a hook comes first unless all that it sets was seen to be the same
        ("epoch start", tuple(place for place, seen in hooks.items() if not seen)),
        ("file", files),
        ("epoch start", tuple(hooks)),
    ):
        if where:
            return Cause(kind, where[:_NAMED])
    if difference.name.startswith("batch") and whole.get(WORKERS, "0") != "0":
        return Cause("workers")
    return Cause("unknown")


def _sets_of(by_kind: Mapping[str, list[str]]) -> list[str]:
    return [*by_kind.get("module", ()), *by_kind.get("callback", ())]


def _sets(names: str, by_kind: Mapping[str, list[str]]) -> bool:
    """Return whether one of the lost attributes is one of these names."""
    return any(path.rpartition(".")[2] in names.split() for path in _sets_of(by_kind))


def _all_seen(names: str, held: Mapping[str, str]) -> bool:
    """Return whether an attribute of each of these names was looked at."""
    seen = {path.removeprefix("len(").removesuffix(")").rpartition(".")[2] for path in held}
    return bool(names) and seen.issuperset(names.split())


def _kind_of(path: str, values: str) -> str | None:
    path = path.removeprefix("len(")
    generator = "random generator" in values
    if path.startswith(("data", "collate_fn", "worker_init_fn")):
        return "generator in the data" if generator else "data"
    if path.startswith("environment"):
        return "environment" if not path.endswith(("TMPDIR", "PYTHONHASHSEED")) else None
    if generator:
        return "generator"
    if path.startswith(("class attribute", "module-level", "variable", "default", "attribute")):
        return "process"
    return path.split(" ")[0].split(".")[0] if path.startswith(("module", "callback", "optimizer")) else None
