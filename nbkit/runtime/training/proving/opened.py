"""Which of the user's functions write a file during a trial and read it again.

That a function names `open` says little: it may never be called, or only write a log. Python tells an audit hook of
every file that is opened, so a file is named as a cause only where it was really written and read.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import sysconfig
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_BOTH = {"sqlite3.connect"}
_WRITTEN = {"os.mkdir": 0, "os.rename": 1}  # event, and which of its arguments is the path
_ASKED = {"exists", "is_file", "isfile", "is_dir", "isdir", "stat", "getsize", "glob", "iterdir", "listdir"}
_FRAMES = 40


def place_of(code: types.CodeType) -> str:
    """Return where the code of a function is, in words."""
    return f"{code.co_qualname}, line {code.co_firstlineno} of {code.co_filename.rpartition('/')[2]}"


class Opened:
    """Note the files that this process and its forks open from now on, with the function that did.

    Parameters
    ----------
    path : Path
        File of JSON lines, which the processes of workers share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._noted: set[tuple[int, str, str]] = set()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, flags = args[0], args[2] if len(args) > 2 and isinstance(args[2], int) else 0
            how = "rw" if flags & os.O_RDWR else "w" if flags & os.O_WRONLY else "r"
        elif event in _BOTH:
            path, how = args[0], "rw"
        elif event in _WRITTEN:
            path, how = args[_WRITTEN[event]], "w"
        else:
            return
        code = _users(sys._getframe(1))
        if code is None or not isinstance(path, str | bytes | os.PathLike):
            return
        asks = not _ASKED.isdisjoint(code.co_names)
        path = os.path.abspath(os.fsdecode(path))
        key = (id(code), path, how)
        if key not in self._noted:
            self._noted.add(key)
            line = [place_of(code), path, f"{how}{'r' if asks else ''}"]
            os.write(self._file, f"{json.dumps(line)}\n".encode())

    def really(self, clues: Sequence[list[str]]) -> list[list[str]]:
        """Return the clues without those of files that were not written and read."""
        lines = [json.loads(line) for line in self._path.read_text("utf-8").splitlines()]
        how: dict[str, str] = {}
        for _, path, letters in lines:
            how[path] = how.get(path, "") + letters
        places = {place for place, path, _ in lines if {*how[path]} >= {"r", "w"}}
        return [clue for clue in clues if clue[0] != "file" or clue[2] in places]


def _users(frame: types.FrameType | None) -> types.CodeType | None:
    """Return the innermost code that is no library's; None for an import, and where there is none."""
    for _ in range(_FRAMES):
        if frame is None:
            return None
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return None
        if not file.startswith(("<frozen", *_libraries())):
            return frame.f_code
        frame = frame.f_back
    return None


@functools.cache
def _libraries() -> tuple[str, ...]:
    return tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
