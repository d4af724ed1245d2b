"""One process of a proof: a session of a training, in an interpreter that knows nothing of the others.

The parent starts this file as a program. It imports the large libraries once and then forks a process for each trial,
so that a trial begins as a session on another machine does: with freshly loaded objects, its own working folder for
temporary files, and only the checkpoints of the session before.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from nbkit.runtime.training.proving.opened import Opened
from nbkit.runtime.training.proving.trial_session import TrialSession, Unpickler

_LINES = 6


def train(job: dict[str, Any]) -> None:
    """Train one session of the trial that a job describes, and write how it ended.

    Parameters
    ----------
    job : dict
        ``folder`` of this session, ``parts``, the pickled arguments, ``stop`` as the fields of a Stop or None, and
        ``seconds``.
    """
    folder = Path(job["folder"])
    (folder / "temporary").mkdir(parents=True, exist_ok=True)
    # what is left in the folder for temporary files does not reach the next session, as on another machine
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "temporary")
    try:
        ended = _train(job, folder)
    except BaseException as error:  # read from the file and told by the process that proves
        ended = {"error": type(error).__name__, "words": str(error), "trace": _trace(error), "ours": _ours(error)}
    (folder / "ended.json").write_text(json.dumps(ended), "utf-8")


def _train(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    import torch

    from nbkit.runtime.budget import Budget
    from nbkit.runtime.device import Device
    from nbkit.runtime.training.fit import fit
    from nbkit.runtime.training.proving.clues import clues_of
    from nbkit.runtime.training.proving.recording import Recorder, of_checkpoint
    from nbkit.runtime.training.proving.stops import Stop

    torch.set_num_threads(job["threads"])
    with open(job["parts"], "rb") as file:
        facts = pickle.load(file)
        device = Device(**facts.pop("device"))
        session = TrialSession(folder=folder, device=device, budget=Budget(None), **facts)
        parts = Unpickler(file, session).load()
    stop = Stop(**{**job["stop"], "place": tuple(job["stop"]["place"])}) if job["stop"] else None
    recorder = Recorder(folder / "records.jsonl", session.budget, stop, job["seconds"])
    module, data, options = parts["module"], parts["data"], parts["options"]
    clues, opened = clues_of(module, data, options["callbacks"]), Opened(folder / "opened.jsonl")
    options["callbacks"] = [*options["callbacks"], recorder]
    report = fit(session, module, data, **options)
    found = max((folder / "checkpoints").rglob("step-*.ckpt"), key=lambda path: path.name)
    final = of_checkpoint(torch.load(found, map_location="cpu", weights_only=True))
    return {
        "step": report.step,
        "reason": report.reason,
        "seconds": report.seconds_training,
        "final": final,
        "clues": opened.really(clues),
    }


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-_LINES:])


def _ours(error: BaseException) -> int | None:
    from nbkit.runtime.errors import NbkitError

    return error.exit_code if isinstance(error, NbkitError) else None


def _in_a_fork(job: dict[str, Any]) -> int:
    """Train in a forked process, and return the code that it ended with."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            signal.alarm(int(job["deadline"]) + 1)  # if nobody waits for it any more
            train(job)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main(replies: int) -> None:
    """Read jobs from the standard input, one JSON line each, and reply with the code that each ended with."""
    import lightning  # noqa: F401
    import torch  # noqa: F401

    import nbkit.runtime.training.proving.recording  # noqa: F401
    from nbkit.ground.quiet import quiet_lightning  # noqa: F401
    from nbkit.runtime.training import fit  # noqa: F401

    with os.fdopen(replies, "w") as answers:
        for line in sys.stdin:
            answers.write(f"{_in_a_fork(json.loads(line))}\n")
            answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
