"""Train Band-VAR's tokenizer and its next-scale transformer on a folder of npz windows, by VAR's flags.

One process, or several that torchrun starts. ``ar-ckpt-last.pth`` is the last complete epoch, ``ar-ckpt-best.pth`` that
with the lowest validation error, ``log.txt`` has one line an epoch; TensorBoard's files are written where it is
installed. The same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbkit.neuro.bandvar.tokens.command.flags import PRECISIONS, check, parser, refused_in_words, settings_of


def main(argv: Sequence[str] | None = None) -> int:
    """Train and return 0, or print one line with the error (wrong usage or input) and return 2."""
    given = list(sys.argv[1:] if argv is None else argv)
    if refused := refused_in_words(given):
        print(f"error: {refused}", file=sys.stderr)
        return 2
    args = parser().parse_args(given)
    try:
        check(args, _world()[0])
        train(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def train(args: argparse.Namespace) -> dict[str, float]:
    """Train with the given flags and return the validation scores of the last epoch.

    Raises
    ------
    ValueError
        If the flags, the data or an earlier run in the folder do not fit each other.
    """
    import lightning

    from nbkit.neuro.bandvar.data import BandData
    from nbkit.neuro.bandvar.tokens.command.epochs import loader
    from nbkit.neuro.bandvar.tokens.generator_training import GeneratorTraining
    from nbkit.neuro.bandvar.tokens.token_data import TokenData

    world, rank, _ = _world()
    accelerator = _accelerator(args)
    lightning.seed_everything(args.seed, verbose=False)
    per = args.bs // (world * args.ac)
    windows = BandData(args.data_path, per, seed=args.seed)
    coder = _tokenizer(args, windows, accelerator)
    data = TokenData(windows, coder.tokenizer, per)
    batches = loader(data.train, per, world, rank, args.seed, args.workers)
    settings = settings_of(args, len(batches), world)
    _check_same(args.local_out_dir_path / "ar-ckpt-last.pth", "band_generator", asdict(settings))
    module = GeneratorTraining.for_data(settings, coder, data)
    if rank == 0:
        count = sum(weight.numel() for weight in module.model.parameters())
        print(
            f"{len(data.train)} training and {len(data.val)} validation windows of {sum(coder.tokenizer.lengths)} "
            f"tokens, {count:,} weights, {settings.max_steps} steps of {args.bs} windows on {world} processes, "
            f"{accelerator}, {PRECISIONS[args.fp16]}",
            flush=True,
        )
    return _fit(args, module, batches, data.val_dataloader(), args.ep, "ar-ckpt", "val_nll", accelerator)


def _tokenizer(args: argparse.Namespace, windows: Any, accelerator: str) -> Any:
    """Return a trained tokenizer: that of --tokenizer, or one that is trained here first."""
    from nbkit.neuro.bandvar.tokens.command.epochs import loader
    from nbkit.neuro.bandvar.tokens.tokenizer_training import TokenizerSettings, TokenizerTraining

    if args.tokenizer is not None:
        return TokenizerTraining.from_checkpoint(args.tokenizer)
    preset = getattr(TokenizerSettings, args.tokenizer_preset, None)
    if preset is None or args.tokenizer_preset.startswith("_"):
        raise ValueError(
            f"--tokenizer_preset={args.tokenizer_preset} is unknown; give free, small_codebook, demo or smoke."
        )
    world, rank, _ = _world()
    settings, path = preset(), args.local_out_dir_path / "tokenizer-best.pth"
    batches = loader(windows.train_dataset, settings.batch_size, world, rank, args.seed, args.workers)
    settings = replace(settings, max_steps=args.tokenizer_ep * len(batches))
    _check_same(args.local_out_dir_path / "tokenizer-last.pth", "band_tokenizer", asdict(settings))
    module = TokenizerTraining.for_data(settings, windows)
    _fit(args, module, batches, windows.val_dataloader(), args.tokenizer_ep, "tokenizer", "val_bands", accelerator)
    return TokenizerTraining.from_checkpoint(path)


def _fit(
    args: argparse.Namespace, module: Any, batches: Any, val: Any, epochs: int, name: str, monitor: str, where: str
) -> dict[str, float]:
    """Train from the last complete epoch in the folder, and return the last validation scores."""
    import lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    from nbkit.ground.quiet import quiet_lightning
    from nbkit.neuro.bandvar.tokens.command.epochs import AtomicIO, EachEpoch

    world, _, local = _world()
    folder: Path = args.local_out_dir_path
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / f"{name}-last.pth"
    with quiet_lightning("num_workers", "does not have many workers", "sync_dist", "log_every_n_steps"):
        trainer = lightning.Trainer(
            accelerator=where,
            devices=local,
            num_nodes=max(1, world // local),
            strategy="ddp" if world > 1 else "auto",
            max_epochs=epochs,
            accumulate_grad_batches=args.ac if name == "ar-ckpt" else 1,
            precision=PRECISIONS[args.fp16],
            plugins=[AtomicIO()],
            callbacks=[EachEpoch(folder, name, monitor, args.seed)],
            logger=TensorBoardLogger(folder, name="", version="") if find_spec("tensorboard") else False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        if last.is_file() and trainer.is_global_zero:
            print(f"{name}: goes on from {last}", flush=True)
        trainer.fit(module, batches, val, ckpt_path=str(last) if last.is_file() else None)
        trainer.strategy.barrier()  # what the others read next is complete
    if trainer.is_global_zero:
        print(f"{name} is complete: {trainer.current_epoch} of {epochs} epochs, in {folder}", flush=True)
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def _check_same(path: Path, kind: str, settings: dict[str, Any]) -> None:
    """Raise if the folder holds a training with other settings, instead of going on with a mixture."""
    from nbkit.neuro.training.weights import held

    if not path.is_file():
        return
    earlier = held(path, kind)[0]["settings"]
    other = [f"{key} {earlier.get(key)} (now {value})" for key, value in settings.items() if earlier.get(key) != value]
    if other:
        raise ValueError(
            f"{path} is of a training with other settings: {', '.join(other)}. Give its flags again to go on, or "
            "another --local_out_dir_path to train anew; nothing was changed."
        )


def _accelerator(args: argparse.Namespace) -> str:
    """Return where to train, gpu or cpu."""
    import torch

    wanted = (args.device or "").split(":")[0]
    if wanted not in ("", "cpu", "cuda", "gpu"):
        raise ValueError(f"--device={args.device} is not a device; give cpu or cuda.")
    there = torch.cuda.is_available()
    if wanted in ("cuda", "gpu") and not there:
        raise ValueError("--device=cuda was requested, but torch finds no CUDA device. Give --device=cpu.")
    where = "gpu" if there and wanted != "cpu" else "cpu"
    if where == "cpu" and args.fp16 == 1:
        raise ValueError("--fp16=1 needs a GPU, and this is the CPU. Give --fp16=0, or --fp16=2 for bf16.")
    return where


def _world() -> tuple[int, int, int]:
    """Return the number of processes, the number of this one, and how many run on this machine, by torchrun."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    return size, int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", size))


if __name__ == "__main__":
    sys.exit(main())
