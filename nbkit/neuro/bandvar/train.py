"""Train Band-VAR on a folder of npz windows.

``best.pt`` has the weights with the lowest validation error so far and is replaced atomically. If ``--device`` names a
device that does not exist, the run ends with the reason. Without ``--device``, a machine without a GPU uses the CPU and
prints a warning.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbkit.ground.files import write_atomically

ARCHITECTURE = ("d_model", "nhead", "num_layers", "dropout")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    p = argparse.ArgumentParser(prog="python -m nbkit.neuro.bandvar.train", description=__doc__.splitlines()[0])
    p.add_argument("--data-root", type=Path, required=True, help="folder with train/*.npz and val/*.npz")
    p.add_argument("--epochs", type=int, default=60, help="passes over the training windows; 0 predicts only")
    p.add_argument("--batch-size", type=int, default=8)
    p.add_argument("--d-model", type=int, help="width (default 256; with --resume, that of the checkpoint)")
    p.add_argument("--nhead", type=int, help="attention heads (default 8; with --resume, those of the checkpoint)")
    p.add_argument("--num-layers", type=int, help="encoder layers (default 4; with --resume, those of the checkpoint)")
    p.add_argument("--dropout", type=float, help="dropout (default 0.1; with --resume, that of the checkpoint)")
    p.add_argument("--lr", type=float, default=1e-4)
    p.add_argument("--weight-decay", type=float, default=0.0)
    p.add_argument("--grad-clip", type=float, default=1.0, help="gradients are clipped to this norm")
    p.add_argument("--num-workers", type=int, default=0)
    p.add_argument("--log-interval", type=int, default=10, help="steps between printed lines; 0: one line per epoch")
    p.add_argument("--checkpoint-dir", type=Path, default=Path("runs/bandvar"))
    p.add_argument("--device", help="cpu or cuda:0; by default the first GPU, or the CPU if there is none")
    p.add_argument("--limit-train-samples", type=int)
    p.add_argument("--limit-val-samples", type=int)
    p.add_argument("--resume", type=Path, help="best.pt of an earlier run to continue from")
    p.add_argument("--seed", type=int, default=42)
    p.add_argument(
        "--residual",
        action="store_true",
        help="predict increments and add a stage embedding (not in the original code)",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Train and return 0, or print one line with the error (wrong usage or input) and return 2."""
    args = parser().parse_args(argv)
    try:
        _check(args)
        train(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def choose_device(wanted: str | None) -> str:
    """Return the name of the device to compute on.

    Parameters
    ----------
    wanted : str or None
        Requested device; None chooses the first GPU, or the CPU if there is none.

    Raises
    ------
    ValueError
        If the requested device does not exist.
    """
    import torch

    if wanted is None:
        if torch.cuda.is_available():
            print(f"Device: cuda:0 ({torch.cuda.get_device_name(0)}), the first GPU found")
            return "cuda:0"
        print("warning: device cpu, because torch finds no CUDA device; training will be slow", file=sys.stderr)
        return "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ValueError(f"--device {wanted!r} is not a device; give cpu, cuda or cuda:0.") from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(
            f"--device {wanted} was requested, but torch {torch.__version__} finds {count} CUDA devices. Nothing was "
            "trained or written. Leave --device out, or give --device cpu, to train on the CPU."
        )
    return str(device)


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train with the given arguments and write best.pt, demo_prediction.pt and metrics.json.

    Returns
    -------
    metrics : dict
        The content of metrics.json.
    """
    import lightning

    from nbkit.neuro.bandvar.data import BandData
    from nbkit.neuro.bandvar.epochs import KeepEpochs
    from nbkit.neuro.bandvar.training import BandVAR, evaluate
    from nbkit.neuro.signals.bands import band_names
    from nbkit.neuro.training.brief import fit_once, one_device

    device = choose_device(args.device)
    lightning.seed_everything(args.seed, verbose=False)
    data = BandData(
        args.data_root,
        args.batch_size,
        seed=args.seed,
        limit_train=args.limit_train_samples,
        limit_val=args.limit_val_samples,
        num_workers=args.num_workers,
    )
    data.setup()
    held = _read_checkpoint(args.resume) if args.resume else None
    settings = _settings(args, held)
    if held is None:
        module = BandVAR.for_data(settings, data)
    else:
        _check_fit(held, data, args.resume)
        module = BandVAR(settings, held["channels"], held["time_steps"], held["bands"], held["scale"])
        module.load_state_dict(held["state_dict"])
    print(
        f"(bands, channels, time) = {(data.train_dataset.num_stages, data.channels, data.time_steps)}, "
        f"{len(data.train_dataset)} training and {len(data.val_dataset)} validation windows, "
        f"{sum(p.numel() for p in module.model.parameters()):,} parameters"
    )
    if data.val_dataset.fallback:
        print(
            f"warning: {args.data_root} has no val/*.npz; validation uses all files, including the training windows",
            file=sys.stderr,
        )

    path = args.checkpoint_dir / "best.pt"
    epochs = KeepEpochs(path, held, args.log_interval)
    if held is not None or args.epochs == 0:
        # Computed again, because this run may validate on fewer windows than the run of the checkpoint.
        epochs.best = evaluate(module.to(device), data.val_dataloader())["val_mse_all"]
        epochs.keep(module, held["optimizer"] if held else module.configure_optimizers()["optimizer"].state_dict())
    if held is not None:
        print(f"Resumed {args.resume} at epoch {epochs.epoch}, step {epochs.step}: val_loss {epochs.best:.6g}")
    if args.epochs:
        fit_once(
            module, data.train_dataloader(), data.val_dataloader(), max_epochs=args.epochs, callbacks=[epochs],
            **one_device(device),
        )  # fmt: skip
    if not (math.isfinite(epochs.best) and path.exists()):
        raise ValueError(
            f"No epoch had a finite validation error (the last: {epochs.history[-1]['val_loss']}). No best.pt was "
            "written. Lower --lr, or check the unit of the data."
        )
    module.load_state_dict(_read_checkpoint(path)["state_dict"])
    metrics = _finish(
        module.to(device), data, epochs.history, epochs.best, device, path.parent, band_names(module.bands)
    )
    print(f"Wrote best.pt, demo_prediction.pt and metrics.json to {path.parent}")
    return metrics


def _finish(module, data, history, best, device, folder, names) -> dict[str, Any]:
    """Compute the rollouts and scores of the best model and write them."""
    import torch

    from nbkit.neuro.bandvar.rollout import autoregressive_inference, delta_conditioned_inference, rollout_table
    from nbkit.neuro.bandvar.training import evaluate

    stages = len(module.bands)
    sample = data.val_dataset[0][None]
    prediction = {
        "rollout": autoregressive_inference(module.model, stages, module.channels, module.time_steps, device),
        "delta_conditioned": delta_conditioned_inference(module.model, sample[:, 0], stages, device)[0],
        "bands": [list(band) for band in module.bands],
        "sfreq": data.sfreq,
    }
    write_atomically(folder / "demo_prediction.pt", lambda f: torch.save(prediction, f))
    metrics = {
        **module.description(),
        "sfreq": data.sfreq,
        "best_val_loss": best,
        "best": evaluate(module, data.val_dataloader()),
        "rollout": rollout_table(module.model, data.val_dataset.stack(64), names, device),
        "train_loss": [row["train_loss"] for row in history],
        "val_loss": [row["val_loss"] for row in history],
        "history": history,
    }
    write_atomically(
        folder / "metrics.json", lambda f: f.write((json.dumps(_finite(metrics), indent=1) + "\n").encode())
    )
    return metrics


def _check(args: argparse.Namespace) -> None:
    for name, least in (("epochs", 0), ("batch_size", 1), ("num_workers", 0), ("log_interval", 0)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name)} is too small; give {least} or more.")
    for name in ("lr", "grad_clip"):
        if not (math.isfinite(getattr(args, name)) and getattr(args, name) > 0):
            raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name)} must be above 0.")


def _settings(args: argparse.Namespace, held: dict[str, Any] | None):
    """Return the settings of the arguments, with the architecture of the checkpoint if one is resumed."""
    from nbkit.neuro.bandvar.training import BandVARSettings

    if held is None:
        base = BandVARSettings(residual=args.residual, stage_embedding=args.residual)
    else:
        base = BandVARSettings(**held["settings"])
    given = {name: getattr(args, name) for name in ARCHITECTURE if getattr(args, name) is not None}
    if held is not None:
        other = {name: value for name, value in given.items() if name != "dropout" and value != getattr(base, name)}
        if other or (args.residual and not base.residual):
            told = [f"--{n.replace('_', '-')} {v} (it has {getattr(base, n)})" for n, v in other.items()]
            raise ValueError(
                f"{args.resume} has another architecture than the arguments: {', '.join(told) or '--residual'}. Leave "
                "these arguments out, or leave --resume out to train from the start."
            )
    return replace(
        base, **given, lr=args.lr, weight_decay=args.weight_decay, grad_clip=args.grad_clip, batch_size=args.batch_size
    )


def _check_fit(held: dict[str, Any], data: Any, path: Path) -> None:
    mine = (len(held["bands"]), held["channels"], held["time_steps"])
    its = (data.train_dataset.num_stages, data.channels, data.time_steps)
    if mine != its:
        raise ValueError(
            f"{path} was trained on (bands, channels, time) = {mine}, but this data set has {its}. Give the data set "
            "of that run, or leave --resume out to train from the start."
        )


def _read_checkpoint(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    if not path.is_file():
        raise FileNotFoundError(f"--resume {path} does not exist; give the best.pt of an earlier run.")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}); it has {path.stat().st_size} bytes on disk and was not "
            "changed. Give another checkpoint, or leave --resume out to train from the start."
        ) from error
    if not isinstance(held, dict) or "state_dict" not in held or "optimizer" not in held:
        raise ValueError(
            f"{path} is not a best.pt of this command: it lacks the weights or the optimizer state. Give the best.pt "
            "of an earlier run, or leave --resume out."
        )
    return held


def _finite(value: Any) -> Any:
    """Replace infinite numbers by None: JSON has no infinity, and the SNR of an exact rollout is infinite."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
