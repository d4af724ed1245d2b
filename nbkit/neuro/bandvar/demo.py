"""Band-VAR from start to end on synthetic data: create the data set, train, draw the rollout.

Each part is also available as a command of its own (make_dummy, train, plot_rollout).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nbkit.neuro.bandvar import make_dummy, plot_rollout, train


def main(argv: Sequence[str] | None = None) -> int:
    """Run the three commands in order and return the exit code of the first that fails, or 0."""
    p = argparse.ArgumentParser(prog="python -m nbkit.neuro.bandvar.demo", description=__doc__.splitlines()[0])
    p.add_argument("folder", type=Path, nargs="?", default=Path("runs/bandvar_demo"))
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--device", help="cpu or cuda:0; by default the first GPU, or the CPU if there is none")
    args = p.parse_args(argv)
    data, run = args.folder / "data", args.folder / "run"
    training = ["--data-root", str(data), "--checkpoint-dir", str(run), "--epochs", str(args.epochs)]
    training += ["--d-model", "64", "--num-layers", "2", "--lr", "1e-3", "--log-interval", "0"]
    if args.device:
        training += ["--device", args.device]
    drawing = [str(run / "demo_prediction.pt"), str(run / "rollout.png"), "--data-root", str(data)]
    drawing += ["--json-out", str(run / "rollout_metrics.json")]
    return make_dummy.main([str(data)]) or train.main(training) or plot_rollout.main(drawing)


if __name__ == "__main__":
    sys.exit(main())
