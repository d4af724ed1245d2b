"""What a trial unpickles shares its memory as the user's objects do, and names the trial's own session."""

from __future__ import annotations

import io
from typing import Any

import cloudpickle
import torch

from nbkit.runtime.training.proving.trial_session import Unpickler, pickled


class Shares(torch.nn.Module):
    """Holds its weights and buffers in further places."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
        self.anchor, self.session = self.net.state_dict(), session
        self.parts = [p.data for p in self.net.parameters()]
        self.half, self.row = self.net[0].weight.data[:, ::2], self.net[0].weight.detach().t()[1]
        self.own = torch.arange(4, dtype=torch.bfloat16)
        self.own_view = self.own[1:]
        self.bits = self.own.view(torch.int16)


def test_views_are_views_in_a_trial_too() -> None:
    session, trial = object(), object()
    read = Unpickler(io.BytesIO(pickled(cloudpickle, Shares(session), session)), trial).load()  # type: ignore[arg-type]
    assert read.session is trial
    with torch.no_grad():
        read.net[0].weight.copy_(torch.arange(12.0).reshape(3, 4))
        read.net[1].running_mean.fill_(5.0)
        read.own.fill_(1.0)
    assert read.anchor["0.weight"].equal(read.net[0].weight) and read.parts[0].equal(read.net[0].weight)
    assert read.half.tolist() == [[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]] and read.row.tolist() == [1.0, 5.0, 9.0]
    assert read.anchor["1.running_mean"].tolist() == [5.0] * 3
    assert read.own_view.tolist() == [1.0] * 3 and read.bits.tolist() == [16256] * 4
    assert read.anchor["0.bias"].data_ptr() != read.net[1].bias.data_ptr()
