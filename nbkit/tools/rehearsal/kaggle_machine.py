"""Rehearsals under Kaggle's conditions: its folders, variables, pushed copy and papermill runner, without Kaggle.

The notebook that runs is the copy that a push would send, and it learns the store and the limit from its parameters
cell only. Everything is kept below the session's own folder, so it needs no special rights and leaves nothing behind.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from nbkit.runtime.hosts.host import KAGGLE_ROOT_VARIABLE
from nbkit.tools.kaggle.copy import pushed_copy, require_names
from nbkit.tools.rehearsal.machine import ThisMachine
from nbkit.tools.rehearsal.running import kernel_of_this_python

# NBKIT_DRIVE_CREDENTIAL is not among them: it takes the place of the private dataset that a push attaches
_REMOVED = ("NBKIT_STORE", "NBKIT_LIMIT", "COLAB_RELEASE_TAG", "LIGHTNING_CLOUD_SPACE_ID")


class KaggleMachine(ThisMachine):
    """Run sessions as Kaggle runs a notebook in batch mode."""

    def prepare(
        self, notebook: Path, limit: float, room: Path, environment: Mapping[str, str]
    ) -> tuple[list[str], Path, dict[str, str]]:
        """Return the command, the working folder and the environment variables of a batch run.

        Raises
        ------
        UsageError
            If the notebook's parameters cell has no STORE or LIMIT.
        """
        require_names(notebook, ("STORE", "LIMIT"))
        root = room / "kaggle"
        for name in ("working", "input", "src"):
            (root / name).mkdir(parents=True)
        given = {"STORE": self.store, "LIMIT": f"{limit}s", **({"SMOKE": True} if self.smoke else {})}
        copy = root / "src" / "notebook.ipynb"
        copy.write_text(json.dumps(pushed_copy(notebook, given | dict(self.parameters.get(notebook, {})))), "utf-8")
        working = root / "working"
        variables = {
            "KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_WORKING_DIR": str(working),
            "KAGGLE_URL_BASE": "https://www.kaggle.com", KAGGLE_ROOT_VARIABLE: str(root),
            **kernel_of_this_python(room),
        }  # fmt: skip
        known = {name: value for name, value in environment.items() if name not in _REMOVED}
        command = [sys.executable, "-m", "papermill", str(copy), str(working / "__notebook__.ipynb"), "-k", "python3"]
        return [*command, "--cwd", str(working), "--no-progress-bar", "--log-output"], working, known | variables
