"""Copy of a notebook for Kaggle or Colab.

A push uploads the text of one file and nothing else. So the run's parameters are written into the parameters cell, and
the set-up cell installs nbkit from the wheel in an attached private dataset. No secret is ever written into the copy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import UsageError
from nbkit.tools.notebooks import read_notebook
from nbkit.tools.parameters import check_parameters, notebook_parameters, refuse_fixed, set_values

_DEFAULTS = {"STORE": "None", "LIMIT": "None", "RESUME": '"exact"'}

# Kaggle mounts a wheel in <slug>/ or, since recently, datasets/<owner>/<slug>/; --no-deps keeps the image's own torch.
SET_UP = """\
%matplotlib inline
import glob, importlib.util, os, subprocess, sys

if importlib.util.find_spec("nbkit") is None:
    root = os.environ.get("NBKIT_KAGGLE_ROOT", "/kaggle")
    wheels = [w for depth in ("*", "*/*", "*/*/*") for w in glob.glob(f"{root}/input/{depth}/nbkit_neuro-*.whl")]
    assert wheels, "no wheel of nbkit is attached: push this notebook with 'nbkit push'"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", sorted(wheels)[-1]], check=True)
    importlib.invalidate_caches()
    subprocess.run([sys.executable, "-m", "nbkit", "install"EXTRAS], check=True)
import nbkit

print("nbkit", nbkit.__version__)
"""


def pushed_copy(notebook: Path, parameters: Mapping[str, Any], set_up: str | None = SET_UP) -> dict[str, Any]:
    """Return the content of a notebook as it is pushed.

    Parameters
    ----------
    notebook : Path
    parameters : mapping
        Values for the names in its parameters cell.
    set_up : str or None
        Source of its set-up cell; None keeps the notebook's own.

    Raises
    ------
    UsageError
        If the cell does not have a name, or a value has another type.
    """
    checked = check_parameters(notebook, notebook_parameters(notebook), parameters)
    content = read_notebook(notebook)
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        cell["outputs"], cell["execution_count"] = [], None
    set_values(content, checked)
    if set_up is not None and code and code[0]["id"] == "set-up":
        code[0]["source"] = set_up.replace("EXTRAS", "".join(f', "{extra}"' for extra in extras_of(code[0]["source"])))
    return content


def extras_of(set_up: str) -> list[str]:
    """Return the extras that follow ``nbkit install`` in a notebook's own set-up cell."""
    found = re.search(r"nbkit install((?: [\w-]+)*)", set_up)
    return found[1].split() if found else []


def require_names(notebook: Path, names: tuple[str, ...]) -> None:
    """Check that the parameters cell of a notebook has these names.

    Raises
    ------
    UsageError
        If a name is missing, or the notebook opens its session with a store or a limit of its own.
    """
    known = notebook_parameters(notebook)
    for name in names:
        if name not in known:
            raise UsageError(
                f"The parameters cell of {notebook.name} has no {name}. On a host a run learns what it is to do only "
                f"from this cell: add the line '{name} = {_DEFAULTS[name]}' and pass {name} to open_session. Nothing "
                "was begun."
            )
    refuse_fixed(notebook, {name.lower(): (f"the {name}", "of this command") for name in names})
