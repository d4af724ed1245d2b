"""A mistake of the user's is shown in a cell as a sentence, without the frames of nbkit's own code.

IPython asks an exception for its own form, `_render_traceback_`, which nbkit's errors have. The models raise Python's
own ``ValueError`` and ``FileNotFoundError`` for a wrong parameter, because they know nothing of sessions; where such an
error was raised on purpose, by a ``raise`` in nbkit itself, the cell shows it as a `UsageError`. So it does where a
package of one of nbkit's extras is missing, and an interrupt that leaves libraries half loaded. All other errors, those
in the user's own functions above all, keep their whole traceback.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from nbkit.ground.extras import how_to_install
from nbkit.ground.mistakes import is_deliberate, show_mistakes_in_scripts
from nbkit.runtime.errors import NbkitError, UsageError

_MISTAKES = (ValueError, FileNotFoundError, NotImplementedError, ModuleNotFoundError)
_HALF_LOADED = (
    "Interrupted while libraries were being loaded. This kernel may hold half of them, and later cells would then fail "
    "with errors that mean nothing: restart the kernel and run all cells. What the store holds is kept."
)


def show_mistakes_as_sentences() -> None:
    """Make this kernel, or this script, show mistakes as sentences; beside another such setting, do nothing."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)  # importing it would take a second
    shell = get_ipython() if get_ipython is not None else None
    if shell is None:
        show_mistakes_in_scripts()
    elif not shell.custom_exceptions:
        shell.set_custom_exc((*_MISTAKES, KeyboardInterrupt), _show)


def _show(shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType, tb_offset: Any) -> None:
    text = str(error)
    if isinstance(error, ModuleNotFoundError) and not is_deliberate(trace):
        text = how_to_install(error)
    elif isinstance(error, KeyboardInterrupt):
        text = _HALF_LOADED if _imports(trace) else ""
    elif isinstance(error, NbkitError) or not is_deliberate(trace):
        text = ""
    if not text:
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return
    usage = UsageError(text).with_traceback(trace)
    shell.showtraceback((UsageError, usage, trace), tb_offset=tb_offset)


def _imports(trace: TracebackType | None) -> bool:
    """Return whether a module was being loaded; Python leaves its own frames of an import out of a traceback."""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            return True
        trace = trace.tb_next
    return False
