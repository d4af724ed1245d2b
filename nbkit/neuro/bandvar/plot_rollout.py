"""Draw a rollout and print its scores.

With a data set, the rollout is compared with one true window: MSE of each stage, cumulative MSE and SNR.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Draw a rollout and return 0, or print one line with the error (wrong usage or input) and return 2."""
    p = argparse.ArgumentParser(prog="python -m nbkit.neuro.bandvar.plot_rollout", description=__doc__.splitlines()[0])
    p.add_argument("rollout", type=Path, help="demo_prediction.pt")
    p.add_argument("out", type=Path, help="figure to write (.png, .pdf, .svg)")
    p.add_argument("--channel", type=int, default=0)
    p.add_argument("--data-root", type=Path, help="data set that has the true window")
    p.add_argument("--split", default="val")
    p.add_argument("--sample-idx", type=int, default=0)
    p.add_argument("--unit", default="uV", help="unit of the data set, shown on the axes")
    p.add_argument("--json-out", type=Path, help="JSON file to which the scores are also written")
    args = p.parse_args(argv)
    try:
        scores = _draw(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in scores.items():
        print(f"{name}: {value}")
    print(f"Wrote {args.out}")
    return 0


def _draw(args: argparse.Namespace) -> dict[str, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import torch

    from nbkit.neuro.bandvar.data import EEGFrequencyDataset
    from nbkit.neuro.bandvar.rollout import rollout_scores
    from nbkit.neuro.plots.rollout import plot_rollout
    from nbkit.neuro.signals.bands import DEFAULT_BANDS, band_names, effective_bands

    held = _read(args.rollout)
    rollout = held["rollout"]
    stages, channels, _ = rollout.shape
    if not 0 <= args.channel < channels:
        raise ValueError(f"--channel {args.channel} does not exist; the rollout has channels 0 to {channels - 1}.")
    truth, sfreq, bands = None, held.get("sfreq"), held.get("bands")
    if args.data_root is not None:
        data = EEGFrequencyDataset(args.data_root, args.split)
        if data.fallback:
            print(
                f"warning: {args.data_root} has no {args.split}/*.npz; all npz files of the folder are used",
                file=sys.stderr,
            )
        if not 0 <= args.sample_idx < len(data):
            last = len(data) - 1
            raise ValueError(f"--sample-idx {args.sample_idx} does not exist; {args.split} has windows 0 to {last}.")
        truth, sfreq, bands = data[args.sample_idx], data.sfreq, data.bands
        if truth.shape != rollout.shape:
            raise ValueError(
                f"The rollout has (bands, channels, time) = {tuple(rollout.shape)}, the window {tuple(truth.shape)}; "
                "they must be equal. Give the data set that the model was trained on."
            )
    bands = bands or effective_bands(DEFAULT_BANDS[:stages], sfreq or 100.0)
    names = band_names(bands)
    delta = held.get("delta_conditioned")
    # The stored delta-conditioned rollout started from the first validation window; no other window is its truth.
    if truth is not None and delta is not None and not torch.allclose(delta[0], truth[0], atol=1e-5):
        delta = None
    figure = plot_rollout(
        rollout,
        names,
        sfreq or 1.0,
        truth=truth,
        conditioned=delta,
        channel=args.channel,
        bands=bands,
        unit=args.unit,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(args.out, dpi=120)
    except ValueError as error:  # matplotlib does not know the file extension
        raise ValueError(f"{args.out} cannot be drawn: {error}") from None
    scores: dict[str, Any] = {}
    if truth is not None:
        scores = rollout_scores(rollout, truth, names)
        scores["mse_per_stage"] = [scores[f"stage_mse_{name}"] for name in names]
        zero = rollout_scores(torch.zeros_like(truth), truth, names)
        scores["zero_cumulative_mse"], scores["zero_snr_db"] = zero["cumulative_mse"], zero["snr_db"]
        if delta is not None:
            scores["delta_conditioned"] = rollout_scores(delta, truth, names)
    if args.json_out is not None:
        args.json_out.parent.mkdir(parents=True, exist_ok=True)
        exact = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in scores.items()}
        args.json_out.write_text(json.dumps(exact, indent=1) + "\n")
    return scores


def _read(path: Path) -> dict[str, Any]:
    """Read a rollout: the file that training wrote, or a bare tensor."""
    import pickle

    import torch

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the demo_prediction.pt of a training run.")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        size = path.stat().st_size
        raise ValueError(
            f"{path} cannot be read as a rollout ({type(error).__name__}); it has {size} bytes on disk and was not "
            "changed. Give the demo_prediction.pt of a training run."
        ) from error
    held = {"rollout": held} if isinstance(held, torch.Tensor) else held
    if not isinstance(held, dict) or not isinstance(held.get("rollout"), torch.Tensor) or held["rollout"].ndim != 3:
        raise ValueError(
            f"{path} has no rollout of shape (bands, channels, time); give the demo_prediction.pt of a training run."
        )
    return held


if __name__ == "__main__":
    sys.exit(main())
