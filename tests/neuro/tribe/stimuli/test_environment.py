"""TRIBE v2's own environment, for real: uv makes it, a stand-in package from a local wheel lives in it."""

from __future__ import annotations

import json
import sysconfig
import zipfile

import numpy as np
import pytest

from nbkit.neuro.tribe.stimuli.environment import (
    REQUIREMENTS,
    RemoteTeacher,
    commands,
    make_environment,
    python_of,
)
from nbkit.neuro.tribe.stimuli.teacher import SegmentMaker, open_teacher
from tests.neuro.tribe.stimuli.test_teacher import WORLD

STAND_IN = """
import os, pydantic
from tests.neuro.tribe.stimuli.test_tribe_v2 import TribeModel as Known

class TribeModel(Known):
    @classmethod
    def from_pretrained(cls, checkpoint, cache_folder):
        print("loading", checkpoint)  # to stdout, as packages do
        if os.environ.get("HF_TOKEN") != "hf_of_a_test":
            raise ValueError("401: meta-llama/Llama-3.2-3B is gated")
        return cls(seconds=100)

    def get_events_dataframe(self, video_path=None, **paths):
        if "torn" in video_path:
            raise RuntimeError("no video in " + video_path)
        if "fatal" in video_path:
            os._exit(9)
        return super().get_events_dataframe(video_path=video_path)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A local index: one wheel, which also puts this Python's packages on the path of its environment."""
    folder = tmp_path_factory.mktemp("wheels")
    about = "tribev2-0.0.1.dist-info"
    files = {
        "tribev2/__init__.py": STAND_IN, "host.pth": sysconfig.get_paths()["purelib"] + "\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: tribev2\nVersion: 0.0.1\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }  # fmt: skip
    with zipfile.ZipFile(folder / "tribev2-0.0.1-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in files))
    return folder


@pytest.fixture(scope="module")
def made(wheels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "tribe-v2"
    options = ["--no-index", "-f", str(wheels)]
    return make_environment(folder, ["tribev2"], options), options


def test_the_environment_is_made_once_and_again_if_it_is_not_whole(made):
    python, options = made
    folder = python.parents[1]
    (folder / "kept").touch()
    assert make_environment(folder, ["tribev2"], options) == python and (folder / "kept").exists()
    (folder / "nbkit-environment.json").unlink()  # a kill in the middle
    assert make_environment(folder, ["tribev2"], options).is_file() and not (folder / "kept").exists()
    assert json.loads((folder / "nbkit-environment.json").read_text())["requirements"] == ["tribev2"]


def test_the_teacher_answers_from_its_own_process_and_a_fault_is_the_items(made, tmp_path):
    teacher = open_teacher("tribe_v2", cache=tmp_path / "cache", environment=made[0].parents[1],
                           token="hf_of_a_test", requirements=["tribev2"])  # fmt: skip
    try:
        row = {"dataset": "clips", "video_id": "a", "key": "clips_a_00000", "path": "a.mp4", "tr_start": "0",
               "tr_end": "30"}  # fmt: skip
        path = SegmentMaker(teacher, tmp_path / "out", WORLD)(row)
        assert path.name == "clips_a_00000.pt" and not list((tmp_path / "cache").glob("*.npz"))
        said = teacher.watch(row)
        assert said["predictions"].shape == (100, 20484) and np.isfinite(said["fusion_l4"]).all()
        with pytest.raises(ValueError, match=r"clips_b_00000: no video in .*torn\.mp4"):
            teacher.watch({**row, "key": "clips_b_00000", "path": "torn.mp4"})
        assert teacher.watch(row)["fusion_l6"].shape == (100, 1152)  # the next is watched
        with pytest.raises(ValueError, match="(?s)clips_c_00000: the teacher's process ended with 9.*loading facebook"):
            teacher.watch({**row, "key": "clips_c_00000", "path": "fatal.mp4"})
    finally:
        teacher.close()
    assert "hf_of_a_test" not in (tmp_path / "cache" / "teacher.log").read_text()


def test_what_keeps_the_teacher_from_starting_is_said(made, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ValueError, match="401: meta-llama/Llama-3.2-3B is gated"):
        RemoteTeacher(made[0], tmp_path)


def test_the_commands_and_what_is_refused(tmp_path, wheels):
    venv, install = commands(tmp_path / "own")
    assert venv[1:] == ["venv", "--quiet", "--python", "3.11", str(tmp_path / "own")]
    assert install[-3:] == list(REQUIREMENTS) and str(python_of(tmp_path / "own")) in install
    (tmp_path / "mine").write_text("thesis")
    with pytest.raises(ValueError, match="holds other files and is not an environment"):
        make_environment(tmp_path)
    assert (tmp_path / "mine").read_text() == "thesis"
    with pytest.raises(ValueError, match="(?s)uv pip install|pip install.*failed.*nothere"):
        make_environment(tmp_path / "own", ["nothere"], ["--no-index", "-f", str(wheels)])
