"""Settings of JupyterLab in a checkout's environment: a save of outputs alone leaves ``git status`` clean.

``make setup`` copies this file into ``.venv/etc/jupyter``. The clean filter (``tests/stripping.py``) makes outputs no
change, but git compares contents only where the size of a file is the one that it has noted, so it would still list a
notebook that was run. After each save this notes the new size, and nothing else.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def note_size(model: dict[str, Any], os_path: str, **others: Any) -> None:
    """Let git note the size of a notebook that was saved, where its content for git is what the index holds."""
    file = Path(os_path)

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", *words], cwd=file.parent, capture_output=True, text=True)
        return None if done.returncode else done.stdout.strip()

    try:
        if model["type"] == "notebook" and git("config", "--local", "filter.notebook.clean"):
            held = git("rev-parse", f":./{file.name}")
            if held and held == git("hash-object", "--", file.name):
                git("update-index", "--", file.name)  # the same content: nothing is staged
    except OSError:
        pass  # no git here; the notebook is saved all the same, and a person sees it in git's own list


if "get_config" in globals():  # Jupyter reads this file so; a test imports it
    globals()["get_config"]().FileContentsManager.post_save_hook = note_size
