"""Rehearsals with --host kaggle: what a run sees there, and that nothing is written outside of its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.tools.commands import cli
from nbkit.tools.rehearsal.rehearse import Script, rehearse
from tests.conftest import CLOSE, OPEN, WORK

pytestmark = pytest.mark.rehearse

NOTE = """import json, os
from pathlib import Path
from nbkit.runtime.hosts import detect
host = detect()
seen = {"host": host.name, "batch": host.batch, "folder": str(host.folder), "session": str(session.folder),
        "cwd": os.getcwd(), "left": [str(p) for p in Path(".").rglob("*") if "nbkit" not in str(p)],
        "root": os.environ["NBKIT_KAGGLE_ROOT"], "limit": session.budget.limit, "store": session.store.url,
        "told": sorted(n for n in os.environ if n.startswith(("NBKIT_", "KAGGLE_")))}
Path(NOTES, session.id).write_text(json.dumps(seen))
Path("left-behind").write_text("x")"""


@pytest.fixture
def notebook(make_notebook, tmp_path):
    """Return a notebook that notes what it sees."""
    (tmp_path / "notes").mkdir()
    names = "STORE = None  # s\nLIMIT = None  # l\nN = 36  # items\nSECONDS = 0.15  # s\n"
    names += f"NOTES = {str(tmp_path / 'notes')!r}"
    opened = OPEN.replace("smoke=SMOKE", "store=STORE, limit=LIMIT, smoke=SMOKE")
    return make_notebook(f"{names}  # n\nSMOKE = False", opened, NOTE, WORK, CLOSE)


def test_kill_and_wipe_on_kaggles_machine_lose_nothing(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_STORE", "not-this-one")
    before = set(Path("/kaggle").iterdir()) if Path("/kaggle").is_dir() else None
    said: list[str] = []
    code, (document,) = rehearse(
        [notebook], script=Script(session=5.0, kill="wall"), store=str(tmp_path / "store"), host="kaggle",
        max_sessions=8, say=said.append,
    )  # fmt: skip
    assert code == 0 and document["complete"] and document["sums"]["kills"] >= 1, "\n".join(said)
    assert len(list((tmp_path / "store/toy/items").iterdir())) == 36
    seen = [json.loads(path.read_text()) for path in (tmp_path / "notes").iterdir()]
    assert len(seen) == document["sums"]["sessions"]
    for note in seen:
        root = Path(note["root"])
        assert (note["host"], note["batch"]) == ("kaggle", True)
        assert note["cwd"] == str(root / "working") and note["folder"] == str(root / "working/nbkit")
        assert Path(note["session"]).is_relative_to(root / "working/nbkit")
        assert note["left"] == ["__notebook__.ipynb"], "the working folder was not wiped"  # of the runner itself
        assert note["store"] == str(tmp_path / "store") and note["limit"] > 0
        assert "NBKIT_STORE" not in note["told"] and "NBKIT_LIMIT" not in note["told"]
        assert not root.exists() and str(root).startswith(str(Path(os.environ.get("TMPDIR", "/tmp")).resolve()))
    assert (set(Path("/kaggle").iterdir()) if Path("/kaggle").is_dir() else None) == before


def test_a_notebook_that_cannot_be_told_its_store_is_refused(toy, tmp_path):
    with pytest.raises(UsageError, match="The parameters cell of .* has no STORE"):
        rehearse([toy], script=Script(), store=str(tmp_path / "store"), host="kaggle", say=str)


def test_an_unknown_host_is_a_users_mistake(toy, capsys):
    assert cli.run(["rehearse", str(toy), "--host", "kagle"]) == 2
    assert "no host 'kagle'" in capsys.readouterr().err
