"""Every command of the README and of docs/ is run, or said here why only so much of it is; others fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nbkit.tools.commands import cli
from nbkit.tools.notebooks import find_notebook
from nbkit.tools.parameters import check_parameters, notebook_parameters, parse_parameters
from nbkit.tools.phases import load_phases
from tests.readme import as_run_here, blocks, commands, documents, recipe
from tests.runtime.store.drive import drive_loopback
from tests.runtime.store.drive.drive_state import CLIENT, CLIENT_SECRET
from tests.tools.kaggle.kaggle_loopback import Loopback, need_client

ENV = ".venv/bin/python -m "
NBKIT = f"{ENV}nbkit "
STORE = "--store gdrive://<folder id>"

# as they stand, in this order, in one empty folder; the exit codes that are allowed
RUN = {
    f"{NBKIT}notebooks my-notebooks": (0,),
    f"{NBKIT}check": (0,),
    f"{NBKIT}rehearse 00_start_here --store rehearsal-store --session 3s -p ITEM_S=0.2": (0,),
    f"{NBKIT}run 10_eeg_windows --store my-store -p SOURCE=synthetic -p RUNS=[1,2,3] -p WINDOW_S=2.0 "
    "-p STRIDE_S=2.0": (0,),
    f"{NBKIT}run 40_bandvar_train --store my-store --limit 60s -p PRESET=demo -p ACCELERATOR=cpu": (0, 3),
    f"{NBKIT}status --store my-store": (0,),
    f"{NBKIT}verify --store my-store": (0,),
    f"{NBKIT}report --store my-store": (0,),
    f"{NBKIT}rehearse 10_eeg_windows 40_bandvar_train --host kaggle --smoke --store kaggle-store --session 60s "
    "--kill work": (0,),
}  # fmt: skip
# the same with smaller numbers, so that a test has not to wait
SHORTER = {"ITEM_S=0.2": "ITEM_S=0.05 -p ITEMS=6", "--limit 60s": "--limit 12s",
           "10_eeg_windows 40_bandvar_train": "10_eeg_windows"}  # fmt: skip
# against servers on the loopback that answer as Google Drive and Kaggle do
LOOPBACK = [
    f"{NBKIT}login drive --client client_secret.json", f"{NBKIT}push eeg_windows {STORE}", f"{NBKIT}quota",
    f"{NBKIT}status {STORE}", f"{NBKIT}pull eeg_windows", f"{NBKIT}push dispatcher {STORE}",
    f"{NBKIT}dispatch --dry-run {STORE}",
]  # fmt: skip
# make says what it would do: they make an environment first, which is what a fresh clone is tried with
DRY = [
    "make results", "make demo", "make setup", "make test", "make quick", "make lint", "make bench", "make gpu",
    "make chain",
]  # fmt: skip
# a table of commands, or a word in a sentence: each has a help of that name
HELP = re.compile(r"(nbkit|python -m nbkit)( [a-z]+)*( SLUG| NOTEBOOK(\.\.\.)?)?")
# done there: by other tests, at sizes for seconds, and by every `make` on a fresh clone
ELSEWHERE = {
    f"{ENV}jupyterlab my-notebooks": "tests/test_jupyterlab.py",
    "python -m pip install -e .": "Makefile",
    f"{NBKIT}install decoding": "tests/tools/commands/test_installing.py",
    "python -m nbkit new --all": "tests/tools/commands/test_new_phase.py",
    f"{NBKIT}run 11_own_recordings --store own-store -p PATH=recordings -p SUBJECT_FROM='(P\\d+)_' "
    "-p LABELS=labels.tsv": "tests/test_own_recordings.py",
    f"{NBKIT}run 10_eeg_windows --store eeg-store -p SOURCE=folder -p PATH=recordings -p SUBJECT_FROM='(P\\d+)_' "
    "-p LABELS=labels.tsv": "tests/test_own_recordings.py",
    f'{NBKIT}run 70_decoding_frozen --store eeg-store -p TASK=windows -p N_SPLITS=0 -p MODELS=[\\"biot\\"] '
    "-p WEIGHTS=random -p ACCELERATOR=cpu": "tests/test_own_recordings.py",
    f"{NBKIT}run 49_spike_windows --store spike-store -p SOURCE=folder -p PATH=recordings -p BEHAVIOUR=position "
    "-p BIN_S=0.25 -p WINDOW_S=12.5": "tests/test_own_spikes.py",
    f"{NBKIT}run 50_neurofm_validate --store spike-store -p SOURCE=recordings -p PRESET=smoke "
    "-p ACCELERATOR=cpu": "tests/test_own_spikes.py",
    f"{NBKIT}push bandvar_train --host colab --gpu T4 --hours 20 {STORE}": "tests/tools/colab/test_looking.py",
    f"{NBKIT}log bandvar_train --host colab --follow": "tests/tools/colab/test_looking.py",
    f"{NBKIT}pull bandvar_train --host colab --files 'figures/*' {STORE}": "tests/tools/colab/test_looking.py",
    f"{NBKIT}dispatch --colab-hours 20 {STORE}": "tests/tools/colab/test_looking.py",
    f"{NBKIT}run 62_tribe_pretrain --smoke --store try-store": "tests/test_notebooks_form.py",
    f"{ENV}nbkit.neuro.bandvar.make_dummy data/eeg_dummy": "tests/neuro/bandvar/test_train.py",
    f"{ENV}nbkit.neuro.bandvar.train --data-root data/eeg_dummy --epochs 2 --checkpoint-dir runs/eeg_demo "
    "--device cpu": "tests/neuro/bandvar/test_train.py",
    f"{ENV}nbkit.neuro.bandvar.plot_rollout runs/eeg_demo/demo_prediction.pt runs/eeg_demo/rollout.png "
    "--data-root data/eeg_dummy --json-out runs/eeg_demo/rollout_metrics.json": "tests/neuro/bandvar/test_train.py",
    f"{ENV}nbkit.neuro.bandvar.make_dummy data/eeg_tokens --time-steps 120": "tests/neuro/bandvar/test_train.py",
    f"{ENV}nbkit.neuro.bandvar.tokens.train --data_path=data/eeg_tokens --depth=2 --bs=32 --ep=2 "
    "--tokenizer_preset=smoke --tokenizer_ep=2 --device=cpu": "tests/neuro/bandvar/tokens/command/test_train.py",
}


# their commands train for minutes to hours; that notebooks and parameters exist is tested
HOURS = ("docs/bandvar.md", "docs/eegmat.md", "docs/neurofm.md", "docs/tribe.md")
WRONG = "docs/mistakes.md"  # its commands are wrong on purpose: tests/tools/commands/test_mistakes.py makes them all
QUOTED = "docs/walks.md"  # its commands are those of the other pages, with the time that each took
MINUTES = "--store alice-store"  # reads a data set that a checkout has not


@pytest.fixture(scope="module")
def readme(root) -> str:
    return "\n".join(text for name, text in documents(root).items() if name not in (*HOURS, WRONG, QUOTED))


@pytest.fixture(scope="module")
def listed(root, readme) -> list[str]:
    """Return the README's commands without those that tests/test_new_system.py follows."""
    shown = [command for command in commands(readme) if MINUTES not in command]
    return [command for command in shown if command not in recipe(root).commands]


def class_of(command: str) -> str:
    """Return the class that a command is in; empty for none."""
    if command in RUN:
        return "run"
    if command in LOOPBACK:
        return "loopback"
    if command in ELSEWHERE:
        return "elsewhere"
    if any(re.fullmatch(rf"{known}( [A-Z]+=.*)?", command) for known in DRY):
        return "dry"
    return "help" if HELP.fullmatch(command) else ""


def test_every_command_is_in_a_class_and_every_class_is_of_the_readme(root, listed):
    assert [command for command in listed if not class_of(command)] == []
    assert [known for known in (*RUN, *LOOPBACK, *ELSEWHERE) if known not in listed] == []
    for command, file in ELSEWHERE.items():
        name = re.search(r"-m (?:nbkit )?([\w.]+)", command)[1].rpartition(".")[2]
        assert name in (root / file).read_text("utf-8"), f"{file} does not do {command}"


def test_a_command_that_nobody_put_in_a_class_is_found():
    found = commands("`nbkit frobnicate --now`\n\n```\n.venv/bin/python -m nbkit check --fast\nmake love\n```\n")
    assert found == [".venv/bin/python -m nbkit check --fast", "make love", "nbkit frobnicate --now"]
    assert [class_of(command) for command in found] == ["", "", ""]


@pytest.mark.rehearse
@pytest.mark.timeout(900)  # a guard against hanging; some 50 s on a quiet machine
def test_commands_run_as_they_stand(listed, root, tmp_path, monkeypatch, capsys):
    """Those that start sessions in processes of their own; the others here, as a second Python would only cost time."""
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(root)}
    for command in (command for command in listed if class_of(command) == "run"):
        shorter = command
        for long, short in SHORTER.items():
            shorter = shorter.replace(long, short)
        words = as_run_here(shorter)
        if words[3] in ("run", "rehearse"):
            done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
            code, said = done.returncode, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        else:
            code, said = cli.run(words[3:]), capsys.readouterr()
        assert code in RUN[command], f"{shorter}\n{said}"
    made = ("nbkit-report.html", "my-store/bandvar_train", "kaggle-store/eeg_windows")
    assert [name for name in made if not (tmp_path / name).exists()] == []


def test_commands_for_drive_and_kaggle_run_against_the_loopback(listed, tmp_path, monkeypatch, capsys):
    need_client()
    pytest.importorskip("pydrive2")
    monkeypatch.chdir(tmp_path)
    with drive_loopback.Loopback() as drive, Loopback() as kaggle, kaggle.point(monkeypatch, tmp_path / "home"):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setattr("nbkit.tools.kaggle.client.FIRST_WAIT", 0.01)
        _client_of(drive, tmp_path)
        monkeypatch.setenv("BROWSER", f"{sys.executable} {tmp_path / 'browser.py'} %s &")
        store = ""
        for command in (command for command in listed if class_of(command) == "loopback"):
            words = command.removeprefix(NBKIT).replace("gdrive://<folder id>", store).split()
            if words[0] == "pull":
                kaggle.kernels["mary/nbkit-eeg-windows"].files["x.txt"] = b"1"
            assert cli.run(words) == 0, f"{command}\n{capsys.readouterr()}"
            if words[0] == "login":
                store = re.search(r"gdrive://\S+", capsys.readouterr().out)[0].rstrip(";")
        assert "mary/nbkit-dispatcher" in kaggle.kernels and (tmp_path / "nbkit-output/eeg_windows/x.txt").exists()


def _client_of(drive: drive_loopback.Loopback, folder: Path) -> None:
    """Write the OAuth client that the README names, and a program in the place of the browser."""
    fields = {"client_id": CLIENT, "client_secret": CLIENT_SECRET, "token_uri": f"{drive.root}token"}
    fields |= {"auth_uri": f"{drive.root}o/oauth2/auth", "api_root": drive.root}
    (folder / "client_secret.json").write_text(json.dumps({"installed": fields}))
    (folder / "browser.py").write_text(
        "import sys, urllib.request as u\nu.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=20).read()\n"
    )


def test_make_knows_its_targets(listed, root):
    for command in (command for command in listed if class_of(command) == "dry"):
        words = [*as_run_here(command), "-n"] if not command.startswith("make test") else ["make", "-n", "test"]
        done = subprocess.run(words, cwd=root, capture_output=True, text=True)
        done_already = command == "make setup" and "Nothing to be done" in done.stdout
        # make gpu takes the python that is there, where no environment was made
        known = done_already or ".venv/bin/python -m " in done.stdout or "python3 -m tests.gpu" in done.stdout
        assert done.returncode == 0 and known, f"{command}\n{done.stdout}{done.stderr}"


def test_notebooks_and_parameters_of_long_runs_exist(root):
    pages = documents(root)
    shown = [c for name, text in pages.items() for c in commands(text) if name in HOURS or MINUTES in c]
    found = [as_run_here(command) for command in shown if " run " in command]
    assert len(found) > 3
    for words in found:
        given = parse_parameters([after for word, after in zip(words, words[1:], strict=False) if word == "-p"])
        path = find_notebook(words[words.index("run") + 1])
        check_parameters(path, notebook_parameters(path), given)


def test_every_named_command_has_its_help(listed, capsys):
    for command in (command for command in listed if class_of(command) == "help"):
        words = [word for word in command.split() if word.islower() and word not in ("nbkit", "python", "-m")]
        assert cli.run([*words, "--help"]) == 0, command
        said = capsys.readouterr().out
        for argument in re.findall(r"[A-Z]{4,}", command):
            assert argument in said, command


def test_the_table_of_commands_and_the_help_name_the_same(root, capsys):
    cli.run(["--help"])
    known = set(re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out.partition("Commands:")[2], re.MULTILINE))
    table = (root / "docs/commands.md").read_text("utf-8").partition("\n\nMost ")[0]
    assert set(re.findall(r"`nbkit ([a-z]+)", table)) == known


def test_the_table_of_phases_names_every_notebook(root):
    table = (root / "docs/phases.md").read_text("utf-8").partition("\n\n- ")[0]
    named = set(re.findall(r"`(\d\d_\w+)`", table))
    assert {phase.notebook.removesuffix(".ipynb") for phase in load_phases()} - named == set()


def test_every_link_and_file_that_a_page_names_is_there(root):
    pages, faults = documents(root), []
    anchors = {
        name: {_anchor(title) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)} for name, text in pages.items()
    }
    toy = set(recipe(root).files)
    for page, text in pages.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            if "://" in path:
                continue
            target = (root / page).parent / path if path else root / page
            name = os.path.relpath(target, root)
            if not target.exists() or (anchor and anchor not in anchors.get(name, {anchor})):
                faults.append(f"{page}: {link}")
        named = re.findall(r"`((?:kaggle|colab|manifests|tests|notebooks|docs)/[\w./]+\.\w+)`", text)
        faults += [f"{page}: {name}" for name in named if name not in toy and not (root / name).exists()]
    assert faults == []


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


@pytest.mark.kill
def test_the_example_of_a_project_of_ones_own_goes_on_after_a_kill(root, tmp_path):
    """The weights at the end are those of a run that nobody killed, bit for bit."""
    (example,) = [b.text for b in blocks((root / "README.md").read_text("utf-8")) if "class Slope" in b.text]
    assert len(example.splitlines()) <= 30
    variables = os.environ | {"PYTHONPATH": str(root), "NBKIT_STORE": ""}
    weights = {}
    for name in ("calm", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train.py").write_text(example)
        command = [sys.executable, "train.py"]
        if name == "killed":
            running = subprocess.Popen(
                command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while not list(folder.glob("my-store/slope/checkpoints/*.json")) and running.poll() is None:
                time.sleep(0.02)
            running.kill()
            assert running.wait() == -signal.SIGKILL, "it was through before it could be killed"
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
        assert len(list(folder.glob("my-store/slope/items/*.npz"))) == 20
        (newest,) = sorted(folder.glob("my-store/slope/checkpoints/*.ckpt"))[-1:]
        weights[name] = torch.load(newest, weights_only=True)["state_dict"]
    assert all(torch.equal(weights["calm"][key], weights["killed"][key]) for key in weights["calm"])


def test_the_scores_of_the_systems_are_those_of_the_page_of_results(root):
    table = (root / "README.md").read_text("utf-8").partition("\n## Six systems")[2].partition("\n## ")[0]
    page = (root / "docs/results.md").read_text("utf-8")
    scores = re.findall(r"[−+-]?\d+\.\d+ \[[^\]]+\]", table)
    assert len(scores) >= 8 and [score for score in scores if score not in page] == []
