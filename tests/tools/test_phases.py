"""The map of phases: what it must hold, and what it refuses."""

from __future__ import annotations

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.tools.phases import find_phase, load_owner, load_phases

GOOD = """
[[phase]]
slug = "second"
number = 20
title = "Second"
module = ""
needs = ["first"]
makes = []
accelerator = "gpu"
sessions = 2
session_hours = 9
items = false
figures = ["loss"]
scores = ["val_loss"]

[[phase]]
slug = "first"
number = 10
title = "First"
module = ""
needs = []
makes = ["windows"]
accelerator = "cpu"
sessions = 1
session_hours = 0.5
items = true
figures = []
scores = []
"""


def written(tmp_path, text):
    path = tmp_path / "phases.toml"
    path.write_text(text)
    return path


def test_phases_come_in_the_order_of_their_numbers(tmp_path):
    first, second = load_phases(written(tmp_path, GOOD))
    assert (first.slug, second.slug) == ("first", "second")
    assert (second.notebook, second.session_hours, second.needs) == ("20_second.ipynb", 9.0, ("first",))


def test_the_owner_of_the_copy_stands_above_the_phases(tmp_path):
    path = written(tmp_path, GOOD)
    assert load_owner(path) == ""
    written(tmp_path, f'owner = "mary"\n{GOOD}')
    assert load_owner(path) == "mary" and len(load_phases(path)) == 2
    written(tmp_path, f'owner = "https://x"\n{GOOD}')
    with pytest.raises(UsageError, match="'https://x' is not the name of a GitHub account"):
        load_owner(path)


def test_the_repositorys_own_map_is_read():
    assert find_phase("bandvar_train").needs == ("eeg_windows",)
    assert [phase.number for phase in load_phases()] == sorted(phase.number for phase in load_phases())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("accelerator", "acelerator", "Did you mean 'accelerator'"),
        ('title = "First"\n', "", "'title' is missing"),
        ("number = 10", 'number = "10"', "number is '10'; it must be int"),
        ("items = true", "items = 1", "items is 1; it must be bool"),
        ('"gpu"', '"gpus"', "Did you mean 'gpu'"),
        ('needs = ["first"]', 'needs = ["frist"]', "needs 'frist', which is not an earlier phase"),
        ("number = 20", "number = 5", "needs 'first', which is not an earlier phase"),
        ("number = 20", "number = 10", "occurs twice"),
        ('slug = "second"', 'slug = "Second one"', "Phase slug 'Second one' is not valid"),
        ("[[phase]]", "[[phases]]", "Did you mean 'phase'"),
        ('title = "First"', "title = First", "cannot be read"),
    ],
)
def test_a_faulty_map_is_refused_with_what_is_wrong(tmp_path, old, new, words):
    with pytest.raises(UsageError) as caught:
        load_phases(written(tmp_path, GOOD.replace(old, new)))
    assert words in str(caught.value)


def test_an_unknown_phase_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'bandvar_train'"):
        find_phase("bandvar_trian")
