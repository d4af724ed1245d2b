"""A newcomer adds a seventh system by docs/changing-the-code.md alone, in a copy, and it runs like the other six."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.readme import Recipe, as_run_here, recipe
from tests.tools.kaggle.kaggle_loopback import Loopback

FEW = 100  # lines, over all five places


@pytest.fixture(scope="module")
def copy(root, tmp_path_factory) -> Path:
    """Return a copy of the files that belong to the repository, which is one of its own."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    target = tmp_path_factory.mktemp("copy")
    for name in listed.stdout.splitlines():
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, target / name)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)
    return target


def ran(copy: Path, command: str, **more: str) -> str:
    """Run a command of the page in the copy; give what it printed."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"} | more
    done = subprocess.run(as_run_here(command), cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def followed(copy: Path, how: Recipe) -> None:
    """Write what the recipe says, and run its 'new' command."""
    phases = copy / "manifests/phases.toml"
    phases.write_text(phases.read_text("utf-8") + "\n" + how.row, "utf-8")
    said = ran(copy, how.commands[0])
    assert "made       kaggle/toy-decay/kernel-metadata.json" in said and "to write   nbkit/neuro/toy/decay.py" in said
    for name, text in how.files.items():
        (copy / name).write_text(text, "utf-8")
    notebook = copy / "notebooks/80_toy_decay.ipynb"
    content = json.loads(notebook.read_text("utf-8"))
    at = [cell["id"] for cell in content["cells"]].index("close-about")
    empty = {"outputs": [], "execution_count": None}
    content["cells"][at:at] = [
        {"id": name, "cell_type": kind, "metadata": {}, "source": text} | (empty if kind == "code" else {})
        for name, kind, text in how.cells
    ]
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


@pytest.mark.rehearse
@pytest.mark.timeout(900)  # a guard against hanging; some 45 s on a quiet machine
def test_a_newcomer_adds_a_system_by_the_page_alone(copy, root, tmp_path):
    how = recipe(root)
    assert how.lines < FEW, f"{how.lines} lines"
    assert (len(how.files), [name for name, _, _ in how.cells]) == (2, ["data", "work", "curves", "curves-read"])
    followed(copy, how)
    new, *see = how.commands
    assert new.endswith(" new toy_decay") and len(see) == 2
    for command in see:
        ran(copy, command)

    # resumed where it was killed, and whole in the store
    told = json.loads((copy / "toy-store/toy_decay/rehearsal.json").read_text())
    first, second = told["sessions"]
    assert told["complete"] and first["ended"] == "killed"
    assert 0 < second["from_step"] == first["stored_step"] < second["stored_step"]
    assert (copy / "toy-store/toy_decay/figures/curves.png").stat().st_size > 5000

    # whole, seen by status and report, and pushed: its notebook, and the wheel with its code
    looks = (
        "verify --store toy-store", "status toy_decay --store toy-store --json",
        "report --store toy-store --out toy.html", "push toy_decay --store memory://toy",
    )  # fmt: skip
    with Loopback() as kaggle:
        told = kaggle.environment(tmp_path) | {"HOME": str(tmp_path)}
        code = f"from nbkit.tools.commands import cli\nfor line in {looks}: print(end='\\x1e', flush=True); "
        code += "code = cli.run(line.split()); assert code == 0, (line, code)"
        said = ran(copy, shlex.join(["python", "-c", code]), **told).split("\x1e")
        pushed = kaggle.kernels["mary/nbkit-toy-decay"].request
        wheel = kaggle.datasets["mary/nbkit-wheel"].files
    (row,) = json.loads(said[2])["phases"]
    assert row["slug"] == "toy_decay" and row["step"] == row["max_steps"]
    page = (copy / "toy.html").read_text("utf-8")
    assert "Read the rate of a decay off a noisy trace" in page and "the mean rate" in page
    assert "nbkit.neuro.toy.decay" in pushed["text"]
    (data,) = [data for name, data in wheel.items() if name.endswith(".whl")]
    assert "nbkit/neuro/toy/decay.py" in zipfile.ZipFile(BytesIO(data)).namelist()
