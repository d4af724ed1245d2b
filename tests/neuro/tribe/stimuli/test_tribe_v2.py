"""TRIBE v2's API on a stand-in of the same classes and shapes: its weights cannot be fetched here.

The stand-in has what the real one is known to have: a pydantic object around the net, an encoder whose layers are lists
that are never called themselves, 200 steps in and 100 rows out, and seconds that vanish unless they are kept.
"""

from dataclasses import dataclass

import numpy as np
import pydantic
import pytest
import torch
from torch import nn

from nbkit.neuro.tribe.stimuli.tribe_v2 import TribeV2Teacher

HIDDEN, DEPTH, VERTICES = 1152, 8, 20484


class Residual(nn.Module):
    def forward(self, x, residual):
        return x + residual


class Encoder(nn.Module):
    """Sixteen lists of [norms, block, residual], attention and feed-forward in turn."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([nn.ModuleList([nn.Identity()]), nn.Linear(HIDDEN, HIDDEN, bias=False), Residual()])
            for _ in range(2 * DEPTH)
        )
        for layer in self.layers:
            nn.init.zeros_(layer[1].weight)

    def forward(self, x):
        for number, (norms, block, residual) in enumerate(self.layers):
            x = residual(block(norms[0](x)) + number + 1, x)  # every half block adds its number
        return x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x):
        return self.encoder(x)[..., :1].expand(-1, -1, VERTICES)[:, ::2].transpose(1, 2)


@dataclass
class OneSecond:
    start: float


class Data(pydantic.BaseModel):
    TR: float = 1.0


class TribeModel(pydantic.BaseModel):
    """Predict as TRIBE v2 does: windows of 100 s, a batch each, numpy out."""

    remove_empty_segments: bool = True
    data: Data = Data()
    seconds: int = 152
    _model: nn.Module = pydantic.PrivateAttr(default_factory=Net)

    def get_events_dataframe(self, text_path=None, audio_path=None, video_path=None):
        return [path for path in (text_path, audio_path, video_path) if path]

    @torch.inference_mode()
    def predict(self, events, verbose=True):
        rows, segments = [], []
        for window in range(-(-self.seconds // 100)):
            time = torch.arange(200.0)[None, :, None] / 2 + 100 * window
            out = self._model(time.expand(1, 200, HIDDEN)).permute(0, 2, 1).flatten(0, 1).numpy()
            starts = 100 * window + np.arange(100)
            keep = starts % 10 != 3 if self.remove_empty_segments else starts >= 0
            rows.append(out[keep])
            segments += [OneSecond(float(start)) for start in starts[keep]]
        return np.concatenate(rows), segments


ROW = {"key": "friends_s01e01a_00000", "path": "s01e01a.mkv"}


def test_the_hooks_fire_and_rows_and_fusion_belong_together():
    said = TribeV2Teacher(TribeModel()).watch(ROW)
    assert said["predictions"].shape == (200, VERTICES) and said["fusion_l4"].shape == (200, HIDDEN)
    seconds = np.arange(200)
    # after block 4, 8 half blocks have added 1 + ... + 8; the mean of a second's two steps is t + 0.25
    assert np.allclose(said["fusion_l4"][:, 0], seconds + 0.25 + sum(range(1, 9)))
    assert np.allclose(said["fusion_l6"][:, 0], seconds + 0.25 + sum(range(1, 13)))
    assert np.allclose(said["predictions"][:, 0], seconds + sum(range(1, 17)))


def test_the_plan_s_hook_place_never_fires():
    model, fired = TribeModel(), []
    for place in (3, 5):
        model._model.encoder.layers[place].register_forward_hook(lambda *_: fired.append("list"))
    model._model.encoder.layers[7][2].register_forward_hook(lambda *_: fired.append("residual"))
    model.predict(events=["x"])
    assert fired == ["residual", "residual"]


def test_empty_seconds_are_kept_and_seen_when_they_are_not():
    teacher = TribeV2Teacher(TribeModel())
    assert teacher.model.remove_empty_segments is False
    teacher.model.remove_empty_segments = True  # as it comes: 180 of 200 rows
    with pytest.raises(ValueError, match="empty seconds were dropped"):
        teacher.watch(ROW)


def test_a_second_video_begins_anew_and_close_takes_the_hooks_off():
    teacher = TribeV2Teacher(TribeModel(seconds=40))
    assert len(teacher.watch(ROW)["fusion_l4"]) == len(teacher.watch(ROW)["fusion_l4"]) == 100
    teacher.close()
    with pytest.raises(ValueError, match="hook for fusion_l4 never fired"):
        teacher.watch(ROW)


def test_what_is_no_tribe_v2_is_refused():
    with pytest.raises(ValueError, match="holds no loaded net"):
        TribeV2Teacher(object())
    with pytest.raises(ValueError, match="a TR of 1.49 s"):
        TribeV2Teacher(TribeModel(data=Data(TR=1.49)))
    with pytest.raises(ValueError, match="friends: TRIBE v2 takes .mp4.* and not '.mpg'"):
        TribeV2Teacher(TribeModel()).watch({"key": "friends", "path": "a.mpg"})


def test_where_it_is_not_installed_that_is_said():
    from importlib.util import find_spec

    if find_spec("tribev2"):
        pytest.skip("tribev2 is installed here")
    with pytest.raises(FileNotFoundError, match=r"git\+https://github.com/facebookresearch/tribev2"):
        TribeV2Teacher.from_pretrained("cache")
