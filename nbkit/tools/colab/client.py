"""Colab's own command-line client, google-colab-cli, called as a process.

It needs a newer Python than nbkit, so it is a program of its own. Its words and exit codes are read as the version
0.7.5 says them. Code goes to it through its standard input and secrets as files, so none of them stands in a process
list; its own messages may show signed addresses, which are taken out before anything is shown or kept.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbkit.ground.fields import unknown
from nbkit.runtime.errors import NbkitError, UsageError

PROGRAM_VARIABLE = "NBKIT_COLAB"  # path of the client, where it is not on the PATH
OLDEST = (0, 7)
GPUS = ("T4", "L4", "G4", "A100", "H100")
SILENCE = "86400"  # seconds without output that the client endures; its own default ends a cell after 30
_CALL = 300.0  # seconds of a call that answers at once
_INSTALL = "Install it with 'uv tool install google-colab-cli' (Linux or macOS, Python 3.12 or newer)"
_TOKEN = re.compile(r"((?:proxy-token|access_token|refresh_token|code|state)=)[^&\s\"']+|ya29\.[\w.-]+|1//[\w-]+")
_MOST = 300  # characters of the client's own words in an error


class ColabError(NbkitError):
    """Colab or its client refused a call.

    Parameters
    ----------
    message : str
    kind : str
        ``none to be had``, ``lost`` (the runtime is gone) or ``failed`` (a fault that may pass).
    """

    def __init__(self, message: str, kind: str = "failed") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Units:
    """Compute units of the account.

    Attributes
    ----------
    balance : float
        Units that are left; 0 for a free account.
    rate : float
        Units an hour that the account's runtimes use now.
    active : int
        Number of its runtimes.
    """

    balance: float
    rate: float
    active: int


class Colab:
    """Calls to Colab as the user who is logged in to its client.

    Parameters
    ----------
    program : str
        Path of the client.
    """

    def __init__(self, program: str) -> None:
        self.program = program

    def version(self) -> str:
        """Return the client's version; ask for no login."""
        return self._call("version").rpartition("Version:")[2].strip()

    def new(self, name: str, gpu: str | None) -> None:
        """Start a runtime under a name.

        Raises
        ------
        ColabError
            If none is to be had now.
        UsageError
            If the account may not have this accelerator.
        """
        # the client takes any name that it does not know for an A100
        self._call("new", "-s", name, *(["--gpu", check_gpu(gpu)] if gpu else []))

    def runtimes(self) -> dict[str, str]:
        """Return the running runtimes by name, each with the client's line about it."""
        lines = self._call("sessions").splitlines()
        return {found[1]: line.strip() for line in lines if (found := re.match(r"\[([\w.-]+)\] \S+ \| ", line.strip()))}

    def units(self) -> Units:
        """Return the account's compute units."""
        told = self._call("usage")
        found = [re.search(rf"{what}: (-?[\d.]+)", told) for what in ("balance", "rate", "assignments")]
        if not all(found):
            raise ColabError(f"Colab's client did not tell the compute units: {_short(told)}")
        balance, rate, active = (float(one[1]) for one in found if one)
        return Units(max(0.0, balance), max(0.0, rate), int(active))

    def upload(self, name: str, path: os.PathLike[str], there: str) -> None:
        """Bring a file to a runtime; its content is in no command line."""
        self._call("upload", "-s", name, os.fspath(path), there)

    def stop(self, name: str) -> None:
        """End a runtime; it is no error if there is none."""
        try:
            self._call("stop", "-s", name)
        except ColabError as error:
            if error.kind != "lost":
                raise

    def history(self, name: str) -> str:
        """Return what the client has noted about a runtime."""
        return self._call("log", "-s", name)

    def execute(self, name: str, code: str, say: Callable[[str], object], going_on: Callable[[], bool]) -> str:
        """Execute code in a runtime, and return all that it printed.

        Parameters
        ----------
        name : str
        code : str
            Given to the client by its standard input.
        say : callable
            Gets each line as it comes.
        going_on : callable
            Asked about every second; the client is ended once it returns False.

        Raises
        ------
        ColabError
            If the connection or the runtime was lost.
        """
        command = [self.program, "exec", "-s", name, "--timeout", SILENCE]
        lines: queue.Queue[str | None] = queue.Queue()
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace"
        )

        def read() -> None:
            for line in process.stdout or ():
                lines.put(clean(line.rstrip()))
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        told: list[str] = []
        try:
            process.stdin.write(code)  # type: ignore[union-attr]
            process.stdin.close()  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # it ended before it read the code, and says why
        ended = False
        try:
            while not ended and going_on():
                try:
                    line = lines.get(timeout=1.0)
                except queue.Empty:
                    continue
                ended = line is None
                if line is not None:
                    told.append(line)
                    say(line)
        finally:
            if not ended:
                process.terminate()
            code_of = process.wait(30)
        if ended and code_of:
            raise self._refused("exec", "\n".join(told))
        return "\n".join(told)

    def _call(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [self.program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=_CALL, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise UsageError(f"Colab's client {self.program} does not exist. {_INSTALL}. Nothing was begun.") from None
        except subprocess.TimeoutExpired:
            raise ColabError(f"Colab's client did not answer 'colab {arguments[0]}' in {_CALL:.0f} s.") from None
        if done.returncode:
            raise self._refused(arguments[0], f"{done.stdout}\n{done.stderr}")
        return clean(done.stdout)

    def _refused(self, verb: str, told: str) -> NbkitError:
        words = _short(clean(told))
        if "authorization code" in told or "authorize colab-cli" in told or "No valid default credentials" in told:
            return UsageError(
                "Colab's client is not logged in on this machine. Run 'colab usage' once in a terminal, open the "
                "address that it prints, and paste the code. Nothing was begun."
            )
        if "Backend rejected accelerator" in told:
            return UsageError(
                f"Colab does not give this account the accelerator that was asked for: {words} Allowed with --gpu are "
                f"{', '.join(GPUS)}, as far as the account has them; a free account has the T4. Nothing was begun."
            )
        if "Allocation refused" in told:
            return ColabError(
                "Colab has no runtime for this account now (too many runtimes, or none of this kind is free). 'colab "
                "sessions' shows yours, 'colab stop' ends one; else wait, or take another --gpu.",
                "none to be had",
            )
        if re.search(r"Session '[^']*' not found|appears to be lost", told):
            return ColabError(f"The runtime is gone: {words}", "lost")
        return ColabError(f"'colab {verb}' failed: {words or 'it said nothing'}")


def connect(program: str | None = None) -> Colab:
    """Find Colab's client and check its version.

    Raises
    ------
    UsageError
        If there is none, or it is too old.
    """
    found = program or os.environ.get(PROGRAM_VARIABLE) or shutil.which("colab")
    if not found:
        raise UsageError(
            f"Colab's client is not on this machine: there is no program 'colab' on the PATH. {_INSTALL}, then log in "
            f"with 'colab usage'; or name it in {PROGRAM_VARIABLE}. Nothing was begun."
        )
    colab = Colab(found)
    version = colab.version()
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise UsageError(
            f"Colab's client {found} is version {version or 'unknown'}; 0.7 or newer is needed. Run 'uv tool upgrade "
            "google-colab-cli'. Nothing was begun."
        )
    return colab


def check_gpu(gpu: str) -> str:
    """Return the name of a GPU as Colab spells it.

    Raises
    ------
    UsageError
        If Colab has none of this name.
    """
    if gpu.upper() not in GPUS:
        raise UsageError(f"{unknown('GPU', gpu, list(GPUS))} Nothing was begun.")
    return gpu.upper()


def clean(text: str) -> str:
    """Return a text of the client without tokens, signed addresses and colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return _TOKEN.sub(lambda found: f"{found[1] or ''}***", text)


def _short(told: str) -> str:
    """Return the last words of the client, without the frames that it draws around its tracebacks."""
    lines = [line.strip() for line in told.splitlines() if line.strip() and line.strip()[0] not in "│╭╰"]
    return " ".join(" ".join(lines).split())[-_MOST:]


def wait_for(
    start: Callable[[], Any],
    say: Callable[[str], object],
    patience: float,
    pause: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """Start something that Colab may refuse for now, again and again.

    Parameters
    ----------
    start : callable
    say : callable
        Gets a line on the first refusal.
    patience, pause : float
        Seconds in all, and between two tries.
    clock, sleep : callable

    Raises
    ------
    ColabError
        If it was refused until the patience ended.
    """
    end, said = clock() + patience, False
    while True:
        try:
            return start()
        except ColabError as error:
            if clock() + pause > end:
                raise
            if not said:
                say(f"{error} Trying again every {pause / 60:.0f} min.")
                said = True
            sleep(pause)
