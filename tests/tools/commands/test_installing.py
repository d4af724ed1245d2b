"""Installing into a host's image: what it has is pinned, what it lacks is named, the set-up cells do no more."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nbkit.runtime.errors import NbkitError
from nbkit.runtime.hosts import store_warning
from nbkit.tools.commands import installing
from nbkit.tools.kaggle import copy as kaggle_copy
from nbkit.tools.kaggle.datasets import build_wheel


@pytest.fixture
def image(monkeypatch):
    """Return a function that makes nbkit need these requirements."""

    def make(*needs: str) -> None:
        monkeypatch.setattr(installing, "requirements", lambda: list(needs))

    return make


def test_only_what_is_not_there_at_all_is_missing(image):
    image("numpy>=1", "numpy>=999", "no-such-thing[x]>=2", "other-thing; extra == 'drive'", "dev-thing; extra == 'dev'")
    assert installing.missing_requirements() == ["no-such-thing[x]>=2", "other-thing"]
    assert installing.missing_requirements(()) == ["no-such-thing[x]>=2"]


def test_pip_gets_every_installed_package_as_a_pin(image, monkeypatch):
    image("no-such-thing>=2")
    seen = {}

    def run(command):
        seen["command"] = command
        seen["pins"] = Path(command[command.index("--constraint") + 1]).read_text().splitlines()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert installing.install_missing() == ["no-such-thing>=2"]
    assert f"numpy=={importlib.metadata.version('numpy')}" in seen["pins"]
    assert f"torch=={importlib.metadata.version('torch')}" in seen["pins"]
    assert seen["command"][-1] == "no-such-thing>=2" and not {"-U", "--upgrade"} & set(seen["command"])


def test_a_broken_package_of_the_image_does_not_stop_pip(tmp_path, monkeypatch):
    for name, version in (("fine", "1.0+cu128"), ("odd", "not a version"), ("", "")):
        folder = tmp_path / f"{name or 'none'}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" if name else "")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installing.pins() == ["fine==1.0+cu128"]


def test_nothing_is_replaced_where_pip_cannot_do_without(image, tmp_path, monkeypatch):
    """Real pip: a package that wants another torch is refused because of the pin, and torch stays as it is."""
    package = tmp_path / "wants-torch"
    package.mkdir()
    wheel = package / "wants_other_torch-1.0-py3-none-any.whl"
    import zipfile

    with zipfile.ZipFile(wheel, "w") as file:
        info = "wants_other_torch-1.0.dist-info"
        metadata = "Metadata-Version: 2.1\nName: wants-other-torch\nVersion: 1.0\nRequires-Dist: torch==0.0.1\n"
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    before = importlib.metadata.version("torch")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(package)}.items():
        monkeypatch.setenv(name, value)
    image("wants-other-torch>=1")
    with pytest.raises(NbkitError, match="Nothing of the image was replaced"):
        installing.install_missing()
    assert importlib.metadata.version("torch") == before


def test_install_needs_no_other_package(root):
    """It is what runs first in a bare image: nothing but the standard library and pip's own packaging is there."""
    code = (
        "import sys; sys.argv = ['nbkit', 'install']; import nbkit.__main__ as m\n"
        "try: m.main()\nexcept SystemExit as end: print('exit', end.code)\n"
        "print(sorted({n.split('.')[0] for n in sys.modules} & {'typer', 'click', 'torch', 'numpy', 'tenacity'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == ["exit 0", "[]"], done.stderr


def test_extras_that_a_notebook_names_go_along(image, capsys, monkeypatch):
    image("no-such-thing; extra == 'tribe'", "dev-thing; extra == 'dev'")
    monkeypatch.setattr(installing, "pins", list)
    monkeypatch.setattr(subprocess, "run", lambda command: subprocess.CompletedProcess(command, 0))
    assert installing.main(["tribe"]) == 0 and "no-such-thing" in capsys.readouterr().out
    assert installing.main(["trbe"]) == 2
    assert "There is no extra 'trbe'. Did you mean 'tribe'? Allowed: dev, tribe." in capsys.readouterr().err


def test_kaggles_copy_installs_the_extras_of_the_notebook():
    assert kaggle_copy.extras_of('system("x && python -m nbkit install tribe hbn")') == ["tribe", "hbn"]
    assert kaggle_copy.extras_of('system("x && python -m nbkit install")') == []


def test_all_notebooks_have_one_set_up(root):
    """But for the extras behind the install command, which are known ones."""
    set_ups = set()
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"]}
        extras = kaggle_copy.extras_of(cells["set-up"])
        assert set(extras) <= set(installing.known_extras()), path.name
        set_ups.add(cells["set-up"].replace("install " + " ".join(extras), "install") if extras else cells["set-up"])
    (source,) = set_ups
    assert "--no-deps" in source and not re.search(r"pip install[^&]*\btorch\b", source)
    assert " nbkit-neuro && nbkit install" in source, "by its name; nbkit on the public index is another project"


@pytest.mark.parametrize("folder", ["", "drive/MyDrive/nbkit", None])
def test_the_set_up_takes_the_wheel_where_there_is_no_release(root, tmp_path, folder):
    """The command of the cell itself, with real pip and an index that has nothing."""
    pytest.importorskip("hatchling")
    cells = json.loads((root / "notebooks/00_start_here.ipynb").read_text("utf-8"))["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if cell["id"] == "set-up"]
    command = re.search(r'system\("pip (.+?) && nbkit install', source)[1]
    assert command.endswith(" nbkit-neuro") and "--no-deps" in command
    here, target = tmp_path / "content", tmp_path / "site"
    here.mkdir()
    if folder is not None:
        (here / folder).mkdir(parents=True, exist_ok=True)
        wheel = build_wheel(tmp_path, root)
        wheel.rename(here / folder / wheel.name)
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_TARGET": str(target)}
    done = subprocess.run(
        [sys.executable, "-m", "pip", *command.split()], cwd=here, env=environment, capture_output=True, text=True
    )
    if folder is None:
        assert done.returncode and "No matching distribution found for nbkit-neuro" in done.stderr
        assert not target.exists()
        return
    assert done.returncode == 0, done.stderr
    assert [path.name.partition("-")[0] for path in target.glob("*.dist-info")] == ["nbkit_neuro"]
    assert (target / "bin" / "nbkit").is_file(), "what the cell calls next"


def test_a_mounted_drive_gets_its_warning():
    assert "is lost, although it was acknowledged" in store_warning("/content/drive/MyDrive/nbkit")
    assert store_warning("/content/nbkit-store") == "" == store_warning("gdrive://1AbC")
