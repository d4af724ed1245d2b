"""The tests; `ROOT` is the repository's root, wherever a test lies."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
