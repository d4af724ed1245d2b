"""The table of measurements: what is kept of a run that is ended, and the section that the README gets of it."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

import tests.bench.__main__ as bench
from tests.bench.results import Results, rows_of, this_machine
from tests.bench.rows import Row
from tests.bench.section import BEGIN, END, section, write_section

FAST = Row("copy", 2.0, "ms", "by hand", 9.0, "<= 3 ms", True, "", "memory", 1.5)
SLOW = Row("sort", 8.0, "ms", "", None, "<= 3 ms", False, "a busy disk")


@pytest.fixture
def measured(monkeypatch):
    """Measure nothing; give the names that would have been, and what each comes to."""
    asked, parts = [], {"ledger": [FAST], "import": [SLOW]}

    def part(name, quick, seconds):
        asked.append(name)
        rows = parts[name]
        kept = [] if isinstance(rows, str) else [asdict(row) for row in rows]
        error = rows if isinstance(rows, str) else ""
        return {"title": f"About {name}", "seconds": 60.0, "rows": kept, "error": error, "load": 0.2}

    monkeypatch.setattr(bench, "_in_its_own_process", part)
    return asked, parts


def test_a_file_that_fails_is_a_row_and_the_others_still_run(measured, tmp_path, capsys):
    asked, parts = measured
    parts["import"] = "ImportError: no such thing"
    path = tmp_path / "rows.json"
    assert bench.main(["--only", "import", "--only", "ledger", "--json", str(path)]) == 1
    assert asked == ["import", "ledger"] and "missed: import: failed" in capsys.readouterr().out
    assert [row.what for row in rows_of(json.loads(path.read_text()))] == ["import: failed", "copy"]


def test_a_run_that_was_ended_measures_only_what_is_missing_or_failed(measured, tmp_path):
    asked, parts = measured
    parts["import"] = "killed"
    wanted = ["--only", "ledger", "--only", "import", "--json", str(tmp_path / "rows.json")]
    bench.main(wanted)
    parts["import"] = [FAST]
    assert bench.main([*wanted, "--resume"]) == 0
    assert asked == ["ledger", "import", "import"]
    bench.main([*wanted, "--resume", "--quick"])  # of another size: nothing is kept
    assert asked[3:] == ["ledger", "import"]


def test_what_another_machine_has_measured_is_kept_and_named(tmp_path, monkeypatch):
    path = tmp_path / "rows.json"
    first = Results(path, quick=False, resume=False)
    first.add("a", "About a.", 90.0, [asdict(FAST)], "", 0.2)
    first.add("b", "About b.", 90.0, [asdict(FAST)], "", 0.2)
    other = {**this_machine(), "processor": "another one"}
    monkeypatch.setattr("tests.bench.results.this_machine", lambda: other)
    second = Results(path, quick=False, resume=True)
    assert "a" not in second and set(second.document["parts"]) == {"a", "b"}
    second.add("b", "About b.", 60.0, [asdict(SLOW)], "", 0.2)
    third = Results(path, quick=False, resume=True)
    assert "b" in third and "a" not in third
    made = section(json.loads(path.read_text()))
    assert (
        made.count("another one") == 1 and "**About b** (`b`; on another one, " in made and "**About a** (`a`)" in made
    )


def test_the_section_names_what_was_missed_and_every_neighbour(tmp_path):
    results = Results(tmp_path / "rows.json", quick=False, resume=False)
    results.add("a", "About a.", 90.0, [asdict(FAST), asdict(SLOW), asdict(Row("alone", 1.0, "s"))], "", 0.2)
    results.add("b", "About b", 30.0, [], "ValueError: no", 1.5)
    made = section(json.loads((tmp_path / "rows.json").read_text()))
    assert "4 rows in 2 min, 1 targets met, 2 missed" in made
    assert "- sort: 8 ms, asked <= 3 ms (a busy disk)" in made and "- b: failed: failed (ValueError: no)" in made
    assert "| copy | 2 ms | 9 ms (by hand) | 1.5 ms (memory) | <= 3 ms: met |" in made
    assert "**About a** (`a`)" in made and "alone" not in made
    readme = tmp_path / "README.md"
    readme.write_text(f"before {BEGIN} old {END} after")
    assert write_section(readme, tmp_path / "rows.json") == 0
    assert readme.read_text() == f"before {BEGIN}\n\n{made}\n\n{END} after"


def test_the_readmes_section_is_made_of_the_results_beside_the_measurements(root):
    between = (root / "docs/measurements.md").read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()
    assert between == section(json.loads((root / "tests/bench/results.json").read_text("utf-8")))
