"""The page of results: a run that is killed and continued writes the same bytes as one that nobody killed.

Two small notebooks stand in for the phases: one of items, and one that scores what the first left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from nbkit.runtime.errors import UsageError
from nbkit.tools.results.listing import read_plan
from nbkit.tools.results.making import make_results
from nbkit.tools.results.running import Folders, ready

ITEMS = """
import numpy as np
import time
for item in session.work([{"key": f"part-{i}"} for i in range(12)]):
    with item:
        time.sleep(0.1)
        item.save(x=np.random.default_rng(int(item.key[5:])).normal(SHIFT, 1, size=40))
"""
SCORES = """
import numpy as np
from nbkit.neuro.training.scores.paired import beside
x = np.array([np.load(path)["x"].mean() for path in session.inputs("parts")])
session.note(data="made up: random numbers", weights="random")
session.result("mean", float(x.mean()), unit="1", baseline=0.0, baseline_is="nothing", over="12 parts",
               **beside(x, {"zero": 0 * x, "itself": x}))
"""
LIST = """
title = "Results of a test"
[[system]]
name = "Means"
about = "Of random numbers."
[[data]]
folder = "there"
about = "Nothing, in a folder."
[[data]]
folder = "elsewhere"
about = "Where nobody has it (https://example.org)."
[[run]]
name = "parts"
notebook = "{folder}/80_parts.ipynb"
store = "means"
data = ["there"]
parameters = {{ SHIFT = 0.4 }}
[[run]]
name = "scores"
notebook = "{folder}/81_scores.ipynb"
store = "means"
system = "Means"
task = "The mean of 12 parts"
scores = {{ mean = "the mean" }}
[[run]]
name = "lacking"
notebook = "{folder}/80_parts.ipynb"
store = "other"
data = ["elsewhere"]
system = "Means"
task = "Something with data that are not there"
"""


@pytest.fixture
def plan_file(tmp_path) -> Path:
    """Write two notebooks, a list of them and a folder of data, and return the list."""
    for name, slug, work in (("80_parts", "parts", ITEMS), ("81_scores", "scores", SCORES)):
        book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        parameters = nbformat.v4.new_code_cell("STORE = None\nSHIFT = 0.0", metadata={"tags": ["parameters"]})
        opened = f'import nbkit\nsession = nbkit.open_session("{slug}", store=STORE)\n'
        cells = [parameters, nbformat.v4.new_code_cell(opened), nbformat.v4.new_code_cell(work)]
        book.cells = [*cells, nbformat.v4.new_code_cell("summary = session.close()")]
        nbformat.write(book, tmp_path / f"{name}.ipynb")
    (tmp_path / "data" / "there").mkdir(parents=True)
    path = tmp_path / "list.toml"
    path.write_text(LIST.format(folder=tmp_path))
    return path


def begin(plan_file: Path, name: str) -> subprocess.Popen[str]:
    folder, root = plan_file.parent, Path(__file__).parents[3]
    places = ["--data", folder / "data", "--store", folder / name, "--docs", folder / f"{name}-docs"]
    command = [sys.executable, "-m", "nbkit", "results", *map(str, places), "--list", str(plan_file)]
    variables = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.kill
@pytest.mark.timeout(300)  # a guard against hanging; some 25 s on a quiet machine
def test_a_killed_run_goes_on_and_writes_the_same_bytes(plan_file, tmp_path):
    calm, killed = begin(plan_file, "calm"), begin(plan_file, "killed")
    while not list(tmp_path.glob("killed/means/parts/items/*.npz")) and killed.poll() is None:
        time.sleep(0.02)
    children = psutil.Process(killed.pid).children(recursive=True)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and children, "it was through before it could be killed"
    assert psutil.wait_procs(children, timeout=30)[1] == [], "sessions went on after their parent had died"
    said, _ = calm.communicate()
    assert calm.returncode == 3 and "Missing" in said and "elsewhere" in said, said
    again = begin(plan_file, "killed")
    said, _ = again.communicate()
    assert again.returncode == 3, said
    pages = [(tmp_path / f"{name}-docs" / "results.md").read_bytes() for name in ("calm", "killed")]
    pictures = [(tmp_path / f"{name}-docs" / "figures/results.png").read_bytes() for name in ("calm", "killed")]
    assert pages[0] == pages[1] and pictures[0] == pictures[1] and b"\x89PNG" in pictures[0]
    check_page(pages[0].decode(), tmp_path)
    usage = (tmp_path / "killed-docs/results-run.tsv").read_text().splitlines()
    assert usage[1].split("\t")[2:4] == ["2", "1"], "two sessions of the parts, one of them killed"

    lines: list[str] = []  # nothing is left, so nothing is run
    places = [tmp_path / "data", tmp_path / "killed", tmp_path / "killed-docs", plan_file]
    assert make_results(*places, say=lines.append) == 3 and not any("a session of" in line for line in lines)
    assert (tmp_path / "killed-docs/results.md").read_bytes() == pages[0]
    plan_file.write_text(plan_file.read_text().replace("SHIFT = 0.4", "SHIFT = 0.5"))
    with pytest.raises(UsageError, match="parts was run with other parameters"):
        make_results(*places)


def check_page(page: str, folder: Path) -> None:
    """Compare the table's numbers with those that the phase stored, and its verdicts with what they must be."""
    stored = json.loads((folder / "calm/means/scores/results.json").read_text())["metrics"]["mean"]
    zero, itself = stored["rivals"]
    value = f"{stored['value']:.3f} [{stored['low']:.3f}, {stored['high']:.3f}]"
    assert f"| the mean | {value} | 12 parts | zero | 0.000 [0.000, 0.000] | +{value.partition(' ')[0]} [" in page
    assert zero["low"] == zero["high"] == 0 and f"p {max(zero['p'], 0.001):.3f} | better |".replace("p 0.001", "p") in (
        page.replace("p 0.001", "p").replace("p < 0.001", "p")
    )
    assert "| itself |" in page and "0.000 [0.000, 0.000], p 1.000 | not distinguishable |" in page
    assert "**made up**" in page and "**not pretrained**: random" in page
    assert "Not run. Missing: elsewhere: Where nobody has it (https://example.org)." in page
    assert str(folder) not in page.replace(f"`{folder}", ""), "no path of this machine, but of the test's notebooks"


def test_runs_of_one_store_follow_each_other_and_wait_for_those_that_they_name(plan_file):
    parts, scores, lacking = read_plan(plan_file).runs
    assert ready([parts, scores, lacking], []) == [parts, lacking]
    assert ready([scores, lacking], [parts]) == [lacking]


@pytest.mark.parametrize("before,after,said", [
    ("SHIFT", "SHIFTS", "SHIFTS"), ('store = "other"', 'stores = "other"', "stores"), ("[[run]]", "[[runs]]", "runs"),
    ('data = ["there"]', 'data = ["their"]', "their"), ('name = "scores"', 'name = "parts"', "twice"),
    ('system = "Means"', 'system = "Mean"', "Mean"), ("title = ", "title : ", "cannot be read"),
])  # fmt: skip
def test_a_mistake_in_the_list_is_named(plan_file, before, after, said):
    plan_file.write_text(plan_file.read_text().replace(before, after))
    with pytest.raises(UsageError, match=said):
        read_plan(plan_file)


def test_the_list_of_this_repository_is_whole(root):
    plan = read_plan(root / "manifests/results.toml")
    shown = {run.system for run in plan.runs if run.task}
    assert shown == {system.name for system in plan.systems}
    text = " ".join(str(run.given(data=Path("D"), lists=Path("L"), stores=Path("S"))) for run in plan.runs)
    assert "{" not in text.replace("{'", "").replace("{}", ""), "a folder was not put in"
    assert all(name in text for name in (one.folder for one in plan.data)), "data that no run reads"


def test_without_a_folder_of_data_it_says_which_sets_belong_there(plan_file, tmp_path):
    with pytest.raises(UsageError, match="there, elsewhere"):
        make_results(tmp_path / "nowhere", tmp_path / "store", tmp_path / "docs", plan_file)
    assert Folders(tmp_path, tmp_path).store(read_plan(plan_file).runs[0]) == tmp_path / "means"
