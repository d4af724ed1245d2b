"""The owner stands in one line; `make badges` carries it everywhere, and without one nothing pretends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.tools.commands import badges
from nbkit.tools.commands.badges import badge_row, write_owner
from nbkit.tools.phases import check_owner, find_phase, load_owner, load_phases

PLACES = ("manifests", "colab", "kaggle", "notebooks")
PLACEHOLDERS = re.compile(r"\bOWNER\b(?!=)|KAGGLE_USERNAME")  # `OWNER=account` is the command that names one


@pytest.fixture
def copy(root, tmp_path) -> Path:
    """Return a copy of the tree with all that `make badges` needs, and no owner."""
    for name in (*PLACES, "nbkit"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "Makefile", tmp_path)
    path = tmp_path / "manifests/phases.toml"
    path.write_text(re.sub(r'^owner = ".*"', 'owner = ""', path.read_text("utf-8"), flags=re.MULTILINE), "utf-8")
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `make badges` with a bare Python, as on a machine where nothing was installed yet."""
    command = ["make", "--no-print-directory", "badges", f"PYTHON={sys.executable} -S", *arguments]
    left_out = ("PYTHONPATH", "MAKEFLAGS", "OWNER")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def texts(folder: Path) -> dict[str, str]:
    files = [path for place in PLACES for path in sorted((folder / place).rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in files}
    # the page that explains the word is no place where it stands for a name
    return {name: path.read_text("utf-8") for name, path in names.items() if name != "kaggle/README.md"}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")
def test_make_badges_writes_the_owner_everywhere_and_once(copy):
    before, phases = texts(copy), load_phases()
    done = make(copy, "OWNER=some-one")
    assert done.returncode == 0, done.stderr
    after = texts(copy)
    table = after["colab/README.md"]
    for phase in phases:
        address = f"https://colab.research.google.com/github/some-one/nbkit/blob/main/notebooks/{phase.notebook}"
        assert table.count(f"]({address})") == 1
        metadata = json.loads(after[f"kaggle/{phase.kaggle_folder}/kernel-metadata.json"])
        assert metadata["id"] == f"some-one/nbkit-{phase.kaggle_folder}"
    assert table.count("colab.research.google.com/github/") == table.count("/some-one/") == len(phases)
    assert tomllib.loads(after["manifests/phases.toml"])["owner"] == "some-one"
    assert {name: found for name, text in after.items() if (found := PLACEHOLDERS.findall(text))} == {}
    changed = {name for name in after if after[name] != before[name]}
    assert done.stdout.splitlines()[0] == f"The owner is some-one: {len(changed)} files written."
    assert {line.strip() for line in done.stdout.splitlines()[1:]} == changed
    for again in (make(copy, "OWNER=some-one"), make(copy)):
        assert again.returncode == 0 and again.stdout == "The owner is some-one: 0 files written.\n"
    assert texts(copy) == after
    assert make(copy, "OWNER=other").returncode == 0
    assert "some-one" not in "".join(texts(copy).values()), "the owner can be changed"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")
def test_without_an_owner_nothing_is_written_and_the_next_step_is_said(copy):
    before = texts(copy)
    wrong = {"": "No owner is set. Name the GitHub account", "a b": "'a b' is not the name of a GitHub account"}
    for owner, words in wrong.items():
        done = make(copy, f"OWNER={owner}")
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert texts(copy) == before


def test_the_tree_names_one_owner_or_links_to_what_is_there(root):
    """As committed: either all badges are of the one owner, or the table has none and its links lead to files."""
    owner, table = load_owner(), (root / "colab/README.md").read_text("utf-8")
    for phase in load_phases():
        assert table.count(badge_row(phase, owner)) == 1
    for path in (root / "notebooks").glob("*.ipynb"):
        assert not re.search(r"\bOWNER\b|github\.com/[^/]+/nbkit", path.read_text("utf-8")), path.name
    if not owner:
        links = re.findall(r"\]\((\.\./[^)]+)\)", table)
        assert len(links) == len(load_phases()) and all((root / "colab" / link).is_file() for link in links)
        assert "/github/" not in table and "make badges OWNER=" in table


@pytest.mark.parametrize("name", ["", "a", "mary-smith", "A1", "x" * 39])
def test_names_of_accounts(name):
    assert check_owner(name) == name


@pytest.mark.parametrize("name", ["-a", "a-", "a--b", "a b", "a/b", "ä", "x" * 40, 'a"', "a\n", 3, None])
def test_what_is_no_account_is_refused(name):
    with pytest.raises(UsageError, match="not the name of a GitHub account.*Nothing was written"):
        check_owner(name)


def test_an_installed_nbkit_is_not_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(badges, "phases_file", lambda: tmp_path / "manifests/phases.toml")
    with pytest.raises(UsageError, match="is not a checkout of nbkit"):
        write_owner("mary")


def test_a_row_has_a_badge_only_for_an_owner():
    phase = find_phase("eeg_windows")
    assert "colab" not in badge_row(phase, "") and "/github/mary/nbkit/" in badge_row(phase, "mary")
