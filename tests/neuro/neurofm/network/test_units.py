"""The table of units: places that never collide and never move."""

from __future__ import annotations

import json

import pytest

from nbkit.neuro.neurofm.network.units import RecordingUnits, Task, UnitTable

VELOCITY = Task("velocity", "cm/s", (0.0, 1.0), (10.0, 9.0))


def units(name, count, kind="mouse/neuropixels", task="velocity"):
    return RecordingUnits(name, tuple(f"u{i}" for i in range(count)), (0.1,) * count, kind, task)


def test_units_of_the_same_id_have_places_of_their_own():
    table = UnitTable([units("a", 3), units("b", 2)], [VELOCITY])
    places = [table.offsets[r.name] + i for r in table.recordings for i in range(len(r.unit_ids))]
    assert sorted(places) == [*range(5)] and table.n_units == 5


def test_a_table_grows_at_its_end():
    table = UnitTable([units("a", 3)], [VELOCITY])
    more = table.with_recordings([units("b", 2, kind="human/array")])
    assert more.offsets == {"a": 0, "b": 3} and more.kinds == table.kinds
    assert more.kind_id("human/array") == 0 and more.kind_id("mouse/neuropixels") == 1
    assert (more.task_id("none"), more.task_id("velocity")) == (0, 1)


def test_a_table_goes_through_text_unchanged():
    table = UnitTable([units("a", 3), units("b", 2, task="none")], [VELOCITY])
    again = UnitTable.from_dict(json.loads(json.dumps(table.as_dict())))
    assert (again.recordings, again.tasks, again.kinds) == (table.recordings, table.tasks, table.kinds)


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match="2 recordings; names used more than once: a"):
        UnitTable([units("a", 3), units("a", 2)], [VELOCITY])
    with pytest.raises(ValueError, match="0 recordings; names used more than once: none"):
        UnitTable([], [])
    with pytest.raises(ValueError, match="unknown task 'velocity'; known tasks: none"):
        UnitTable([units("a", 3)], [])
    with pytest.raises(ValueError, match="no units of recording 'z'; it has 1 recordings: a"):
        UnitTable([units("a", 3)], [VELOCITY]).find("z")
