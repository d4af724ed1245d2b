"""After a training the module is where it was trained; what else is scored goes there by one call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

import nbkit
from nbkit.runtime.device import Device
from tests.runtime.training.training_support import Tiny, TinyData


class Moved(Tiny):
    """Remembers where it is put; a GPU that is not there is only named."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["places"] = []

    def to(self, *places, **options):
        self.places.append(str(places[0]))
        return self if str(places[0]) == "cuda" else super().to(*places, **options)


def test_fit_hands_the_module_back_on_the_device_that_trained_it(tmp_path: Path, capsys) -> None:
    for steps_left in (True, False):
        session = nbkit.open_session("toy", store=tmp_path / "s", accelerator="cpu", folder=tmp_path / "w")
        module = Moved()
        if not steps_left:  # the complete training is only loaded, for a session on a GPU
            session.device = replace(session.device, accelerator="cuda")
        report = session.fit(module, TinyData(validation=True), max_steps=9, val_time_share=0.5)
        assert report.complete and module.places[-1] == ("cpu" if steps_left else "cuda")
        session.close()
    assert "validation  on " in capsys.readouterr().out


def test_on_device_is_the_sessions_device(tmp_path: Path) -> None:
    session = nbkit.open_session("toy", store=tmp_path / "s", accelerator="cpu", folder=tmp_path / "w")
    module, value = torch.nn.Linear(2, 2), torch.ones(2)
    assert session.on_device(module) is module and session.on_device(value).device.type == "cpu"
    session.device = Device("cuda", 1, "a GPU", "16-mixed", "")
    moved = Moved()
    assert session.on_device(moved).places == ["cuda"] and session.device.torch_device == "cuda"
    session.device = None  # opened without an accelerator: on the CPU
    assert session.on_device(Moved()).places == ["cpu"]
    session.close()


def test_a_figure_that_is_a_function_is_drawn_once(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    drawn = []

    def draw():
        drawn.append(1)
        return plt.subplots()[0]

    for _ in range(2):
        session = nbkit.open_session("toy", store=tmp_path / "s", folder=tmp_path / "w")
        session.figure(draw, "costly")
        session.close()
    assert drawn == [1] and (tmp_path / "s" / "toy" / "figures" / "costly.png").is_file()
