"""The dispatcher where it lives: its pushed notebook, nbkit from the attached wheel, no checkout, no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from nbkit.runtime.store.opening import open_store
from nbkit.tools.kaggle.client import connect
from nbkit.tools.kaggle.push import push_phase
from tests.runtime.store.drive.drive_loopback import Loopback as DriveLoopback
from tests.tools.kaggle.kaggle_loopback import Loopback as KaggleLoopback
from tests.tools.kaggle.kaggle_loopback import need_client, without_checkout

need_client()
pytest.importorskip("pydrive2")
pytest.importorskip("hatchling")

_WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "lightning", "numpy", "scipy", "pandas", "mne", "matplotlib", "papermill"}:
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Absent())
from kagglesdk import kaggle_env
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.LOCAL] = "ADDRESS"
"""


@pytest.mark.rehearse
def test_a_scheduled_run_pushes_the_next_phase_from_its_wheel(tmp_path, monkeypatch):
    """Mounted as Kaggle mounts them: the wheel, the key, the login; the notebook's own token must not be taken."""
    monkeypatch.setattr("nbkit.tools.kaggle.datasets.POLL", 0.01)
    home = tmp_path / "home"
    home.mkdir()
    with DriveLoopback(folder=home) as drive, KaggleLoopback() as server, server.point(monkeypatch, home):
        monkeypatch.setenv("NBKIT_DRIVE_CREDENTIAL", drive.credential_text())
        push_phase(connect(first_wait=0.01), "dispatcher", open_store(drive.url))
        server.advance(1)
        for ref, dataset in server.datasets.items():
            folder = tmp_path / "kaggle/input/datasets" / ref
            folder.mkdir(parents=True)
            for name, data in dataset.files.items():
                (folder / name).write_bytes(data)
        cells = json.loads(server.kernels["mary/nbkit-dispatcher"].request["text"])["cells"]
        code = [cell["source"].replace("%matplotlib inline\n", "") for cell in cells if cell["cell_type"] == "code"]
        login = (tmp_path / "kaggle/input/datasets/mary/nbkit-drive-login/nbkit-drive-credential.json").read_text()
        token = tmp_path / "token"
        token.write_text("of the notebook itself")
        working, site = tmp_path / "kaggle/working", tmp_path / "site"
        working.mkdir()
        environment = os.environ | {
            "KAGGLE_KERNEL_RUN_TYPE": "Batch", "NBKIT_KAGGLE_ROOT": str(tmp_path / "kaggle"),
            "KAGGLE_DATA_PROXY_URL": "https://dp.kaggle.net", "KAGGLE_API_V1_TOKEN": str(token),
            "NBKIT_DRIVE_CREDENTIAL": login, "PIP_TARGET": str(site), "PIP_NO_INDEX": "1",
            "PYTHONPATH": without_checkout(site),
        }  # fmt: skip
        for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
            environment.pop(name)
        lines = "\n".join([_WITHOUT.replace("ADDRESS", server.address), *code, "print(nbkit.__file__)"])
        done = subprocess.run(
            [sys.executable, "-S", "-c", lines], cwd=working, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert str(site) in done.stdout.splitlines()[-1]
        assert "pushed  eeg_windows" in done.stdout and "waits   bandvar_train" in done.stdout
        pushed = server.kernels["mary/nbkit-eeg-windows"].request
        assert drive.url in pushed["text"]
        assert pushed["datasetDataSources"] == ["mary/nbkit-wheel", "mary/nbkit-drive-login"]
        titles = [row["title"] for row in drive.drive.rows.values()]
        assert "decisions" in titles and "pushes" in titles
        assert server.counts["CreateDataset"] == 3 and server.counts["CreateDatasetVersion"] == 0
