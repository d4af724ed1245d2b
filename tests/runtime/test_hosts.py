"""Each host is known by its variables, Kaggle before Colab."""

from __future__ import annotations

import pytest

from nbkit.runtime.hosts import detect

KAGGLE = {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}
COLAB = {"COLAB_RELEASE_TAG": "release-colab_20250101"}
STUDIO = {"LIGHTNING_CLOUD_SPACE_ID": "01abc"}


@pytest.mark.parametrize(
    ("environ", "name"),
    [({}, "local"), (KAGGLE, "kaggle"), (COLAB, "colab"), (STUDIO, "studio"), (KAGGLE | COLAB, "kaggle"),
     (COLAB | STUDIO, "colab"), ({"HOME": "/root", "COLAB_GPU": "1"}, "local")],
)  # fmt: skip
def test_detection(environ, name):
    assert detect(environ).name == name


def test_this_process_is_asked_by_default(monkeypatch):
    assert detect().name == "local"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert detect().name == "kaggle" and detect().batch
    assert not detect(KAGGLE).batch


def test_limits_are_inside_the_hosts_walls_and_local_has_none():
    assert detect({}).limit is None and detect({}).clock == "open"
    for environ, wall in ((KAGGLE, 12), (COLAB, 12), (STUDIO, 4)):
        host = detect(environ)
        assert 0 < host.limit < wall * 3600 and host.clock == "process" and host.words


def test_detection_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for environ in (KAGGLE, COLAB, STUDIO, {}):
        assert not detect(environ).folder.exists()
