"""One list of requirements, and the extra that brings a missing package, said in a cell, in a script and by a loop."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from nbkit.ground import extras as listed
from nbkit.ground.extras import requirements


def test_the_list_is_the_checkouts_with_its_extras():
    needs = [Requirement(need) for need in requirements()]
    assert {"torch", "lightning", "typer"} <= {need.name for need in needs if need.marker is None}
    assert any(need.name == "kaggle" and need.marker.evaluate({"extra": "kaggle"}) for need in needs)


def test_without_a_checkout_the_list_is_the_installed_one(tmp_path, monkeypatch):
    """A pyproject.toml that happens to lie above the installed package is another project's."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\ndependencies = []\n')
    monkeypatch.setattr(listed, "import_folder", lambda: tmp_path)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [f"{name}-needs>=1"])
    assert requirements() == ["nbkit-neuro-needs>=1"]


def test_every_extra_that_a_user_may_need_has_its_size():
    found = {m for need in requirements() for m in re.findall(r"extra == [\"']([\w-]+)[\"']", need)}
    assert set(listed._MB) | {"dev", "braindecode"} == found, "state how large an extra is, by a fresh installation"


@pytest.mark.parametrize(
    ("package", "extra"),
    [("pydrive2", "drive"), ("braindecode.models", "decoding"), ("nilearn", "tribe"), ("torch", None), ("os", None)],
)
def test_the_extra_of_a_package(package, extra):
    assert listed.extra_of(package) == extra
    said = listed.how_to_install(ModuleNotFoundError("missing", name=package))
    assert (f"nbkit install {extra} " in said) if extra else said == ""


def test_a_script_says_which_extra_is_missing(tmp_path):
    script = tmp_path / "own.py"
    script.write_text("import sys\n\nimport nbkit.neuro\n\nsys.modules['braindecode'] = None\nimport braindecode\n")
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and "Traceback" not in found.stderr, found.stderr
    assert "error: The package braindecode is not installed" in found.stderr and "install decoding" in found.stderr
