"""What tests share: a clean environment, the real recordings, notebooks made on the spot."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import ROOT

pytest_plugins = ("tests.cost",)

_OF_HOSTS = ("KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG", "LIGHTNING_CLOUD_SPACE_ID")


def _own_bar_lock() -> None:
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


# One thread for torch and BLAS, here and in every process that a test starts: models of a few thousand weights are
# slower on more, and beside other work many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# tqdm's lock is one for a process and its forks: a child killed while it draws would hold it for ever. Set here too: a
# kind of bar that is drawn before any lock is set makes itself one that no later setting reaches.
_own_bar_lock()
os.register_at_fork(after_in_child=_own_bar_lock)


_FORKING = ("tests/runtime/", "tests/tools/")
_LEAVING_THREADS = ("/test_dask.py", "/test_report_browser.py")
_LONG = ("test_notebooks_form.py", "test_readme.py", "test_new_system.py", "test_jupyterlab.py")


def turn(nodeid: str) -> int:
    """Return when a test's file is run: what forks, the longest files, then all others.

    What forks goes before what leaves threads of other libraries behind (torch's, Dask's, a browser's). The longest
    files come next, so that the second process does not wait for them at the end.
    """
    path = nodeid.partition("::")[0]
    if path.startswith(_FORKING) and not path.endswith(_LEAVING_THREADS):
        return 0
    return 1 if path.endswith(_LONG) else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: turn(item.nodeid))


def pytest_collection_finish() -> None:
    """Leave what was imported out of each garbage collection, also in the many processes that tests fork."""
    gc.collect()
    gc.freeze()


# Lightning looks for plugins each time a Trainer is made, in some hundreds of files: a tenth of a short training.
importlib.metadata.entry_points = functools.lru_cache(importlib.metadata.entry_points)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    """Keep variables of the machine that runs the tests out of them."""
    for name in [*os.environ]:
        if name.startswith("NBKIT_") or name in _OF_HOSTS:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real recordings; skips where it is not beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real recordings (../shared/data) are not here")
    return folder


@pytest.fixture
def make_notebook(tmp_path) -> Callable[..., Path]:
    """Return a function that writes a notebook of some code cells; the first is its parameters cell."""

    def make(*sources: str, name: str = "05_toy.ipynb") -> Path:
        cells = [
            {
                "cell_type": "code", "id": f"cell-{i}", "execution_count": None, "outputs": [],
                "metadata": {"tags": ["parameters"]} if i == 0 else {}, "source": source,
            }
            for i, source in enumerate(sources)
        ]  # fmt: skip
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = tmp_path / name
        content = {"cells": cells, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}
        path.write_text(json.dumps(content))
        return path

    return make


PARAMETERS = "N = 4  # items\nSECONDS = 0.0  # s an item\nSMOKE = False"
OPEN = 'import time\nimport numpy as np\nimport nbkit\nsession = nbkit.open_session("toy", smoke=SMOKE)'
WORK = """for item in session.work([{"key": f"k{i:03d}"} for i in range(N)]):
    with item:
        time.sleep(SECONDS)
        item.save(x=np.arange(10) + int(item.key[1:]))"""
CLOSE = "summary = session.close()"


@pytest.fixture
def toy(make_notebook) -> Path:
    """Return a notebook that makes N items of SECONDS each, in a phase called toy."""
    return make_notebook(PARAMETERS, OPEN, WORK, CLOSE)
