"""Nothing is trained with a Lightning outside of the range of the list."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.version import Version

from nbkit.ground.extras import requirements
from nbkit.runtime.errors import UsageError
from nbkit.runtime.requirements import TESTED, check_tested, required


def pins(text: str) -> dict[str, Version]:
    """Return the pins of a constraints file, those of ``pytorch-lightning`` among them."""
    found = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    return {name.lower(): Version(version) for name, version in found}


def test_lightning_has_two_ends_and_both_are_pinned_for_the_tests(root):
    need = required("lightning")
    assert {spec.operator for spec in need.specifier} == {">=", "<"} and TESTED == ("lightning",)
    newest = pins((root / "constraints.txt").read_text("utf-8"))["lightning"]
    (end,) = [Version(spec.version) for spec in need.specifier if spec.operator == "<"]
    assert newest in need.specifier and Version(f"{newest.major}.{newest.minor + 1}") == end


def test_the_lowest_constraints_are_the_lower_ends_of_the_list(root):
    """The release may be a later one where the first cannot be installed, such as a yanked 1.11.0."""
    lowest = pins((root / "constraints-lowest.txt").read_text("utf-8"))
    for need in map(Requirement, requirements()):
        if need.marker is None:
            (floor,) = [Version(spec.version) for spec in need.specifier if spec.operator == ">="]
            pinned = lowest[need.name.lower()]
            assert pinned in need.specifier and pinned.release[: len(floor.release)] == floor.release, need
    assert lowest["pytorch-lightning"] == lowest["lightning"]


@given(st.tuples(st.integers(1, 4), st.integers(0, 12), st.integers(0, 12)))
def test_a_version_is_refused_exactly_outside_of_the_range(numbers):
    version = ".".join(map(str, numbers))
    if (2, 5) <= numbers[:2] < (2, 7):
        check_tested("lightning", version)
        return
    with pytest.raises(UsageError) as caught:
        check_tested("lightning", version)
    for words in (
        f"Lightning {version} is installed", "lightning<2.7,>=2.5", "Nothing was trained",
        f"Run {sys.executable} -m pip install",
    ):  # fmt: skip
        assert words in str(caught.value)


@pytest.mark.parametrize("version", ["2.4.0", "2.7.0rc0", "2.7.0", "3.0.0"])
def test_nothing_is_trained_with_another_lightning(tmp_path, monkeypatch, version):
    import lightning

    from nbkit.runtime.training.fit import fit
    from tests.runtime.training.training_support import FakeSession, Points, Tiny

    monkeypatch.setattr(lightning, "__version__", version)
    session = FakeSession(tmp_path / "machine", tmp_path / "store")
    with pytest.raises(UsageError, match=f"Lightning {version} is installed.*Nothing was trained"):
        fit(session, Tiny(), Points(8), max_steps=2)
    assert not session.steps_done() and not [path for path in tmp_path.rglob("*") if path.is_file()]
