"""A toy phase, a Hub on the loopback as its store, and the stand-in for Colab's client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.store.hub.hub_loopback import Loopback
from tests.runtime.store.hub.hub_state import TOKEN, Plan
from tests.tools.colab import standin

PHASE = """[[phase]]
slug = "toy"
number = 10
title = "x"
module = ""
needs = []
makes = []
accelerator = "cpu"
sessions = 1
session_hours = 1.0
items = true
figures = []
scores = []
"""
CELLS = (
    'STORE = None  # s\nLIMIT = None  # l\nSHARD = None  # s\nN = 12  # items\nSECONDS = 0.2  # s an item\n'
    'SMOKE = False  # x',
    "import time\nimport numpy as np\nimport nbkit\n"
    'session = nbkit.open_session("toy", store=STORE, limit=LIMIT, shard=SHARD)',
    'for item in session.work([{"key": f"k{i:03d}"} for i in range(N)]):\n    with item:\n'
    "        time.sleep(SECONDS)\n        item.save(x=np.arange(10) + int(item.key[1:]))",
    "summary = session.close()",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return the folder of the stand-in's state."""
    place = tmp_path / "colab"
    monkeypatch.setenv("NBKIT_COLAB", str(standin.program(place)))
    return place


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Serve a Hub, whose token only this machine has."""
    with Loopback(Plan()) as served:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        monkeypatch.setenv("NBKIT_HUB_COMMIT_SECONDS", "0.3")
        yield served


@pytest.fixture
def toy(tmp_path, monkeypatch, make_notebook) -> Path:
    """Return a home with one phase, called toy."""
    root = tmp_path / "home"
    for name in ("notebooks", "manifests"):
        (root / name).mkdir(parents=True)
    (root / "manifests/phases.toml").write_text(PHASE)
    make_notebook(*CELLS).rename(root / "notebooks/10_toy.ipynb")
    for module in ("phases", "colab.push"):
        monkeypatch.setattr(f"nbkit.tools.{module}.home", lambda: root)

    def wheel(folder: Path) -> Path:
        path = folder / "nbkit_neuro-0.1.0-py3-none-any.whl"
        path.write_bytes(b"a wheel")
        return path

    monkeypatch.setattr("nbkit.tools.colab.push.build_wheel", wheel)
    return root
