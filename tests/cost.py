"""What a test costs: the kinds that are expensive, the quick selection without them, and a limit for all others.

The cost is the processor time of this process and of the children it has waited for. On a slower machine, and on cores
that others use too, the same work takes more of it (half as much again was seen), so a test that is above the limit is
judged by the time that a fixed piece of work takes there at that moment.
"""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

KINDS = ("kill", "train", "rehearse", "notebook", "browser")  # described in pyproject.toml
LIMIT_S = 5.0  # processor time that a test may use without the mark of a kind
PIECE_S = 0.1  # of a million steps, on the machine that the limit was set on
LIBRARY = 200  # modules; who imports more is the first to use a large library, and pays for all that follow

_FILE_OF_A_KIND = re.compile(rf"^pytestmark = .*\bpytest\.mark\.(?:{'|'.join(KINDS)})\b", re.MULTILINE)


def processor_seconds() -> float:
    """Return the processor time used so far by this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def pace() -> float:
    """Return by how much this machine is slower now than the one that the limit was set on; 1 where it is not."""
    began, total = time.process_time(), 0
    for i in range(1_000_000):
        total += i * i % 7
    return max(1.0, (time.process_time() - began) / PIECE_S)


def kinds_of(item: pytest.Item) -> list[str]:
    """Return the kinds of cost that a test is marked with."""
    return [kind for kind in KINDS if item.get_closest_marker(kind)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help=f"leave out the expensive kinds of tests: {', '.join(KINDS)}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file that a quick run leaves out as a whole."""
    if not config.getoption("quick") or collection_path.suffix != ".py":
        return None
    return True if _FILE_OF_A_KIND.search(collection_path.read_text("utf-8")) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("quick"):
        return
    expensive = [item for item in items if kinds_of(item)]
    if expensive:
        config.hook.pytest_deselected(items=expensive)
        items[:] = [item for item in items if not kinds_of(item)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that costs much and does not say so."""
    began, modules = processor_seconds(), len(sys.modules)
    result = yield
    used = processor_seconds() - began
    if used > LIMIT_S and not kinds_of(item) and len(sys.modules) - modules < LIBRARY and used > LIMIT_S * pace():
        pytest.fail(
            f"The test passed, but used {used:.1f} s of processor time; {LIMIT_S:g} s are allowed without a mark. Make "
            f"it cheaper (smaller sizes, a fixture that is shared), or mark it with its kind: {', '.join(KINDS)}.",
            pytrace=False,
        )
    return result
