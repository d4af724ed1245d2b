"""A mistake of the user's is shown in a cell as a sentence, without the frames of nbkit's own code.

IPython asks an exception for its own form, `_render_traceback_`, which nbkit's errors have. The models raise Python's
own ``ValueError`` and ``FileNotFoundError`` for a wrong parameter, because they know nothing of sessions; where such an
error was raised on purpose, by a ``raise`` in nbkit itself, the cell shows it as a `UsageError`. So it does where a
package of one of nbkit's extras is missing, and an interrupt that leaves libraries half loaded. An interrupt that came
while nbkit was at work for a cell, writing a result, say, is shown at the cell's own line. All other errors, those in
the user's own functions above all, keep their whole traceback.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from types import TracebackType
from typing import Any

from nbkit.ground.extras import how_to_install
from nbkit.ground.home import import_folder
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
        trace = _cut_at_nbkit(trace)
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


def _cut_at_nbkit(trace: TracebackType) -> TracebackType:
    """Return a traceback that ends at the line which called nbkit, unless nbkit called the user's own code from there.

    An interrupt falls on whatever runs; where that is nbkit or a library under it, its frames say nothing to a user.
    """
    frames: list[TracebackType] = []
    rest: TracebackType | None = trace
    while rest is not None:
        frames.append(rest)
        rest = rest.tb_next
    files = [frame.tb_frame.f_code.co_filename for frame in frames]
    nbkit = _folder(os.path.join(import_folder(), "nbkit"))
    first = next((place for place, file in enumerate(files) if os.path.realpath(file).startswith(nbkit)), 0)
    if first == 0 or any(_is_users(file) for file in files[first:]):
        return trace
    cut: TracebackType | None = None
    for frame in reversed(frames[:first]):
        cut = TracebackType(cut, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    assert cut is not None
    return cut


def _is_users(file: str) -> bool:
    """Return whether code is neither nbkit's, nor an installed library's, nor made by one, such as ``<string>``."""
    if file.startswith("<"):
        return file.startswith("<ipython")
    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    inside = tuple(map(_folder, {*installed, os.path.join(import_folder(), "nbkit")}))
    return not os.path.realpath(file).startswith(inside)


def _folder(path: str) -> str:
    return os.path.realpath(path) + os.sep
