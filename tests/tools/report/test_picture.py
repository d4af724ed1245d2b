"""The picture of a store for a README: sessions and stored figures in one file, or a sentence."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.image import imread

from nbkit.runtime.session import open_session
from nbkit.tools.report.picture import main


def test_sessions_and_figures_are_in_one_picture(tmp_path, capsys):
    for number in range(2):
        session = open_session("toy", store=tmp_path / "store", folder=tmp_path / "machine", limit=60)
        for item in session.work([{"key": f"item-{i}"} for i in range(2 * number + 2)]):
            with item:
                item.save(x=np.zeros(1))
        if number:
            figure, axes = plt.subplots()
            axes.plot([0, 1])
            session.figure(figure, "line")
        session.close()
    out = tmp_path / "docs" / "picture.png"
    assert main([str(tmp_path / "store"), str(out), "bandvar_train"]) == 2
    assert "error: " in capsys.readouterr().err and not out.exists()
    assert main([str(tmp_path / "store"), str(out), "toy", "toy/none"]) == 2 and not out.exists()
    assert main([str(tmp_path / "store"), str(out), "toy"]) == 0
    short = imread(out).shape
    assert main([str(tmp_path / "store"), str(out), "toy", "toy/line"]) == 0
    assert imread(out).shape[0] > short[0] + 400 and imread(out).shape[1] == short[1]
