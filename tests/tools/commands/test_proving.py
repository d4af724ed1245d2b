"""`nbkit prove`: a notebook's own classes are proved, exit codes, words, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.commands import cli
from nbkit.tools.commands.proving import _needs_of
from nbkit.tools.phases import find_phase
from tests.conftest import CLOSE

OPEN = """import lightning, torch, nbkit
session = nbkit.open_session("toy_train", smoke=SMOKE, accelerator="cpu")"""
MODULE = """SEEN = [0]
class Toy(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)
    def training_step(self, batch, batch_idx):
        SEEN[0] += 1
        return (1 + FAULT * SEEN[0]) * self.net(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)"""
FIT = """rows = torch.utils.data.TensorDataset(torch.randn(32, 4))
loader = torch.utils.data.DataLoader(rows, batch_size=4, shuffle=True)
report = session.fit(Toy(), loader, max_steps=1000)
open("trained", "w").close()"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def training(make_notebook) -> Path:
    return make_notebook(
        "FAULT = 0.0  # of the step\nSMOKE = False", OPEN, MODULE, FIT, CLOSE, name="06_toy_train.ipynb"
    )


@pytest.mark.rehearse
def test_a_fault_exits_1_and_names_what_the_notebook_holds(training, here, capsys):
    assert (
        cli.run(
            ["prove", str(training), "-p", "FAULT=0.1", "--steps", "10", "--stops", "2", "--limit", "20min", "--json"]
        )
        == 1
    )
    document = json.loads(capsys.readouterr().out)
    assert document["exact"] is False and document["steps"] == 10 and len(document["stops"]) == 2
    assert document["cause"]["kind"] == "process" and "module-level SEEN[0]" in document["remedy"]
    assert document["first"]["name"] in document["words"] and document["seconds"] > 0


READ = """session.store.get("other/made", session.folder / "made")
assert session.store.stat("toy_train/own") is None
steps = int((session.folder / "made").read_text())
session.result("score", 1.0, unit="1", baseline=0.0, baseline_is="none")"""


@pytest.mark.rehearse
def test_an_exact_training_exits_0_reads_the_store_and_leaves_everything_as_it_was(
    make_notebook, here, tmp_path, capsys
):
    store = FolderStore(tmp_path / "store")
    (here / "made").write_text("1000")
    store.put(here / "made", "other/made")
    store.put(here / "made", "toy_train/own")  # of the phase itself: a proof begins where a training begins
    (here / "made").unlink()
    cells = OPEN, READ, MODULE, FIT.replace("1000", "steps"), CLOSE
    notebook = make_notebook("FAULT = 0.0  # of the step\nSMOKE = False", *cells, name="06_toy_train.ipynb")
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    code = cli.run(
        [
            "prove",
            str(notebook),
            "--steps",
            "10",
            "--stops",
            "2",
            "--limit",
            "20min",
            "--store",
            str(tmp_path / "store"),
        ]
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.out.startswith("Exact: 10 steps, stopped 2 times (") and "Running 06_toy_train.ipynb" in said.err
    assert list(here.iterdir()) == []  # no store, no folder of the session, and the training did not go on
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


@pytest.mark.rehearse
def test_a_notebook_without_a_training_is_told_so(make_notebook, here, capsys):
    notebook = make_notebook("SMOKE = False", "print(1)")
    assert cli.run(["prove", str(notebook)]) == 2
    said = capsys.readouterr().err
    assert "ended without a call of session.fit" in said and "Traceback" not in said and list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prove"], "NOTEBOOK"),
        (["prove", "nowhere.ipynb"], "no notebook 'nowhere.ipynb'"),
        (["prove", "06_toy_train.ipynb", "--steps", "2"], "--steps"),
        (["prove", "06_toy_train.ipynb", "--limit", "soon"], "The duration 'soon'"),
        (["prove", "06_toy_train.ipynb", "-p", "NONE=1"], "no parameter 'NONE'"),
        (["prove", "40_bandvar_train", "--store", "empty"], "needs the results of eeg_windows, which"),
    ],
)
def test_a_users_mistake_exits_2_in_words(training, here, arguments, words, capsys):
    assert cli.run([str(training) if part == training.name else part for part in arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


def test_needs_are_all_phases_before_in_their_order(tmp_path):
    phase = find_phase("bandvar_generate")
    assert [need.slug for need in _needs_of(Path(phase.notebook))] == ["eeg_windows", "bandvar_tokenizer"]
    assert _needs_of(tmp_path / "own.ipynb") == []
