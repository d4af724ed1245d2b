"""Releases of HBN-EEG, and the guard that rejects the held-out one.

Release 5 is the EEG Challenge's held-out set. All code that opens HBN data calls `refuse_held_out` with every name that
it has: release, data set, path, and metadata of the folder.
"""

from __future__ import annotations

import re
from pathlib import Path

HELD_OUT = "R5"
DATASETS = {
    "R1": "ds005505", "R2": "ds005506", "R3": "ds005507", "R4": "ds005508", "R5": "ds005509", "R6": "ds005510",
    "R7": "ds005511", "R8": "ds005512", "R9": "ds005514", "R10": "ds005515", "R11": "ds005516",
}  # fmt: skip
RELEASES = tuple(release for release in DATASETS if release != HELD_OUT)
EXCLUDED_SUBJECTS = frozenset(
    {
        "NDARWV769JM7", "NDARME789TD2", "NDARUA442ZVF", "NDARJP304NK1", "NDARTY128YLU", "NDARDW550GU6",
        "NDARLD243KRE", "NDARUJ292JXV", "NDARBA381JGH",
    }
)  # fmt: skip
PASSIVE_TASKS = (
    "RestingState", "surroundSupp", "DespicableMe", "ThePresent", "DiaryOfAWimpyKid", "FunwithFractals",
)  # fmt: skip
ACTIVE_TASK = "contrastChangeDetection"
TASKS = (*PASSIVE_TASKS, ACTIVE_TASK)  # those that are used unless others are named
FURTHER_TASKS = ("seqLearning6target", "seqLearning8target", "symbolSearch")

# R5, r5_mini_L100_bdf, EEG2025r5, EEG2025r5mini, ds005509, release-5; not R50, xR5 or NDARBM839WR5
_HELD_OUT = re.compile(
    rf"(?<![a-z0-9])(?:eeg2025)?r0?5(?:mini)?(?![a-z0-9])|{DATASETS[HELD_OUT]}(?!\d)|release[\s_-]*0?5(?!\d)",
    re.IGNORECASE,
)


def refuse_held_out(*names: object) -> None:
    """Raise if a name, id or path belongs to release 5.

    Parameters
    ----------
    *names : object
        Release names and numbers, data set ids, titles, paths (links are resolved); None is ignored.

    Raises
    ------
    ValueError
        With the name that belongs to release 5.
    """
    for name in names:
        texts = [str(name)]
        if isinstance(name, Path):
            texts.append(str(name.resolve()))
        if name == 5 or texts[0].strip() == "5" or any(_HELD_OUT.search(text) for text in texts):
            raise ValueError(
                f"{name} belongs to HBN release 5, the challenge's held-out set (OpenNeuro {DATASETS[HELD_OUT]}): it "
                f"is never opened here. Nothing was read. Allowed are {', '.join(RELEASES)}."
            )


def check_release(release: object) -> str:
    """Return the name of a release, such as R1; raise ValueError for release 5 and unknown ones."""
    refuse_held_out(release)
    name = f"R{release}" if str(release).isdecimal() else str(release).upper()
    if name not in RELEASES:
        raise ValueError(f"Unknown {release=}; it may be {', '.join(RELEASES)}.")
    return name


def check_tasks(tasks: object) -> tuple[str, ...]:
    """Return task names as in HBN's files, for any case; raise ValueError for unknown ones."""
    known = {task.lower(): task for task in (*TASKS, *FURTHER_TASKS)}
    wanted = [tasks] if isinstance(tasks, str) else list(tasks)
    unknown = [task for task in wanted if str(task).lower() not in known]
    if unknown:
        raise ValueError(f"Task {unknown[0]!r} is unknown; it may be {', '.join(known.values())}.")
    return tuple(known[str(task).lower()] for task in wanted)
