"""The synthetic data set in the seed's npz layout, from the command line.

The same arguments write the same numbers. It is a stand-in: phases are fixed per channel, so the next band is known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``ROOT/train`` and ``ROOT/val``; give 0, or 2 with one line of reason."""
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
        print("error: samples, channels and time steps must be 1 or more; nothing was written.", file=sys.stderr)
        return 2
    try:
        root = write_dummy_dataset(
            args.root, args.train_samples, args.val_samples, args.channels, args.time_steps, args.sfreq, seed=args.seed
        )
    except (ValueError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.train_samples} + {args.val_samples} samples to {root}: {STAND_IN}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
