"""What a test costs: the kinds that are expensive, the quick selection without them, and a list of those that say less.

The cost is the processor time of this process and of the children it has waited for. The same work takes twice the time
on another machine or beside other work, so a test above the limit is named at the end of the run and does not fail.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

KINDS = ("kill", "train", "rehearse", "notebook", "browser")  # described in pyproject.toml
LIMIT_S = 5.0  # processor time; a test that uses more belongs to a kind, or should be made cheaper
COST = "processor_s"
LIBRARY = 200  # modules; who imports more is the first to use a large library, and pays for all that follow

_FILE_OF_A_KIND = re.compile(rf"^pytestmark = .*\bpytest\.mark\.(?:{'|'.join(KINDS)})\b", re.MULTILINE)


def processor_seconds() -> float:
    """Return the processor time used so far by this process and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


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
    """Note the cost of a test that costs much and does not say so."""
    began, modules = processor_seconds(), len(sys.modules)
    result = yield
    used = processor_seconds() - began
    if used > LIMIT_S and not kinds_of(item) and len(sys.modules) - modules < LIBRARY:
        item.user_properties.append((COST, used))  # what a process of xdist hands on with its report
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that cost much and do not say so, the dearest first."""
    used = {
        report.nodeid: value
        for report in terminalreporter.stats.get("passed", [])
        for name, value in report.user_properties
        if name == COST
    }
    if not used:
        return
    terminalreporter.section(f"more than {LIMIT_S:g} s of processor time without a mark")
    for nodeid in sorted(used, key=used.__getitem__, reverse=True):
        terminalreporter.write_line(f"{used[nodeid]:.1f} s {nodeid}")
    terminalreporter.write_line(
        f"Make each cheaper (smaller sizes, a fixture that is shared), or mark its kind: {', '.join(KINDS)}."
    )
