"""Script that runs a submission in a separate process that needs only torch; `scoring` starts it.

It works as the challenge's ingestion does: one instance of the class per model, and one window at a time. This package
cannot be imported while the script runs, wherever it is installed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


class _Absent:
    """Import hook that hides this package and records the names that were asked for."""

    asked: list[str] = []

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nbkit":
            self.asked.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}: a submission stands alone.", name=name)


def main(folder: str, job: str, answer: str) -> None:
    """Run the submission in a folder on the windows of a job file, and write its predictions.

    Parameters
    ----------
    folder : str
        Folder of the unpacked submission.
    job : str
        JSON file with the sampling rate, the device and the files of windows.
    answer : str
        JSON file to write: predictions of each challenge, and facts about the process.
    """
    sys.meta_path.insert(0, _Absent())
    sys.path.insert(0, folder)
    import torch

    torch.set_num_threads(1)
    asked = json.loads(Path(job).read_text("utf-8"))
    begin = time.perf_counter()
    from submission import Submission

    predictions, refused = {}, {}
    for number, windows in sorted(asked["windows"].items()):
        submission = Submission(asked["sfreq"], asked["device"])
        model = getattr(submission, f"get_model_challenge_{number}")()
        model.eval()
        shape = (windows["count"], windows["n_chans"], windows["n_times"])
        size = shape[0] * shape[1] * shape[2]
        every = torch.from_file(windows["file"], shared=False, size=size, dtype=torch.float32).view(shape)
        given = []
        with torch.no_grad():
            for row in range(len(every)):
                out = model.forward(every[row : row + 1].to(asked["device"]))
                if tuple(out.shape) != (1, 1):
                    raise ValueError(
                        f"Challenge {number} answers with {tuple(out.shape)} for one window; it must be (1, 1)."
                    )
                given.append(float(out[0, 0]))
            refused[number] = _refuses(model, torch.zeros(1, shape[1], 2 * shape[2], device=asked["device"]))
        predictions[number] = given
    facts = {
        "torch": torch.__version__, "python": sys.version.split()[0], "device": asked["device"],
        "seconds": time.perf_counter() - begin, "refuses_other_lengths": refused,
        "loaded": sorted({name.split(".")[0] for name in sys.modules} & {"nbkit", "lightning", "braindecode", "numpy"}),
        "asked_for_nbkit": _Absent.asked,
    }  # fmt: skip
    Path(answer).write_text(json.dumps({"predictions": predictions, "facts": facts}), "utf-8")


def _refuses(model, windows) -> bool:
    try:
        model.forward(windows)
    except ValueError:
        return True
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])
