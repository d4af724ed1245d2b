"""``python -m nbkit``: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and end with its exit code."""
    if (
        sys.argv[1:2] == ["install"] and "--help" not in sys.argv
    ):  # in an image that may lack what the command line itself needs
        from nbkit.tools.commands.installing import main as install

        sys.exit(install(sys.argv[2:]))
    from nbkit.tools.commands.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
