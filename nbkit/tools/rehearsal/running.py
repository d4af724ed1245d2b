"""One session of a notebook on this machine, run by papermill.

The kernel is this interpreter, whatever kernels the machine has registered, and it imports this nbkit. Store, limit and
journal reach it by environment variables, so the executed notebook contains no address or credential.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_json
from nbkit.ground.home import import_folder
from nbkit.runtime import errors
from nbkit.runtime.cells.lines import VARIABLE as LINES
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.hosts import environment
from nbkit.runtime.journal import VARIABLE, Event, of_kind, read_journal
from nbkit.runtime.names import check_name
from nbkit.runtime.store.address import has_secrets, hide, hide_in, show
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.store.retried import Retried
from nbkit.runtime.training.sameness.asked import VARIABLE as RESUME
from nbkit.runtime.words import abridged, parse_duration
from nbkit.tools.notebooks import find_notebook, read_notebook
from nbkit.tools.parameters import check_parameters, notebook_parameters, refuse_fixed, set_values
from nbkit.tools.rehearsal.handing_on import handing_on

DONE, FAILED, LEFT = 0, 1, 3
_TRACE_LINES = 12
_ASKED = "StdinNotImplementedError"  # of input() and getpass() in a kernel without a person


def run_notebook(
    path: str | os.PathLike[str],
    params: Mapping[str, Any] | None = None,
    store: str | os.PathLike[str] | None = None,
    limit: str | float | None = None,
    smoke: bool = False,
    folder: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    resume: str | None = None,
) -> int:
    """Run one session of a notebook and store the executed copy.

    Parameters
    ----------
    path : str or path
        The notebook: a path, a name such as ``40_bandvar_train``, or a phase's slug.
    params : mapping or None
        Values for the names in its parameters cell.
    store : str, path or None
        Folder or URL; None uses NBKIT_STORE, then ``./nbkit-store``.
    limit : str, float or None
        Length of the session, such as ``"9h"``; None uses NBKIT_LIMIT, then the host's default.
    smoke : bool
        True to set its SMOKE parameter.
    folder : path or None
        Working folder; the current folder by default.
    quiet : bool
        True to show the cells' output in the executed notebook only.
    resume : str or None
        ``accept`` to resume trainings with changed settings or data, ``anew`` to start them again, in this session.

    Returns
    -------
    exit_code : int
        0 if the phase is complete, 3 if it stopped with work left, 1 if it failed, 2 if the user's input is wrong.

    Raises
    ------
    UsageError
        If the file does not exist or is not a notebook, or the notebook does not have a parameter.
    """
    path = find_notebook(path)
    folder = Path(os.path.realpath(folder or "."))
    known = notebook_parameters(path)
    params = check_parameters(path, known, params or {})
    smoke = bool(_once(params, "SMOKE", smoke or None, "--smoke"))
    params |= check_parameters(path, known, {"SMOKE": True} if smoke else {})
    store = _once(params, "STORE", store, "--store")
    refuse_fixed(path, {"store": ("--store", store), "limit": ("--limit", limit)})
    store = store_address(store or os.environ.get("NBKIT_STORE") or known.get("STORE"))
    limit = _once(params, "LIMIT", limit, "--limit")
    parse_duration(limit)
    open_store(store)  # a mistyped address must not cost the start of a kernel
    # a value in the notebook takes precedence over the environment, so it is replaced
    if known.get("STORE") is not None:
        params["STORE"] = None if has_secrets(store) else store  # None: the variable's
    if limit is not None and known.get("LIMIT") is not None:
        params["LIMIT"] = limit

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder {folder}, in which the notebook is to run, cannot be made: {error.strerror}. Give another. "
            "Nothing was begun."
        ) from None
    with tempfile.TemporaryDirectory(prefix="nbkit-run-") as scratch:
        journal = Path(os.path.realpath(os.environ.get(VARIABLE) or Path(scratch, "journal.jsonl")))
        before = len(read_journal(journal))
        executed = Path(scratch, "executed.ipynb")  # papermill fills in braces of a name
        variables = {"NBKIT_STORE": store, VARIABLE: str(journal), **({"NBKIT_LIMIT": str(limit)} if limit else {})}
        variables |= {RESUME: resume} if resume else {}
        variables |= {} if os.environ.get(LINES) else {LINES: "60"}  # a bar is a widget, which is not seen here
        with environment(variables | kernel_of_this_python(Path(scratch))):
            fault = _execute(path, executed, params, folder, quiet)
        events = read_journal(journal)[before:]
        if executed.is_file():
            _store_executed(executed, store, events, path)
    if fault is not None:
        if _exit_of(fault) != DONE:  # a notebook that ends after its proof raises an error that is none
            print(hide(abridged(_message(fault), 8000), store), file=sys.stderr, flush=True)
        return _exit_of(fault)
    return exit_code(events, path)


def _once(params: dict[str, Any], name: str, given: Any, option: str) -> Any:
    """Take a parameter that an option sets, too, out of the parameters, and return the one value that was given.

    Raises
    ------
    UsageError
        If both were given, and differ.
    """
    own = params.pop(name, None)
    if own is not None and given is not None and own != given:
        raise UsageError(
            f"{option} {show(str(given))} and -p {name}={show(str(own))} contradict each other. Give one. Nothing was "
            "begun."
        )
    return own if given is None else given


# -- the kernel --------------------------------------------------------------------------------------------------------


def kernel_of_this_python(scratch: Path) -> dict[str, str]:
    """Write a kernel `python3` for this interpreter, and return the variables that make Jupyter use it first."""
    spec = scratch / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=50"]
    command += [f"--Session.packer={__name__}.pack"]
    (spec / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    return {
        "JUPYTER_PATH": os.pathsep.join(filter(None, [str(scratch / "jupyter"), os.environ.get("JUPYTER_PATH")])),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(import_folder()), os.environ.get("PYTHONPATH")])),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def pack(message: Any) -> bytes:
    """Return a kernel's message as JSON; half a character, which a cell can print, does not take the output with it."""
    from jupyter_client.session import json_packer

    try:
        return json_packer(message)
    except UnicodeEncodeError:
        return json.dumps(message, default=str, ensure_ascii=False).encode("utf-8", "replace")


class _Stopped(NbkitError):
    """A signal ended a run before its first cell."""

    exit_code = LEFT


def _execute(path: Path, executed: Path, params: dict[str, Any], folder: Path, quiet: bool) -> Exception | None:
    """Run all cells; return the error that stopped them, or None."""
    _import_papermill()
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillException, PapermillExecutionError

    source = executed.with_name("notebook.ipynb")
    content = read_notebook(path)
    set_values(content, params)  # not papermill's way, which makes a text of each tuple
    source.write_text(json.dumps(content), "utf-8")
    came: list[str] = []
    try:
        with handing_on() as came:
            papermill.execute_notebook(
                str(source),
                str(executed),
                kernel_name="python3",
                cwd=str(folder),
                progress_bar=False,
                stdout_file=None if quiet else sys.stdout,
                stderr_file=None if quiet else sys.stderr,
            )
    except PapermillExecutionError:
        return _unexpected(executed)
    except (DeadKernelError, RuntimeError) as error:
        if not isinstance(error, DeadKernelError) and "before replying to kernel_info" not in str(error):
            raise  # jupyter_client has no class of its own for a kernel that died while it started
        if came and not isinstance(error, DeadKernelError):
            return _Stopped(
                f"{path.name}: {came[0]} ended the run while its kernel was starting. Nothing was begun, and the work "
                "in the store is safe. Run the notebook again."
            )
        if came:
            return NbkitError(
                f"{path.name}: {came[0]} ended the kernel outside a session. The work in the store is safe. Run the "
                "notebook again: it continues from there."
            )
        return NbkitError(
            f"{path.name}: the kernel died, most often because memory ran out. The work in the store is safe. Run the "
            "notebook again: it continues from there."
        )
    except PapermillException as error:
        return UsageError(f"Papermill cannot run {path.name}: {error}. Nothing was begun.")
    return None


def _unexpected(executed: Path) -> Exception | None:
    """Return the error of the first cell that is not tagged ``raises-exception``; None if such cells alone raised.

    Papermill runs on after an expected error, but reports it at the end as if it had stopped the notebook.
    """
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import ERROR_MARKER_TAG

    content = read_notebook(executed)
    for index, cell in enumerate(content["cells"]):
        errors_of = [one for one in cell.get("outputs", []) if one["output_type"] == "error"]
        calm = [one for one in errors_of if one["ename"] == "SystemExit" and one["evalue"] in ("", "0")]
        if "raises-exception" in cell["metadata"].get("tags", []) or len(calm) == len(errors_of):
            continue
        found = next(one for one in errors_of if one not in calm)
        told = {name: found[name] for name in ("ename", "evalue", "traceback")}
        return PapermillExecutionError(index, cell["execution_count"], cell["source"], **told)
    content["cells"] = [c for c in content["cells"] if ERROR_MARKER_TAG not in c["metadata"].get("tags", [])]
    write_json(executed, content)
    return None


def _import_papermill() -> None:
    """Import papermill without a check that takes two thirds of its import time of 1.2 s, before every session.

    If rfc3987-syntax is installed (JupyterLab requires it), jsonschema builds a grammar of web addresses when it is
    imported, which no notebook's schema uses. If the package cannot be imported, jsonschema omits the check.
    """
    grammar = "rfc3987_syntax"
    if grammar in sys.modules or "jsonschema" in sys.modules:
        return
    sys.modules[grammar] = None  # makes every import of it fail
    try:
        import papermill  # noqa: F401
    finally:
        del sys.modules[grammar]


# -- the result --------------------------------------------------------------------------------------------------------


def _message(fault: Exception) -> str:
    """Return the message of one of nbkit's errors, or the end of the traceback of any other error."""
    if isinstance(fault, NbkitError):
        return f"error: {fault}"
    if _our_class(fault) is not None:
        return f"error: {fault.evalue}"
    if fault.ename == _ASKED:
        return (
            f"error: Cell {fault.exec_count} asks for input, and nobody can answer during a run. Make the answer a "
            "parameter (-p NAME=VALUE), or a secret an environment variable. The work in the store is safe."
        )
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(fault.traceback)).strip().splitlines()
    return "\n".join(
        [
            f"error: Cell {fault.exec_count} raised {fault.ename}: {fault.evalue}",
            *(f"  | {line}" for line in trace[-_TRACE_LINES:]),
            "The work in the store is safe. Correct the cell and run the notebook again.",
        ]
    )


def _our_class(fault: Any) -> type[NbkitError] | None:
    found = getattr(errors, getattr(fault, "ename", ""), None)
    return found if isinstance(found, type) and issubclass(found, NbkitError) else None


def _exit_of(fault: Exception) -> int:
    ours = type(fault) if isinstance(fault, NbkitError) else _our_class(fault)
    if ours is None:
        return UsageError.exit_code if getattr(fault, "ename", "") == _ASKED else FAILED
    return ours.exit_code


def exit_code(events: list[Event], path: Path) -> int:
    """Return the exit code for a notebook that ran to its end, from its journal: 0, 1 or 3, see `run_notebook`."""
    opened = {event["slug"] for event in of_kind(events, "open")}
    closed: dict[str, Event] = {}
    slug = None
    for event in events:
        if event["e"] == "open":
            slug = event["slug"]
        elif event["e"] == "close" and slug is not None:
            closed[slug] = event
    if opened - set(closed):
        print(
            f"error: {path.name} ended without session.close() for {', '.join(sorted(opened - set(closed)))}. The last "
            "uploads may be missing in the store. Add a cell with session.close() and run the notebook again.",
            file=sys.stderr,
        )
        return FAILED
    codes = [int(event.get("exit", DONE if event["complete"] else LEFT)) for event in closed.values()]
    return FAILED if FAILED in codes else max(codes, default=DONE)


def _store_executed(executed: Path, store: str, events: list[Event], path: Path) -> None:
    """Store the executed notebook in the phase's folder ``sessions/``."""
    opened = of_kind(events, "open")
    slug = opened[-1]["slug"] if opened else re.sub(r"^\d+_", "", path.stem)
    session = opened[-1]["session"] if opened else f"no-session-{executed.stat().st_mtime_ns}"
    name = check_name(f"{slug}/sessions/{session}.ipynb")
    if has_secrets(store):
        write_json(executed, hide_in(read_notebook(executed), store))
    try:
        Retried(open_store(store)).put(executed, name)
    except NbkitError as error:
        print(f"note: The executed notebook could not be stored as {name}: {error}", file=sys.stderr)
