"""A stand-in for Colab's command-line client, at its process boundary.

The words and exit codes are those that google-colab-cli 0.7.5 gave when it was run against a loopback of Colab's API
and a real Jupyter server. Runtimes are rows of a JSON file, their machines are folders, and `exec` runs the code in a
process of its own. ``python -m tests.tools.colab.standin FOLDER ARGUMENTS`` is the program.

The file ``state.json`` may say: ``faults`` (answers of the next calls by verb), ``lose`` (a file in the folder: the
runtime of the next exec is lost as soon as it is there), ``break`` (the same for the connection of the next exec that
loses no runtime), ``logged_in``, ``version``, ``gpus`` (that the account has).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import ROOT

FULL = (
    "[colab] Allocation refused (precondition failed). This can mean too many active sessions, or a temporary usage or "
    "capacity limit for the requested runtime. Run `colab stop` to free up a session, wait and retry, or try a "
    "different accelerator."
)
REJECTED = (
    "[colab] Backend rejected accelerator '{}'. You may not have quota or entitlement for this accelerator on your "
    "account. Try a different one (e.g. --gpu T4) or omit --gpu/--tpu for a CPU runtime."
)
LOGIN = (
    "\nTo authorize colab-cli, visit this URL in any browser:\n\n  https://accounts.google.com/o/oauth2/auth?"
    "response_type=code&state=plantedState123&code_challenge=x\n\nAfter approving, Google will display an "
    "authorization code.\nAborted."
)
BROKEN = (
    "╭─ Traceback ─╮\n│   raise ConnectionError(e) │\n╰─────╯\nConnectionError: HTTPConnectionPool(host='x', "
    "port=443): Max retries exceeded with url: /api/kernels?colab-runtime-proxy-token=plantedProxyToken99 (Caused by "
    "NewConnectionError: Connection refused)"
)
START = {"runtimes": {}, "balance": 100.0, "rate": 1.76, "logged_in": True, "version": "0.7.5", "gpus": ["T4", "A100"],
         "faults": {}, "calls": [], "begun": 0, "at_once": 1}  # fmt: skip


class Refused(Exception):
    """End with an exit code after some words on the standard error output."""


@contextmanager
def state(folder: Path) -> Iterator[dict[str, Any]]:
    """Lend the state; what is changed in it is kept."""
    path = folder / "state.json"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = START | (json.loads(path.read_text()) if path.exists() else {})
        try:
            yield known
        finally:
            path.write_text(json.dumps(known))


def told(folder: Path, **values: Any) -> None:
    """Change the state."""
    with state(folder) as known:
        known.update(values)


def program(folder: Path) -> Path:
    """Write the program, and return its path."""
    path = folder / "colab"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -m tests.tools.colab.standin "{folder}" "$@"\n')
    path.chmod(0o755)
    return path


def main(folder: Path, arguments: list[str]) -> int:
    """Answer one call."""
    verb, given = arguments[0], arguments[1:]
    options = {given[i]: given[i + 1] for i in range(len(given) - 1) if given[i].startswith("-")}
    name = options.get("-s", "")
    try:
        with state(folder) as known:
            known["calls"].append(arguments)
            if verb == "version":
                print(f"Version: {known['version']}")
                return 0
            if not known["logged_in"]:
                raise Refused(LOGIN)
            if known["faults"].get(verb):
                fault = known["faults"][verb].pop(0)
                if fault:
                    raise Refused({"full": FULL, "broken": BROKEN}[fault])
            if verb == "exec":
                if name not in known["runtimes"]:
                    print(f"[colab] Session '{name}' not found.")
                    return 1
                lose = known.pop("lose", None)
                breaks = known.pop("break", None) if lose is None else None
                machine = Path(known["runtimes"][name]["machine"])
            else:
                return _answer(folder, known, verb, name, options, given)
        return _execute(folder, name, machine, lose, breaks)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1


def _answer(
    folder: Path, known: dict[str, Any], verb: str, name: str, options: dict[str, str], given: list[str]
) -> int:
    runtimes = known["runtimes"]
    if verb == "new":
        print(f"[colab] Creating session '{name}'...")
        gpu = options.get("--gpu", "")
        if gpu and gpu not in known["gpus"]:
            raise Refused(REJECTED.format(gpu))
        if len(runtimes) >= known["at_once"]:
            raise Refused(FULL)
        known["begun"] += 1
        machine = folder / f"machine-{known['begun']}"
        machine.mkdir()
        runtimes[name] = {"machine": str(machine), "gpu": gpu, "began": time.time()}
        print("[colab] Session READY.")
    elif verb == "sessions":
        for one, row in runtimes.items():
            print(f"[{one}] gpu-t4-s-1 | Hardware: {row['gpu'] or 'CPU'} | Shape: Standard | Variant: GPU")
        if not runtimes:
            print("[colab] No active sessions found on server.")
    elif verb == "usage":
        rate = known["rate"] * len(runtimes)
        print(f"Current balance: {known['balance']:.2f} compute units\nUsage rate: {rate:.2f}/hr")
        print(f"Active assignments: {len(runtimes)}")
    elif name not in runtimes:
        print(f"[colab] Session '{name}' not found.")
        return 0 if verb == "stop" else 1
    elif verb == "stop":
        _end(runtimes.pop(name))
        print("[colab] Session terminated.")
    elif verb == "upload":
        local, there = given[-2:]
        Path(runtimes[name]["machine"], Path(there).name).write_bytes(Path(local).read_bytes())
        print(f"[colab] Uploaded '{local}' to '{there}'")
    return 0


def _end(row: dict[str, Any]) -> None:
    """Take a machine down: every process of its run is killed, without a word."""
    pids = [row.get("kernel")]
    for path in Path(row["machine"]).glob("nbkit-*.json"):
        with contextlib.suppress(ValueError, KeyError):
            pids.append(json.loads(path.read_text())["pid"])
    for pid in pids:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL) if pid else None


def _execute(folder: Path, name: str, machine: Path, lose: str | None, breaks: str | None) -> int:
    with state(folder) as known:
        kernel = known["runtimes"][name].get("kernel")
    while kernel and _is_alive(kernel):  # code waits until the kernel is free, as with the real client
        time.sleep(0.05)
    code = sys.stdin.read()
    mine = ("HF_TOKEN", "HF_ENDPOINT", "NBKIT_DRIVE_CREDENTIAL", "XDG_CONFIG_HOME")  # of the user's own machine
    environment = {name: value for name, value in os.environ.items() if name not in mine}
    environment |= {"COLAB_RELEASE_TAG": "release-colab", "NBKIT_COLAB_ROOT": str(machine), "PYTHONPATH": str(ROOT)}
    environment |= {"HOME": str(machine)}
    out = machine / f"kernel-{time.monotonic_ns()}.out"
    with open(out, "wb") as writing:
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(
            command, env=environment, cwd=machine, start_new_session=True, stdout=writing, stderr=writing
        )
    with state(folder) as known:
        known["runtimes"][name]["kernel"] = process.pid
    end = lose or breaks
    with open(out, encoding="utf-8") as reading:
        while True:
            over = process.poll() is not None
            print(reading.read(), end="", flush=True)
            if over:
                return 0  # also where the code raised an error, as the real client does
            if end is not None and (folder / end).exists():
                break
            time.sleep(0.02)
    if lose is not None:
        with state(folder) as known:
            _end(known["runtimes"].pop(name))
    print(BROKEN, file=sys.stderr)  # the kernel goes on with the code, unless its machine is gone
    return 1


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
