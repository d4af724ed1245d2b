"""A checkout and an installed package each find what belongs to them."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from nbkit.ground import home as module
from nbkit.ground.home import checkout, home, import_folder


def test_a_checkout_is_its_own_home(root):
    assert home() == checkout() == import_folder() == root


@pytest.mark.parametrize("manifests", ["", "nbkit/"])
def test_an_installed_package_holds_its_own_files(tmp_path, manifests):
    package = tmp_path / "nbkit" / "ground"
    package.mkdir(parents=True)
    (tmp_path / "nbkit" / "__init__.py").touch()
    (package / "__init__.py").touch()
    shutil.copy(module.__file__, package)
    (tmp_path / manifests / "manifests").mkdir(parents=True)
    (tmp_path / manifests / "manifests" / "phases.toml").touch()
    code = "from nbkit.ground.home import checkout, home; print(home()); print(checkout())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(tmp_path / manifests).rstrip("/"), "None"]
