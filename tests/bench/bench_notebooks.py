"""Each notebook with SMOKE on, from an empty store onwards.

The form promises under 60 s on two CPU cores, kernel and imports included.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from pathlib import Path

from nbkit.tools.rehearsal.running import run_notebook
from tests.bench.rows import Row

SECONDS = 60.0


def run(quick: bool) -> list[Row]:
    """Run the notebooks in the order of their numbers on one store."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb")):
            began = time.perf_counter()
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = run_notebook(path, store=Path(folder, "store"), smoke=True, folder=Path(folder, path.stem))
            seconds = time.perf_counter() - began
            note = "" if code == 0 else f"exit code {code}: {said.getvalue()[-200:]}"
            met = code == 0 and seconds < SECONDS
            rows.append(Row(path.stem, seconds, "s", target=f"< {SECONDS:.0f} s", met=met, note=note))
    return rows
