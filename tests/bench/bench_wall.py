"""Time after the wall in every notebook that trains: the wall in the middle of the work, and in the cells after it

Each notebook runs at its smoke size, cell by cell as in a kernel, in a process of its own. The wall is brought near
when the work has begun, or when it has ended. Steps of a training are slowed down to half a second once it has begun,
so that the wall falls into it. Late is how long the process lives after the wall, its last uploads included; beside it
stands what it computed in that time, which is what is left of it where nothing else runs on the machine.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from nbkit.tools.phases import load_phases
from tests.bench.rows import Row

LATEST = 5.0  # s after the wall
_BEFORE = ("eeg_windows",)  # what trainings need at their smoke size
_ITEMS = ("neurofm_search", "neurofm_scaling", "tribe_evaluate", "decoding_frozen", "decoding_finetune",
          "decoding_compare")  # fmt: skip
_STEP_S = 0.5
_WORK_S, _AFTER_S = 4.0, 1.5  # from the first step or item, and from the end of the work, to the wall


def notebooks() -> list[tuple[str, Path]]:
    """Return (phase, notebook) of all that train or score, and of what they need, by number."""
    found = []
    for phase in load_phases():
        path = next((Path(__file__).parents[2] / "notebooks").glob(f"*_{phase.slug}.ipynb"))
        if phase.slug in (*_BEFORE, *_ITEMS) or "session.fit(" in path.read_text("utf-8"):
            found.append((phase.slug, path))
    return found


def run(quick: bool) -> list[Row]:
    """Cut every notebook twice, on one store, in the order of their numbers; quick takes those up to 21."""
    import importlib

    for heavy in ("lightning", "mne", "IPython.core.interactiveshell", "matplotlib.pyplot", "sklearn.pipeline"):
        importlib.import_module(heavy)  # once, here: each process is forked from this one
    rows: list[Row] = []
    folder = tempfile.mkdtemp()  # a TemporaryDirectory would be removed by the first child that ends
    try:
        for slug, path in notebooks()[: 3 if quick else None]:
            if slug in _BEFORE:
                _in_a_child(path, Path(folder), "never")
                continue
            for where, words in (("work", "in the work"), ("after", "in the cells after it")):
                found = _in_a_child(path, Path(folder), where)
                late, met = found["late"], found["late"] is not None and found["late"] <= LATEST
                beside = ("of a processor in this time", found["computed"])
                rows.append(
                    Row(f"{path.stem}: wall {words}", late, "s", *beside, f"<= {LATEST:g} s", met, found["said"])
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows


def _in_a_child(path: Path, folder: Path, where: str) -> dict[str, Any]:
    """Run a notebook in a forked process and return how late it ended, and what is to be said of it."""
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _run_cells(path, folder, where, report)
            code = 0
        finally:
            atexit._run_exitfuncs()
            os._exit(code)
    _, _, used = os.wait4(child, 0)
    ended, used_s = time.monotonic(), used.ru_utime + used.ru_stime
    if not report.is_file():
        never = where == "never"
        return {
            "late": None,
            "computed": None,
            "said": "" if never else "the wall was never brought near: the work did not begin",
        }
    found = json.loads(report.read_text("utf-8"))
    early = found["wall"] - ended
    said = f"ended {early:.1f} s before it" if early > 0 else found["cell"]
    computed = max(0.0, used_s - found["used"]) if early <= 0 and "used" in found else 0.0
    return {"late": max(0.0, -early), "computed": computed, "said": said}


def _run_cells(path: Path, folder: Path, where: str, report: Path) -> None:
    import matplotlib
    from IPython.core.interactiveshell import InteractiveShell

    matplotlib.use("agg")
    home = folder / f"{path.stem}-{where}"
    home.mkdir(exist_ok=True)
    os.chdir(home)
    os.environ["NBKIT_LINES"] = "60"
    log = open(folder / f"{path.stem}-{where}.log", "w")  # noqa: SIM115
    shell, cell = InteractiveShell.instance(), [""]
    given = f"STORE, LIMIT, SMOKE = {str(folder / 'store')!r}, '1h', True"
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log), _wall(where, report, cell):
        for part in json.loads(path.read_text("utf-8"))["cells"]:
            if part["cell_type"] != "code":
                continue
            cell[0] = part["id"]
            source = "".join(part["source"]).replace("%matplotlib inline", "")
            if "parameters" in part["metadata"].get("tags", []):
                source += f"\n{given}"
            done = shell.run_cell(source)
            if not done.success:  # an exit at the wall too: `nbkit run` ends at such a cell
                break


@contextlib.contextmanager
def _wall(where: str, report: Path, cell: list[str]) -> Iterator[None]:
    """Bring the wall near at the first step or item, or when the work has ended, and write down when it is."""
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

    from nbkit.runtime.closing import Closing
    from nbkit.runtime.items.work import Item
    from nbkit.runtime.session import Session

    sessions: list[Session] = []
    near: list[float] = []

    def bring(seconds: float) -> None:
        if sessions and not near:
            near.append(time.monotonic() + seconds)
            sessions[0].budget.end_within(seconds)
            found = {"wall": near[0], "cell": f"in cell {cell[0]}, of {seconds:g} s"}
            report.write_text(json.dumps(found), "utf-8")
            threading.Thread(target=at_wall, args=(found,), daemon=True).start()

    def at_wall(found: dict[str, Any]) -> None:
        time.sleep(max(0.0, near[0] - time.monotonic()))
        report.write_text(json.dumps(found | {"used": time.process_time()}), "utf-8")

    def also(kind: type, name: str, before: Callable[[Any], None]) -> Any:
        first = getattr(kind, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            before(self)
            return first(self, *args, **kwargs)

        return mock.patch.object(kind, name, call)

    def step(_: Any) -> None:
        if where == "work" and sessions:
            bring(_WORK_S)
            time.sleep(_STEP_S)

    def begin(_: Any) -> None:
        if where == "work":
            bring(_WORK_S)

    def end(session: Any) -> None:
        if where == "after":
            bring(_AFTER_S)

    with (
        also(Session, "__init__", sessions.append),
        also(_TrainingEpochLoop, "advance", step),
        also(Item, "__enter__", begin),
        also(Closing, "_end_work", end),
    ):
        yield
