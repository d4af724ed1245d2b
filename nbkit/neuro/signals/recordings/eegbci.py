"""EEG Motor Movement/Imagery recordings (PhysioNet eegmmidb), loaded by mne.

Schalk et al. 2004, https://physionet.org/content/eegmmidb/1.0.0/. A recording that is neither on disk nor available
from the network is reported within seconds, without a download.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

MOTOR_RUNS = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
USUAL_RUNS = (3, 4, 6, 8, 11, 12)  # where none are named
_URL = "https://physionet.org/files/eegmmidb/1.0.0/"
_PATIENCE_S = 3.0


def cached_path(subject: int, run: int) -> Path:
    """Return the path at which mne stores one run, whether or not it is there.

    The folder is ``MNE_DATASETS_EEGBCI_PATH`` of the environment or of mne's configuration, else ``~/mne_data``.
    """
    import mne

    base = mne.get_config("MNE_DATASETS_EEGBCI_PATH") or mne.get_config("MNE_DATA") or "~/mne_data"
    folder = f"S{int(subject):03d}"
    name = f"{folder}R{int(run):02d}.edf"
    return Path(base).expanduser() / "MNE-eegbci-data" / "files" / "eegmmidb" / "1.0.0" / folder / name


def eegbci_available(subject: int, runs: Sequence[int], patience_s: float = _PATIENCE_S) -> tuple[bool, str]:
    """Check within a few seconds, without downloading, whether runs are available.

    Parameters
    ----------
    subject : int
        1 to 109.
    runs : sequence of int
        1 to 14.
    patience_s : float
        Longest wait for the network, in s.

    Returns
    -------
    available : bool
    reason : str
        One line of text for the user.
    """
    missing = [int(run) for run in runs if not cached_path(subject, run).is_file()]
    folder = cached_path(subject, 1).parent
    if not missing:
        return True, f"subject {int(subject)}, runs {_list(runs)}: on disk in {folder}"
    fault = _network_fault(f"{_URL}S{int(subject):03d}/S{int(subject):03d}R{missing[0]:02d}.edf", patience_s)
    if fault is None:
        return True, f"subject {int(subject)}: runs {_list(missing)} come from physionet.org, 2.6 MB each"
    return False, (
        f"subject {int(subject)}: runs {_list(missing)} are not in {folder}, and physionet.org gives none ({fault})"
    )


def rows(subjects: Sequence[int], runs: Sequence[int]) -> list[dict[str, str]]:
    """Return one manifest row per run of each subject.

    Raises
    ------
    ValueError
        If a subject is not in 1 to 109 or a run not in 1 to 14.
    """
    for what, values, last in (("subject", subjects, 109), ("run", runs, 14)):
        wrong = [v for v in values if not str(v).isdecimal() or not 1 <= int(v) <= last]
        if wrong:
            raise ValueError(f"eegbci has no {what} {wrong[0]!r}; there are {what}s 1 to {last}.")
    return [
        {"key": f"sub-{s:03d}_run-{r:02d}", "source": "eegbci", "path": "", "subject": str(s), "run": str(r)}
        for s in map(int, subjects)
        for r in map(int, runs)
    ]


def task_of_run(run: int | str) -> str:
    """Return the task of a run, as on PhysioNet's page; "" for other numbers.

    Examples
    --------
    >>> task_of_run(4), task_of_run("11")
    ('imagine fists', 'move fists')
    """
    number = int(run) if str(run).isdecimal() else 0
    if number in (1, 2):
        return "eyes open" if number == 1 else "eyes closed"
    if number not in MOTOR_RUNS:
        return ""
    return ("move fists", "imagine fists", "move fists or feet", "imagine fists or feet")[(number - 3) % 4]


def fetch(subject: int, run: int) -> Path:
    """Return the path of one run: 64 channels, and the events T0 (rest), T1 and T2; fetched if it is not on disk.

    Raises
    ------
    FileNotFoundError
        If it is not on disk and the network does not answer.
    """
    import mne

    available, reason = eegbci_available(subject, [run])
    if not available:
        raise FileNotFoundError(
            f"{reason}. Nothing was changed. Point MNE_DATASETS_EEGBCI_PATH at the folder that holds MNE-eegbci-data, "
            "connect to the network, or use SOURCE = 'synthetic'."
        )
    return Path(mne.datasets.eegbci.load_data(int(subject), [int(run)], update_path=False, verbose="error")[0])


def _network_fault(url: str, patience_s: float) -> str | None:
    """Return None if the address answers in time, else the reason."""
    answer: list[str | None] = []

    def ask() -> None:
        import urllib.error
        import urllib.request

        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=patience_s):
                answer.append(None)
        except (OSError, ValueError) as error:  # URLError, HTTPError, timeouts and TLS errors are all OSError
            answer.append(str(getattr(error, "reason", None) or error) or type(error).__name__)

    # A DNS look-up ignores the timeout, so it runs in a daemon thread that may outlive this call.
    thread = threading.Thread(target=ask, name="eegbci-probe", daemon=True)
    thread.start()
    thread.join(patience_s)
    return answer[0] if answer else f"no answer within {patience_s:g} s"


def _list(runs: Sequence[int]) -> str:
    return ", ".join(str(int(run)) for run in runs)
