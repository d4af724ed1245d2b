"""braindecode's SignalJEPA beside ours: on the same batches, apart in everything else."""

from __future__ import annotations

from dataclasses import replace

import lightning
import pytest
import torch

pytest.importorskip("braindecode")

from nbkit.neuro.jepa.finetune import ComparedRegressor, FinetuneSettings, Regressor  # noqa: E402
from nbkit.neuro.jepa.signal_jepa import SignalJEPARegressor, make_signal_jepa  # noqa: E402
from nbkit.neuro.signals.hbn.synthetic import hbn_ch_names  # noqa: E402
from tests.neuro.jepa.factor_windows import ScalpWindows  # noqa: E402
from tests.neuro.labram.training import train  # noqa: E402

SETTINGS = replace(FinetuneSettings.smoke(), steps=3, rival="pre_local")


@pytest.mark.parametrize("variant", ["contextual", "post_local", "pre_local"])
def test_each_variant_takes_the_challenges_windows(variant):
    network = make_signal_jepa(variant, hbn_ch_names(), 100.0, 200)
    assert network(torch.randn(2, 129, 200)).shape == (2, 1)
    size = sum(weight.numel() for weight in network.parameters())
    assert (3e6 < size < 4e6) if variant == "contextual" else size < 3e4


def test_it_trains_beside_ours_and_stays_out_of_the_checkpoint(tmp_path):
    lightning.seed_everything(1, verbose=False)
    data = ScalpWindows()
    both = ComparedRegressor.for_data(SETTINGS, data)
    rival = SignalJEPARegressor(SETTINGS, data.ch_names, 100.0, data.target_scale(), "pre_local")
    rival.load_state_dict(both.rivals["signal_jepa"].state_dict())
    trainer = train(both, data, 3)
    assert {"val_nrmse", "val_nrmse_scratch", "val_nrmse_signal_jepa"} <= set(trainer.callback_metrics)
    train(rival, data, 3)
    for name, value in rival.state_dict().items():
        # BatchNorm takes this bias out again, so its gradient is rounding alone, which Adam enlarges to whole steps
        loose = {"atol": 3 * SETTINGS.lr, "rtol": 0.0} if name == "network.spatial_conv.1.bias" else {}
        torch.testing.assert_close(both.rivals["signal_jepa"].state_dict()[name], value, msg=name, **loose)
    trainer.save_checkpoint(tmp_path / "best.ckpt")
    assert Regressor.from_checkpoint(tmp_path / "best.ckpt").loaded.matched > 0


def test_what_it_cannot_take_is_said():
    with pytest.raises(ValueError, match="Unknown rival='local'; it may be contextual, post_local, pre_local"):
        make_signal_jepa("local", hbn_ch_names(), 100.0, 200)
    with pytest.raises(ValueError, match="TP9, AF7 .of 2. have no position in GSN-HydroCel-129"):
        make_signal_jepa("pre_local", ("TP9", "AF7"), 100.0, 200)
