"""Write a synthetic data set in the original Band-VAR npz layout.

The same arguments write the same numbers. The data are a stand-in for recordings: the phases are fixed for each
channel, so the next band can be predicted exactly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``ROOT/train`` and ``ROOT/val`` and return 0, or print one line with the error and return 2."""
    p = argparse.ArgumentParser(prog="python -m nbkit.neuro.bandvar.make_dummy", description=__doc__.splitlines()[0])
    p.add_argument("root", type=Path)
    p.add_argument("--train-samples", type=int, default=64)
    p.add_argument("--val-samples", type=int, default=16)
    p.add_argument("--channels", type=int, default=32)
    p.add_argument("--time-steps", type=int, default=128)
    p.add_argument("--sfreq", type=float, default=100.0, help="Hz")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(argv)

    from nbkit.neuro.signals.recordings.synthetic import STAND_IN, write_dummy_dataset

    if min(args.train_samples, args.val_samples, args.channels, args.time_steps) < 1:
        print(
            f"error: --train-samples {args.train_samples}, --val-samples {args.val_samples}, --channels "
            f"{args.channels} and --time-steps {args.time_steps} must each be 1 or more; nothing was written.",
            file=sys.stderr,
        )
        return 2
    try:
        root = write_dummy_dataset(
            args.root, args.train_samples, args.val_samples, args.channels, args.time_steps, args.sfreq, seed=args.seed
        )
    except (ValueError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Wrote {args.train_samples} training and {args.val_samples} validation samples to {root}: {STAND_IN}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
