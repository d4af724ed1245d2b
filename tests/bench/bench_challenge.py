"""EEG Challenge 2025: response times and factors on held-out subjects, five ways, scored by one code

NRMSE of LaBraM and JEPA (small, from random weights, trained here), EEGNeX with real weights trained on HBN by somebody
else (129 channels, 200 samples at 100 Hz), a ridge on band powers, and a constant: on the synthetic HBN of 129
channels, and on real EEG with response times, Posner cueing on four dry electrodes. EEGNeX knows neither; it is scored
as it is, and with its output laid over the training windows by a line. For the cueing data its 129 channels are
interpolated from four. (The other real set with response times, 204 sensors, has 29 epochs of 0.2 s of two people: no
model here takes them.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from nbkit.neuro.challenge.metrics import nrmse, nrmse_interval
from nbkit.neuro.jepa.finetune import CHALLENGES, Challenge2Settings
from nbkit.neuro.jepa.finetune import FinetuneSettings as JEPASettings
from nbkit.neuro.jepa.finetune import Regressor as JEPA
from nbkit.neuro.labram.finetune import FinetuneSettings as LaBraMSettings
from nbkit.neuro.labram.finetune import Regressor as LaBraM
from nbkit.neuro.signals.hbn.synthetic import SyntheticHBNSettings, hbn_ch_names, write_synthetic_hbn
from nbkit.neuro.signals.recordings.cueing import CueingWindows, write_cueing
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.brief import train_briefly
from nbkit.neuro.training.held_out.values import ridge_on_crops
from nbkit.neuro.training.window_module import predict
from tests.bench.rows import Row

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
_WEIGHTS = {1: "eegnex_ccd_rt.safetensors", 2: "eegnex_externalizing.safetensors"}
_WORLD = SyntheticHBNSettings(subjects=40, n_chans=129, tasks=("contrastChangeDetection",), runs=1, trials=8)
_MONTAGE = "standard_1020"


def run(quick: bool) -> list[Row]:
    """Train, score and set beside each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks: threads would wait for each other
    try:
        with tempfile.TemporaryDirectory() as folder:
            world = replace(_WORLD, subjects=10, trials=6) if quick else _WORLD
            steps = 10 if quick else 80
            rows = [row for challenge in (1, 2) for row in _synthetic(challenge, world, Path(folder), steps)]
            return rows + _cueing(Path(folder), 10 if quick else 150, (2025,) if quick else (2025, 2026, 2027))
    finally:
        torch.set_num_threads(threads)


def _synthetic(challenge: int, world: SyntheticHBNSettings, folder: Path, steps: int) -> list[Row]:
    write_synthetic_hbn(folder / f"hbn{challenge}", f"challenge{challenge}", world)
    data = WindowData(
        folder / f"hbn{challenge}", 16, crop=200, fractions=(0.6, 0.1, 0.3), may_miss=CHALLENGES[challenge].others
    )
    predictions = {
        **_trained(data, challenge, steps, folder), **_eegnex(data, challenge, lambda windows: windows),
        "ridge on band powers": ridge_on_crops(data, "target"),
    }  # fmt: skip
    return _rows(f"synthetic HBN, challenge {challenge}", [(data, predictions)], f"{steps} steps")


def _cueing(folder: Path, steps: int, seeds: Sequence[int]) -> list[Row]:
    """Real response times, each split's test subjects unseen; splits are pooled for a figure of more subjects."""
    root = _DATA / "eeg_cueing_muse"
    if not root.is_dir():
        return [Row("real cueing data", None, "1", note="the recordings are not here")]
    write_cueing(root, folder / "cueing", CueingWindows())
    splits = []
    for seed in seeds:
        data = WindowData(folder / "cueing", 16, fractions=(0.7, 0.05, 0.25), seed=seed, may_miss=("correct",))
        data.setup()
        predictions = {
            **_trained(data, 1, steps, folder), **_eegnex(data, 1, _to_hbn_net(data.ch_names)),
            "ridge on band powers": ridge_on_crops(data, "target"),
        }  # fmt: skip
        splits.append((data, predictions))
    return _rows("real cueing EEG, response times", splits, f"{steps} steps, {len(seeds)} splits by subject")


def _trained(data: Any, challenge: int, steps: int, folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for name, module in _modules(data, challenge, steps).items():
        train_briefly(module, data, steps, folder / "last.ckpt")
        found[f"{name}, from random weights"] = predict(module, data.test_dataloader())[0].numpy()
    return found


def _modules(data: Any, challenge: int, steps: int) -> dict[str, lightning.LightningModule]:
    lightning.seed_everything(2025, verbose=False)
    sizes: dict[str, Any] = {"steps": steps, "warmup_steps": steps // 10, "patience_steps": 0}
    labram = LaBraM.for_data(replace(LaBraMSettings.smoke(), **sizes), data)
    settings = replace((JEPASettings, Challenge2Settings)[challenge - 1].smoke(), **sizes)
    return {"LaBraM": labram, "JEPA": JEPA.for_data(settings, data)}


def load_eegnex(path: Path) -> torch.nn.Module:
    """Return braindecode's EEGNeX with weights that were trained on HBN, every one of them."""
    from braindecode.models import EEGNeX
    from safetensors.torch import load_file

    network = EEGNeX(n_chans=129, n_times=200, sfreq=100, n_outputs=1)
    network.load_state_dict(load_file(path), strict=True)
    return network.eval()


def eegnex_unit(network: torch.nn.Module, windows: torch.Tensor) -> str:
    """Return the unit of its training's windows: the one that its first normalisation's variances fit best."""
    norm = network.block_1[2]
    known = norm.running_var.log().mean()
    with torch.no_grad():
        variances = {
            unit: network.block_1[:2](_in_unit(windows, unit)).var(dim=(0, 2, 3)).clamp_min(1e-30).log().mean()
            for unit in ("V", "uV", "z-scored")
        }
    return min(variances, key=lambda unit: abs(variances[unit] - known))


def _in_unit(windows: torch.Tensor, unit: str) -> torch.Tensor:
    if unit == "z-scored":
        deviation = windows.std(dim=-1, keepdim=True)
        return (windows - windows.mean(dim=-1, keepdim=True)) / deviation.clamp_min(1e-6)
    return windows * (1e-6 if unit == "V" else 1.0)


def _eegnex(data: Any, challenge: int, to_net: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, np.ndarray]:
    """Its predictions as they are, and laid over the training windows by a line."""
    path = _DATA / "weights_hbn_eegnex" / _WEIGHTS[challenge]
    if not path.is_file():
        return {}
    network = load_eegnex(path)
    unit = eegnex_unit(network, to_net(next(iter(data.val_dataloader()))["window"]))
    given = []
    for side in (data.train_dataset, data.test_dataset):
        loader = torch.utils.data.DataLoader(data.batched(side), 64)
        with torch.no_grad():
            given.append(torch.cat([network(_in_unit(to_net(b["window"]), unit))[:, 0] for b in loader]).numpy())
    train, test = given
    target = data.train_dataset.column("target").astype(float)
    says = train.std() > 1e-4 * max(1e-12, abs(train.mean()))  # fed far weaker signals than its own, it says one thing
    slope, offset = np.polyfit(train, target, 1) if says else (0.0, target.mean())
    name = f"EEGNeX with HBN weights ({unit})"
    return {f"{name}, as it is": test, f"{name}, laid over by a line": slope * test + offset}


def _to_hbn_net(ch_names: Sequence[str]) -> Callable[[torch.Tensor], torch.Tensor]:
    """A linear map from some channels of the 10-20 system to HBN's net, by spherical splines."""
    import mne
    from mne.channels.interpolation import _make_interpolation_matrix

    places = mne.channels.make_standard_montage(_MONTAGE).get_positions()["ch_pos"]
    net = mne.channels.make_standard_montage("GSN-HydroCel-129").get_positions()["ch_pos"]
    known = np.array([places[name] for name in ch_names])
    wanted = np.array([net[name] for name in hbn_ch_names()])
    spline = _make_interpolation_matrix(known, wanted)
    matrix = torch.tensor(spline, dtype=torch.float32)
    return lambda windows: torch.einsum("nc,bct->bnt", matrix, windows)


def _rows(what: str, splits: Sequence[tuple[Any, dict[str, np.ndarray]]], how: str) -> list[Row]:
    targets = [data.test_dataset.column("target").astype(float) for data, _ in splits]
    subjects = np.concatenate([data.test_dataset.subjects for data, _ in splits])
    constants = [np.full(len(t), data.target_scale()[0]) for t, (data, _) in zip(targets, splits, strict=True)]
    target, constant = np.concatenate(targets), np.concatenate(constants)
    beside = nrmse(target, constant)
    rows = []
    for model in splits[0][1]:
        predicted = np.concatenate([predictions[model] for _, predictions in splits])
        low, high = nrmse_interval(target, predicted, subjects)
        note = f"{low:.3f} to {high:.3f} over subjects; {len(target)} windows of {len(set(subjects))} subjects; {how}"
        rows.append(Row(f"{what}: {model}", nrmse(target, predicted), "NRMSE", "training mean", beside, note=note))
    return rows
