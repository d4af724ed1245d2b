"""TRIBE v2 in a Python of its own, beside this one: the environment, and a teacher that lives in it.

TRIBE v2 needs torch below 2.7, and a host's image has a newer one that must not be replaced. uv makes an environment in
a folder; a process in it loads the teacher once and answers a row with a file of predictions. Rows go in and answers
come out as lines of JSON. The Hub's token is handed on as a variable of that process and is never printed or written.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.ground.files import write_json

REQUIREMENTS = ("torch<2.7", "numpy==2.2.6", "git+https://github.com/facebookresearch/tribev2")
PYTHON = "3.11"
TOKEN = "HF_TOKEN"  # noqa: S105 - the name of the variable
_MADE = "nbkit-environment.json"  # written last: without it the environment is not whole


def commands(
    folder: str | Path, requirements: Sequence[str] = REQUIREMENTS, options: Sequence[str] = ()
) -> list[list[str]]:
    """Return the commands that make an environment.

    Parameters
    ----------
    folder : str or Path
    requirements : sequence of str
    options : sequence of str
        More options of ``uv pip install``, such as an index of one's own.
    """
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    python = os.fspath(python_of(folder))
    return [
        [uv, "venv", "--quiet", "--python", PYTHON, os.fspath(folder)],
        [uv, "pip", "install", "--quiet", "--python", python, *options, *requirements],
    ]


def python_of(folder: str | Path) -> Path:
    """Return the path of an environment's Python."""
    return Path(folder, "Scripts/python.exe") if os.name == "nt" else Path(folder, "bin/python")


def make_environment(
    folder: str | Path, requirements: Sequence[str] = REQUIREMENTS, options: Sequence[str] = ()
) -> Path:
    """Make an environment, unless it is there, and return its Python.

    One that a kill left unfinished, or that has other requirements, is made again.

    Raises
    ------
    FileNotFoundError
        If uv is not installed.
    ValueError
        If a command fails, or the folder holds something else.
    """
    folder = Path(folder).absolute()
    wanted = {"python": PYTHON, "requirements": list(requirements)}
    made = folder / _MADE
    if made.is_file() and json.loads(made.read_text("utf-8")) == wanted:
        return python_of(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise ValueError(f"{folder} holds other files and is not an environment; give a new folder. Nothing was made.")
    shutil.rmtree(folder, ignore_errors=True)
    for command in commands(folder, requirements, options):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                "uv makes the environment and is not installed: pip install uv, then run again."
            ) from error
        if done.returncode:
            raise ValueError(
                f"{' '.join(command[:3])} failed (exit code {done.returncode}): {done.stderr.strip()[-800:]}\n"
                f"{folder} is not used; run again when the cause is mended. TRIBE v2 needs the internet switched on."
            )
    write_json(made, wanted)
    return python_of(folder)


class RemoteTeacher:
    """TRIBE v2 in the Python of another environment.

    Parameters
    ----------
    python : Path
        See `make_environment`.
    cache : str or Path
        Folder of TRIBE v2's extracted features.
    token : str, optional
        Of the Hub; its account must have access to Llama-3.2-3B.

    Raises
    ------
    ValueError
        If the process ends before the teacher is loaded; the message has its last words.
    """

    name = "TRIBE v2 (facebook/tribev2)"

    def __init__(self, python: Path, cache: str | Path, token: str | None = None) -> None:
        root = Path(__file__).parents[4]  # the folder of the package nbkit
        path = os.pathsep.join([os.fspath(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = {**os.environ, "PYTHONPATH": path} | ({TOKEN: token} if token else {})
        self._said = Path(cache, "teacher.log")
        self._said.parent.mkdir(parents=True, exist_ok=True)
        with open(self._said, "w") as log:
            self._process = subprocess.Popen(
                [os.fspath(python), "-m", __name__, os.fspath(Path(cache).absolute())], env=environ, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._answer("the start of TRIBE v2")

    def watch(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return predictions (trs, 20484), fusion_l4 and fusion_l6 (trs, 1152) for a whole file, at 1 Hz.

        Raises
        ------
        ValueError
            If the teacher cannot watch it. The message has the row's key.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({**row, "path": os.path.abspath(str(row["path"]))}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the answer says how
        path = Path(self._answer(str(row["key"])))
        with np.load(path, allow_pickle=False) as file:
            said = {name: file[name] for name in file.files}
        path.unlink()
        return said

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(30)

    def _answer(self, what: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            last = self._said.read_text("utf-8", errors="replace").strip()[-800:]
            raise ValueError(f"{what}: the teacher's process ended with {code}. Its last words:\n{last}")
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(answer["error"])
        return str(answer["made"])


def main(cache: str) -> None:
    """Load TRIBE v2 and answer rows from stdin until it closes; this runs in the teacher's own environment."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the teacher's packages print must not be read as an answer

    def answer(**words: str) -> None:
        print(json.dumps(words), file=answers, flush=True)

    from nbkit.neuro.tribe.stimuli.tribe_v2 import TribeV2Teacher

    try:
        teacher = TribeV2Teacher.from_pretrained(cache)
    except (FileNotFoundError, ValueError) as error:
        return answer(error=str(error))
    answer(made=teacher.name)
    for line in sys.stdin:
        row = json.loads(line)
        path = Path(cache, f"{os.getpid()}-answer.npz")
        try:
            np.savez(path, **teacher.watch(row))
        except Exception as error:  # any fault of a video is that item's, and the next one is watched
            answer(error=f"{row['key']}: {error}" if row["key"] not in str(error) else str(error))
        else:
            answer(made=os.fspath(path))
    return None


if __name__ == "__main__":
    main(sys.argv[1])
