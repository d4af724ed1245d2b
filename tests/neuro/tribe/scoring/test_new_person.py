"""A new person's rows: three predictions of the same held-out runs, and a student that does not change."""

from __future__ import annotations

import pytest
import torch

from nbkit.neuro.tribe.runs.runs import planted_runs
from nbkit.neuro.tribe.scoring.new_person import newcomer_rows
from nbkit.neuro.tribe.scoring.settings import FrameSettings
from nbkit.neuro.tribe.student.student import StudentSettings, TinyTribe


def test_the_rows_and_what_stays(world, some_runs):
    own = [run for run in some_runs if run.subject == 1]
    torch.manual_seed(0)
    sizes = {"dim": 16, "heads": 2, "hidden": 16, "expert_hidden": 16, "n_vertices": 24}
    student = TinyTribe(StudentSettings.smoke().of(**sizes)).eval()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    later = planted_runs(world, [9], subjects=[1])
    rows = {row["name"]: row for row in newcomer_rows(student, own, later, 20, FrameSettings.smoke())}
    assert set(rows) == {"r_newcomer", "r_newcomer_against_ridge", "newcomer_floats"}
    assert rows["newcomer_floats"]["value"] == 32 and rows["newcomer_floats"]["baseline"] == 3 * 41 * 24
    assert rows["r_newcomer_against_ridge"]["baseline"] > 0.3 > rows["r_newcomer"]["baseline"]
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert newcomer_rows(student, [], later, 20, FrameSettings.smoke()) == []
    assert rows["r_newcomer"]["value"] != pytest.approx(rows["r_newcomer"]["baseline"])
