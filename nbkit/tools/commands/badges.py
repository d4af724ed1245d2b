"""Owner of this copy of the repository: write it to ``manifests/phases.toml`` and to the files that depend on it.

``make badges OWNER=account`` writes the GitHub account of the repository to this file, to the badges in
``colab/README.md`` and to Kaggle's metadata. While no account is set, the table links to the notebook files, because a
badge without an account would lead nowhere. The notebooks contain no owner.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from nbkit.ground.files import write_atomically
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.words import counted
from nbkit.tools.phases import PLACEHOLDER, Phase, check_owner, load_owner, load_phases, phases_file

_COLAB = "https://colab.research.google.com"
_ROW = re.compile(r"^\| `(\d\d)_\w+` \|.*\n", re.MULTILINE)
_OWNER = re.compile(r'^owner = ".*"', re.MULTILINE)


def badge_row(phase: Phase, owner: str) -> str:
    """Return the row of a phase in the table of ``colab/README.md``."""
    where = f"[the notebook](../notebooks/{phase.notebook})"
    if owner:
        image = f"![Open in Colab]({_COLAB}/assets/colab-badge.svg)"
        where = f"[{image}]({_COLAB}/github/{owner}/nbkit/blob/main/notebooks/{phase.notebook})"
    return f"| `{Path(phase.notebook).stem}` | {phase.title} | {phase.accelerator} | {where} |\n"


def with_badge(text: str, phase: Phase, owner: str) -> str:
    """Return the text of ``colab/README.md`` with the row of a phase added, sorted by number."""
    before = [found.end() for found in _ROW.finditer(text) if int(found[1]) < phase.number]
    at = max(before, default=text.index("\n", text.index("|---")) + 1)
    return text[:at] + badge_row(phase, owner) + text[at:]


def kernel_id(phase: Phase, owner: str) -> str:
    """Return the id of a phase in Kaggle's metadata; a push replaces its owner with the user who is logged in."""
    return f"{owner or PLACEHOLDER}/nbkit-{phase.kaggle_folder}"


def write_owner(owner: str = "") -> list[str]:
    """Write the owner to all files of this checkout that depend on it; files with this owner are not changed.

    Parameters
    ----------
    owner : str
        A GitHub account; the one in ``manifests/phases.toml`` by default.

    Returns
    -------
    changed : list of str
        Paths of the changed files in the checkout.

    Raises
    ------
    UsageError
        If the name is not valid, none is given or set, or this is not a checkout.
    """
    root = phases_file().parents[1]
    if not (root / "colab" / "README.md").is_file():
        raise UsageError(
            f"{root} is not a checkout of nbkit. Clone nbkit and run this in the clone. Nothing was written."
        )
    owner = check_owner(owner or load_owner())
    if not owner:
        raise UsageError(
            "No owner is set. Name the GitHub account that holds your copy of this repository: make badges "
            "OWNER=account. Nothing was written."
        )
    files: dict[Path, str] = {}
    table = (root / "colab" / "README.md").read_text("utf-8")
    for phase in load_phases():
        row = re.compile(rf"^\| `{Path(phase.notebook).stem}` \|.*\n", re.MULTILINE)
        table = with_badge(row.sub("", table), phase, owner)
        path = root / "kaggle" / phase.kaggle_folder / "kernel-metadata.json"
        if path.is_file():
            metadata = json.loads(path.read_text("utf-8")) | {"id": kernel_id(phase, owner)}
            files[path] = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
    files[root / "colab" / "README.md"] = table
    # phases.toml is written last: if this process is killed before that, no owner is set and it can be run again
    files[phases_file()] = _OWNER.sub(f'owner = "{owner}"', phases_file().read_text("utf-8"), count=1)
    changed = [path for path, text in files.items() if path.read_text("utf-8") != text]
    for path in changed:
        write_atomically(path, lambda file, path=path: file.write(files[path].encode()))
    return [path.relative_to(root).as_posix() for path in changed]


def main(arguments: Sequence[str]) -> int:
    """Write the owner, print the changed files, and return the exit code."""
    try:
        changed = write_owner(arguments[0] if arguments else "")
    except NbkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"The owner is {load_owner()}: {counted(len(changed), 'file')} written.", *changed, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main([argument for argument in sys.argv[1:] if argument]))
