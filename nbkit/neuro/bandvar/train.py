"""Band-VAR on the seed's npz layout, from the command line.

``best.pt`` is the weights with the lowest validation error seen, replaced whole or not at all. A device that was asked
for and is not there ends the run with the reason; only an unasked choice falls to the CPU, and says so.
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
    """Return the command's arguments."""
    p = argparse.ArgumentParser(prog="python -m nbkit.neuro.bandvar.train", description=__doc__.splitlines()[0])
    p.add_argument("--data-root", type=Path, required=True, help="folder with train/*.npz and val/*.npz")
    p.add_argument("--epochs", type=int, default=60, help="passes over the training windows; 0 only predicts")
    p.add_argument("--batch-size", type=int, default=8)
    p.add_argument("--d-model", type=int, help="width (256; with --resume the checkpoint's)")
    p.add_argument("--nhead", type=int, help="attention heads (8; with --resume the checkpoint's)")
    p.add_argument("--num-layers", type=int, help="encoder layers (4; with --resume the checkpoint's)")
    p.add_argument("--dropout", type=float, help="0.1; with --resume the checkpoint's")
    p.add_argument("--lr", type=float, default=1e-4)
    p.add_argument("--weight-decay", type=float, default=0.0)
    p.add_argument("--grad-clip", type=float, default=1.0, help="largest norm of the gradient")
    p.add_argument("--num-workers", type=int, default=0)
    p.add_argument("--log-interval", type=int, default=10, help="steps between printed lines; 0 prints epochs only")
    p.add_argument("--checkpoint-dir", type=Path, default=Path("runs/bandvar"))
    p.add_argument("--device", help="cpu or cuda:0; chosen where not given")
    p.add_argument("--limit-train-samples", type=int)
    p.add_argument("--limit-val-samples", type=int)
    p.add_argument("--resume", type=Path, help="a best.pt to go on from")
    p.add_argument("--seed", type=int, default=42)
    p.add_argument(
        "--residual", action="store_true", help="predict increments, and tell the stage; not the seed's form"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Train; give 0, or 2 with one line of reason for wrong usage or input."""
    args = parser().parse_args(argv)
    try:
        _check(args)
        train(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def choose_device(wanted: str | None) -> str:
    """Return the device to compute on.

    Raises
    ------
    ValueError
        If one was asked for and is not there.
    """
    import torch

    if wanted is None:
        if torch.cuda.is_available():
            print(f"device: cuda:0 ({torch.cuda.get_device_name(0)}), the first one found")
            return "cuda:0"
        print("device: cpu, because torch finds no CUDA device; training will be slow", file=sys.stderr)
        return "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ValueError(f"--device {wanted!r} is no device; give cpu, cuda or cuda:0.") from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(
            f"--device {wanted} was asked for, but torch {torch.__version__} finds {count} CUDA devices here. Nothing "
            "was trained. Leave --device out, or give --device cpu, if a CPU will do."
        )
    return str(device)


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train as the arguments say and write best.pt, demo_prediction.pt and metrics.json."""
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
            f"notice: {args.data_root} has no val/*.npz; the whole root is validated on, training windows among it",
            file=sys.stderr,
        )

    path = args.checkpoint_dir / "best.pt"
    epochs = KeepEpochs(path, held, args.log_interval)
    if held is not None or args.epochs == 0:
        # Measured again: the bar must hold for the windows of this run, which may be fewer.
        epochs.best = evaluate(module.to(device), data.val_dataloader())["val_mse_all"]
        epochs.keep(module, held["optimizer"] if held else module.configure_optimizers()["optimizer"].state_dict())
    if held is not None:
        print(f"resumed {args.resume} at epoch {epochs.epoch}, step {epochs.step}: val_loss {epochs.best:.6g}")
    if args.epochs:
        fit_once(
            module, data.train_dataloader(), data.val_dataloader(), max_epochs=args.epochs, callbacks=[epochs],
            **one_device(device),
        )  # fmt: skip
    if not (math.isfinite(epochs.best) and path.exists()):
        raise ValueError(
            f"No epoch had a finite validation error (the last: {epochs.history[-1]['val_loss']}). No best.pt was "
            "written; lower --lr, or look at the data's unit."
        )
    module.load_state_dict(_read_checkpoint(path)["state_dict"])
    metrics = _finish(
        module.to(device), data, epochs.history, epochs.best, device, path.parent, band_names(module.bands)
    )
    print(f"wrote best.pt, demo_prediction.pt and metrics.json to {path.parent}")
    return metrics


def _finish(module, data, history, best, device, folder, names) -> dict[str, Any]:
    """Roll the best model out and write what a person looks at."""
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
    """The seed's settings, the checkpoint's architecture where one is resumed."""
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
                f"{args.resume} is another model: {', '.join(told) or '--residual'}. Leave these out, or train anew "
                "without --resume."
            )
    return replace(
        base, **given, lr=args.lr, weight_decay=args.weight_decay, grad_clip=args.grad_clip, batch_size=args.batch_size
    )


def _check_fit(held: dict[str, Any], data: Any, path: Path) -> None:
    mine = (len(held["bands"]), held["channels"], held["time_steps"])
    its = (data.train_dataset.num_stages, data.channels, data.time_steps)
    if mine != its:
        raise ValueError(f"{path} was trained on (bands, channels, time) = {mine}, this data set has {its}.")


def _read_checkpoint(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    if not path.is_file():
        raise FileNotFoundError(f"--resume {path} is not there; give the best.pt of an earlier run.")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}); it has {path.stat().st_size} bytes and was left as it "
            "is. Give another checkpoint, or train anew."
        ) from error
    if not isinstance(held, dict) or "state_dict" not in held or "optimizer" not in held:
        raise ValueError(f"{path} is not a best.pt of this command: it holds no weights and optimizer.")
    return held


def _finite(value: Any) -> Any:
    """JSON knows no infinity: an exact rollout's SNR becomes null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
