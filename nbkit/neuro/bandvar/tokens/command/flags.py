"""The flags of the original VAR command line: which are taken, what they mean here, and why others are refused."""

from __future__ import annotations

import argparse
from pathlib import Path

from nbkit.neuro.bandvar.tokens.generator_training import GeneratorSettings
from nbkit.neuro.training.rates import SHAPES

PRECISIONS = {0: "32-true", 1: "16-mixed", 2: "bf16-mixed"}
_IMAGES = "it is about images; windows have the size that 10_eeg_windows or your npz files gave them"
_KERNELS = "it chooses kernels of other libraries; torch's attention picks its own"
REFUSED = {
    "pn": "the token maps are the bands of the windows; cut windows with other bands",
    "patch_size": _IMAGES, "patch_nums": _IMAGES, "data_load_reso": _IMAGES, "mid_reso": _IMAGES, "hflip": _IMAGES,
    "afuse": _KERNELS, "fuse": _KERNELS, "vfast": "the module is not compiled", "tfast": "the module is not compiled",
    "ini": "the first weights are those of the paper", "hd": "the first weights of the head are those of the paper",
    "ls": "the loss has no label smoothing", "tf32": "set torch.backends in your own code",
    "local_debug": "use --ep=1 and few files", "vae_ckpt": "give the tokenizer by --tokenizer",
}  # fmt: skip


def truth(text: str) -> bool:
    """Read 0, 1, true or false."""
    if text.lower() in ("1", "true"):
        return True
    if text.lower() in ("0", "false"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither 0 nor 1")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of the command."""
    p = argparse.ArgumentParser(
        prog="python -m nbkit.neuro.bandvar.tokens.train",
        description="Train Band-VAR's tokenizer and its next-scale transformer, by the flags of VAR's train.py.",
        epilog="On several devices: torchrun --nproc_per_node=2 -m nbkit.neuro.bandvar.tokens.train ... Run the same "
        "command again to go on after a stop.",
    )
    p.add_argument("--data_path", "--data-path", type=Path, required=True, help="folder with train/*.npz and val/*.npz")
    p.add_argument("--local_out_dir_path", type=Path, default=Path("local_output"), help="where the outputs go")
    p.add_argument("--tokenizer", type=Path, help="checkpoint of a tokenizer; without it, one is trained first")
    p.add_argument("--tokenizer_preset", default="free", help="free, small_codebook, demo or smoke")
    p.add_argument("--tokenizer_ep", type=int, default=20, help="epochs of the tokenizer")
    p.add_argument("--depth", type=int, default=16, help="blocks and heads; the width is 64 times as large")
    p.add_argument("--bs", type=int, default=768, help="windows for each optimizer step, over all processes")
    p.add_argument("--ep", type=int, default=250, help="epochs")
    p.add_argument("--fp16", type=int, default=0, choices=sorted(PRECISIONS), help="1: fp16, 2: bf16, 0: neither")
    p.add_argument("--aln", type=float, default=0.5, help="factor on the first AdaLN scales and shifts")
    p.add_argument("--alng", type=float, default=1e-5, help="factor on the first AdaLN gates")
    p.add_argument("--saln", type=truth, default=False, help="one AdaLN layer for all blocks")
    p.add_argument("--anorm", type=truth, default=True, help="normalise queries and keys")
    p.add_argument("--opt", default="adamw", choices=("adamw", "lamb"))
    p.add_argument("--tblr", type=float, default=1e-4, help="highest learning rate for 256 windows a step; scaled")
    p.add_argument("--tlr", type=float, help="highest learning rate; without it, tblr * bs / 256")
    p.add_argument("--twd", type=float, default=0.05, help="weight decay at the first step")
    p.add_argument("--twde", type=float, default=0.0, help="weight decay at the last step; 0: that of the first")
    p.add_argument("--tclip", type=float, default=2.0, help="largest norm of the gradients; 0: any")
    p.add_argument("--ac", type=int, default=1, help="batches whose gradients are added up for a step")
    p.add_argument("--wp", type=float, default=0.0, help="epochs of warm-up; 0: a fiftieth of all")
    p.add_argument("--wpe", type=float, default=0.01, help="last over highest learning rate; it is not a warm-up")
    p.add_argument("--sche", default="lin0", choices=SHAPES, help="shape of the learning rate")
    p.add_argument("--pg", type=float, default=0.0, help="progressive: share of the steps until all scales are trained")
    p.add_argument("--pg0", type=int, default=0, help="last scale that is trained from the start, from 0")
    p.add_argument("--pgwp", type=float, default=0.0, help="epochs in which a new scale gets its weight")
    p.add_argument("--seed", type=int, default=2025)
    p.add_argument("--workers", type=int, default=0, help="processes that load data, for each process that trains")
    p.add_argument("--device", help="cpu or cuda; by default the GPUs, or the CPU if there are none")
    return p


def refused_in_words(argv: list[str]) -> str:
    """Return why a flag of VAR's train.py is not taken, for the first one in the arguments; "" if all are."""
    for word in argv:
        name = word.split("=")[0].lstrip("-")
        if word.startswith("--") and name in REFUSED:
            return f"--{name} is a flag of VAR's train.py that is not taken here: {REFUSED[name]}."
    return ""


def check(args: argparse.Namespace, world: int) -> None:
    """Raise a ValueError, in words, for values that cannot be."""
    for name, least in (("depth", 1), ("bs", 1), ("ep", 1), ("ac", 1), ("tokenizer_ep", 1), ("workers", 0), ("pg0", 0)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name}={getattr(args, name)} is too small; give {least} or more.")
    for name in ("wp", "wpe", "pg", "pgwp", "twd", "twde", "tclip"):
        if not getattr(args, name) >= 0:
            raise ValueError(f"--{name}={getattr(args, name)} is negative; give 0 or more.")
    if args.pg > 1:
        raise ValueError(f"--pg={args.pg} is a share of the steps; give 0 to 1.")
    if args.bs % (world * args.ac):
        raise ValueError(
            f"--bs={args.bs} windows a step cannot be divided among {world} processes with --ac={args.ac} batches "
            f"each. Give a multiple of {world * args.ac}."
        )


def settings_of(args: argparse.Namespace, batches: int, world: int) -> GeneratorSettings:
    """Return the settings that the flags stand for.

    Parameters
    ----------
    args : Namespace
    batches : int
        Batches of an epoch, for each process.
    world : int
        Number of processes.
    """
    steps = max(1, -(-batches // args.ac))  # of an epoch; Lightning steps at its last batch, too
    warmup = (args.wp or args.ep / 50) * steps
    return GeneratorSettings(
        depth=args.depth,
        drop_path=0.1 * args.depth / 24,
        shared_modulation=args.saln,
        modulation_init=args.aln,
        gate_init=args.alng,
        normed_attention=args.anorm,
        progressive_until=args.pg,
        progressive_first=args.pg0 + 1,
        progressive_rise=round((args.pgwp or args.ep / 300) * steps),
        lr_at_256=args.tblr if args.tlr is None else args.tlr * 256 / args.bs,
        weight_decay=args.twd,
        final_weight_decay=args.twde,
        grad_clip=args.tclip,
        warmup_steps=min(round(warmup), args.ep * steps - 1),
        final_lr_ratio=args.wpe,
        optimizer=args.opt,
        schedule=args.sche,
        batch_size=args.bs // (world * args.ac),
        max_steps=args.ep * steps,
    )
