"""Cards as tables, and one picture that is drawn anew in its place, in a real IPython kernel's shell."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser

from nbkit.runtime.cells.lines import VARIABLE
from nbkit.runtime.cells.shown import card_html, is_watched, show_card

CARD = 'nbkit session 2026 closed\n  done     3 items\n  error    a<b & "c"\n  stopped  complete, after 2 s'
SHELL = """
import json, sys
import ipykernel  # as in a kernel
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.displaypub import CapturingDisplayPublisher

from IPython.core.pylabtools import select_figure_formats

shell = InteractiveShell.instance()
shell.display_pub = CapturingDisplayPublisher()
import matplotlib
matplotlib.use("agg")
select_figure_formats(shell, {"png"})
from nbkit.runtime.cells.shown import LivePicture, is_watched, show_card

assert is_watched()
show_card(sys.argv[1])

import matplotlib.pyplot as plt

picture = LivePicture()
for number in range(2):
    figure, axes = plt.subplots()
    picture.show(figure)
assert plt.get_fignums() == []
json.dump([
    {"kinds": sorted(one["data"]), "html": one["data"].get("text/html"), "update": bool(one.get("update")),
     "id": (one.get("transient") or {}).get("display_id")}
    for one in shell.display_pub.outputs
], sys.stdout)
"""


class Cells(HTMLParser):
    """Collect the text of a table's cells, as a browser would show it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def texts(page: str) -> list[str]:
    cells = Cells()
    cells.feed(page)
    return cells.found


def test_a_kernel_shows_a_table_and_one_picture_in_its_place(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    done = subprocess.run(
        [sys.executable, "-c", SHELL, CARD], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    card, first, second = json.loads(done.stdout)
    assert card["kinds"] == ["text/html", "text/plain"] and "stopped" in texts(card["html"])
    assert "image/png" in first["kinds"] and not first["update"]
    assert second["update"] and second["id"] == first["id"] is not None


def test_the_table_says_what_the_text_says():
    assert texts(card_html(CARD)) == [
        "nbkit session 2026 closed", "done", "3 items", "error", 'a<b & "c"', "stopped", "complete, after 2 s"
    ]  # fmt: skip


def test_outside_of_a_kernel_a_card_is_its_text(capsys):
    assert not is_watched()
    show_card(CARD)
    assert capsys.readouterr().out == CARD + "\n"
