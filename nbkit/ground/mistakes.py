"""A mistake of the user's is shown as a sentence, without the frames of nbkit's own code, in plain Python scripts.

The models raise Python's own ``ValueError`` for a wrong value. Where such an error was raised on purpose, by a
``raise`` in nbkit itself, and nobody caught it, a script ends with the sentence, the script's line and exit code 2. So
it does where a package of one of nbkit's extras is missing. All other errors keep their whole traceback, and so do all
of them with ``NBKIT_TRACEBACK=1``.
"""

from __future__ import annotations

import io
import linecache
import os
import sys
from types import TracebackType

from nbkit.ground.extras import how_to_install
from nbkit.ground.home import import_folder

MISTAKES = (ValueError, TypeError, KeyError, FileNotFoundError, FileExistsError, NotImplementedError)
_WHOLE = "NBKIT_TRACEBACK"


def show_mistakes_in_scripts() -> None:
    """Make this process show mistakes as sentences, unless something else handles its uncaught errors already."""
    if sys.excepthook is sys.__excepthook__ and not os.environ.get(_WHOLE):
        sys.excepthook = _show


def is_deliberate(trace: TracebackType) -> bool:
    """Return whether a ``raise`` of nbkit's own code ends a traceback."""
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    inside = os.path.join(os.fspath(import_folder()), "nbkit") + os.sep
    return file.startswith(inside) and linecache.getline(file, trace.tb_lineno).lstrip().startswith("raise ")


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    told = how_to_install(error) if isinstance(error, ModuleNotFoundError) else ""
    known = isinstance(error, MISTAKES) or hasattr(error, "exit_code")  # nbkit's own errors have one
    if trace is None or not (told or known and is_deliberate(trace)):
        sys.__excepthook__(kind, error, trace)
        return
    text = told or (str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error))
    # torch.distributed's own hook, which calls this one, collects what is printed, and the exit below would lose it
    out = sys.__stderr__ if isinstance(sys.stderr, io.StringIO) and sys.__stderr__ else sys.stderr
    print(f"error: {text}\n{_line_of_script(trace)}{_WHOLE}=1 shows the whole traceback.", file=out, flush=True)
    raise SystemExit(getattr(error, "exit_code", 2))  # what is registered to run at the end still runs


def _line_of_script(trace: TracebackType | None) -> str:
    """Return the innermost line of the script itself, on a line of its own."""
    found = ""
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == "__main__":
            file = trace.tb_frame.f_code.co_filename
            line = linecache.getline(file, trace.tb_lineno).strip()
            found = f"  {os.path.basename(file)}, line {trace.tb_lineno}" + (f": {line}\n" if line else "\n")
        trace = trace.tb_next
    return found
