"""A world of toy phases, a store that hosts reach, and Kaggle at the loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbkit.runtime.store.folder import FolderStore
from tests.tools.dispatching.toys import TOYS
from tests.tools.kaggle.kaggle_loopback import Loopback


@pytest.fixture
def world(tmp_path, monkeypatch, make_notebook):
    """Return a folder with three toy phases: manifests, notebooks, metadata."""
    root = tmp_path / "toys"
    rows = []
    for slug, (number, accelerator, needs, _) in TOYS.items():
        rows.append(
            f'[[phase]]\nslug = "{slug}"\nnumber = {number}\ntitle = "x"\nmodule = ""\nneeds = {list(needs)}\n'
            f'makes = []\naccelerator = "{accelerator}"\nsessions = 1\nsession_hours = 9.0\n'
            f"items = {'true' if accelerator == 'cpu' else 'false'}\nfigures = []\nscores = []\n"
        )
        notebook = make_notebook("STORE = None  # s\nLIMIT = None  # l\nSMOKE = False  # x", "print(1)")
        folder = root / "kaggle" / slug.replace("_", "-")
        folder.mkdir(parents=True)
        (root / "notebooks").mkdir(exist_ok=True)
        notebook.rename(root / "notebooks" / f"{number}_{slug}.ipynb")
        name = f"nbkit-{slug.replace('_', '-')}"
        metadata = {"id": f"KAGGLE_USERNAME/{name}", "title": name.replace("-", " "), "code_file": "x",
                    "language": "python", "kernel_type": "notebook", "is_private": True, "enable_internet": True,
                    "machine_shape": "NvidiaTeslaT4" if accelerator == "gpu" else ""}  # fmt: skip
        (folder / "kernel-metadata.json").write_text(json.dumps(metadata))
    (root / "manifests").mkdir()
    (root / "manifests/phases.toml").write_text("\n".join(rows))
    for module in ("phases", "kaggle.push", "dispatching.dispatch", "colab.push"):
        monkeypatch.setattr(f"nbkit.tools.{module}.home", lambda: root)
    monkeypatch.setattr("nbkit.tools.kaggle.datasets.POLL", 0.01)

    def wheel(folder: Path) -> Path:
        path = folder / "nbkit_neuro-0.1.0-py3-none-any.whl"
        path.write_bytes(b"a wheel")
        return path

    monkeypatch.setattr("nbkit.tools.kaggle.datasets.build_wheel", wheel)
    monkeypatch.setattr("nbkit.tools.colab.push.build_wheel", wheel)
    return root


@pytest.fixture
def store(tmp_path) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    store.url = "s3://bucket/mary"
    return store


@pytest.fixture
def server(monkeypatch, tmp_path):
    with Loopback() as loopback, loopback.point(monkeypatch, tmp_path / "home"):
        yield loopback
