"""What runs on Colab's machine: code that starts a phase's notebook there, or joins a run that goes on.

The notebook runs as a process of its own, cell by cell by papermill, and its executed copy goes to the store. The code
here only starts it, shows what it prints, and tells how it ended. So a connection that breaks ends nothing: the same
code, executed again, joins the run.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

FOLDER = "content"  # of uploads; /content on the machine
_MARK = "nbkit-run-ended"

_CODE = """\
import glob, importlib.util, json, os, subprocess, sys, time
told = json.loads({told!r})
root = os.environ.get("NBKIT_COLAB_ROOT", "/content")
log, state = f"{{root}}/{{told['run']}}.log", f"{{root}}/{{told['run']}}.json"
for name in told["secrets"]:
    if os.path.exists(f"{{root}}/{{name}}"):
        os.chmod(f"{{root}}/{{name}}", 0o600)

def install():
    wheel = sorted(glob.glob(f"{{root}}/nbkit_neuro-*.whl"))[-1]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", wheel]
    subprocess.run(pip, check=True)
    subprocess.run([sys.executable, "-m", "nbkit", "install", *told["extras"]], check=True)

def alive(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[0] != "Z"

process = None
if not os.path.exists(state):
    if importlib.util.find_spec("nbkit") is None:
        install()
    command = [sys.executable, "-m", "nbkit", "run", f"{{root}}/{{told['notebook']}}", "--store", told["store"]]
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=root, start_new_session=True)
    with open(state, "w") as file:
        json.dump({{"pid": process.pid}}, file)
pid = json.load(open(state))["pid"]
with open(log, "rb") as lines:
    while True:
        going = process.poll() is None if process else alive(pid)
        text = lines.read().decode("utf-8", "replace")
        if text:
            print(text, end="", flush=True)
        elif not going:
            break
        else:
            time.sleep(1)
known = json.load(open(state))
if process:
    known["exit"] = process.wait()
    json.dump(known, open(state, "w"))
print("\\n{mark} " + json.dumps({{"exit": known.get("exit")}}), flush=True)
"""


@dataclass(frozen=True)
class Told:
    """What the machine is told; nothing of it is secret.

    Attributes
    ----------
    run : str
        Name of the run, for its log and state on the machine.
    notebook : str
        Name of the uploaded copy.
    store : str
        Address without secrets.
    extras : tuple of str
        Of the installation, as the notebook's own set-up cell names them.
    secrets : tuple of str
        Names of uploaded files that only their owner may read.
    """

    run: str
    notebook: str
    store: str
    extras: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    def code(self) -> str:
        """Return the code to execute."""
        return _CODE.format(told=json.dumps(asdict(self)), mark=_MARK)


def ended(printed: str) -> tuple[bool, int | None]:
    """Return whether the run has ended, and its exit code; None where that is unknown because the run was joined."""
    found = re.findall(rf"^{_MARK} (.*)$", printed, re.MULTILINE)
    if not found:
        return False, None
    try:
        code = json.loads(found[-1])["exit"]
    except (ValueError, KeyError, TypeError):
        return True, None
    return True, code if isinstance(code, int) else None
