"""The wheel holds the package, the map of phases, and what a push from Kaggle needs: no more and no less."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nbkit import __version__

pytest.importorskip("hatchling")


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> Path:
    """Build the wheel of the checkout, as `python -m build` does, without a network."""
    folder = tmp_path_factory.mktemp("dist")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def test_the_wheel_holds_what_the_repository_has_and_nothing_else(root, wheel):
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    files = [name for name in listed.stdout.splitlines() if (root / name).is_file()]
    assert "nbkit/py.typed" in files, "type checkers of other projects would not read the hints"
    wanted = {name for name in files if name.startswith("nbkit/")}
    wanted |= {f"nbkit/{name}" for name in files if name.startswith(("manifests/", "notebooks/", "kaggle/"))}
    others = {name for name in wanted if not name.endswith((".py", ".ipynb", ".json"))}
    assert {"nbkit/manifests/phases.toml", "nbkit/tools/report/page.css"} <= others
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == wanted
        for name in ("nbkit/tools/report/page.css", "nbkit/manifests/phases.toml"):
            assert archive.read(name) == (root / name.replace("nbkit/manifests", "manifests")).read_bytes()


def test_the_wheel_says_who_may_use_it_and_which_version_it_is(root, wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
        licence = archive.read(name.replace("METADATA", "licenses/LICENSE"))
    assert re.search(rf"^Version: {re.escape(__version__)}$", metadata, re.MULTILINE)
    assert re.search(r"^License-Expression: BSD-3-Clause$", metadata, re.MULTILINE)
    assert licence == (root / "LICENSE").read_bytes()


def test_the_changelog_and_the_citation_name_this_version(root):
    assert re.search(r"^## (\S+)", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[1] == __version__
    assert re.search(r"^version: (\S+)$", (root / "CITATION.cff").read_text("utf-8"), re.MULTILINE)[1] == __version__
