"""What a phase shows reaches the store whole, and a figure carries its own words."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.results.showing import LARGEST_PAGE, figure_in_words


@pytest.fixture
def session(tmp_path):
    opened = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    yield opened
    opened._leave()


@pytest.fixture
def figure():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn, (left, right) = plt.subplots(1, 2)
    left.plot([1, 2], label="model")
    left.set(title="Training", xlabel="Step", ylabel="Loss (µV²)")
    left.legend()
    right.set(title="Spectrum")
    drawn.suptitle("synthetic stand-in")
    yield drawn
    plt.close(drawn)


def stored(tmp_path: Path, name: str) -> bytes:
    return (tmp_path / "store" / "toy" / name).read_bytes()


def test_a_figure_is_put_in_words_by_its_titles_and_axes(figure):
    assert figure_in_words(figure) == "synthetic stand-in; Training: Loss (µV²) against Step (model); Spectrum"


@pytest.mark.parametrize(
    ("note", "below"),
    [
        ({}, []),
        ({"data": "real, 3 subjects", "weights": "trained here"}, []),
        ({"data": "synthetic stand-in"}, []),  # the figure says it itself
        ({"data": "pink noise"}, ["pink noise"]),
        ({"data": "real", "weights": "random, seed 0"}, ["weights: random, seed 0"]),
        ({"data": "pink noise", "weights": "untrained"}, ["pink noise; weights: untrained"]),
    ],
)
def test_a_figure_says_below_what_is_not_real(session, figure, note, below):
    from PIL import Image

    before = len(figure.texts)
    if note:
        session.note(**note)
    session.figure(figure, "own", alt="A line")
    assert [text.get_text() for text in figure.texts[before:]] == below
    session.figure(figure, "own", alt="A line")
    assert len(figure.texts) == before + len(below), "once is enough"
    words = Image.open(session.folder / "figures/own.png").text["Description"]
    odd = below or (["synthetic stand-in"] if "stand-in" in note.get("data", "") else [])
    assert words == "A line" + "".join(f" ({text})" for text in odd)


def test_long_words_below_a_figure_stay_inside_its_width(session, figure):
    session.note(data="made up of " + "many small things and " * 20)
    session.figure(figure, "own")
    drawn = figure.texts[-1]
    width = drawn.get_window_extent(figure.canvas.get_renderer()).width
    assert "\n" in drawn.get_text() and width < 1.02 * figure.bbox.width


def test_words_below_a_figure_do_not_fall_on_its_legend(session):
    import matplotlib.pyplot as plt
    from PIL import Image

    drawn, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    axes.plot([1, 2], color="blue", label="a")
    axes.set_xlabel("below the axis")
    drawn.legend(loc="outside lower center", labelcolor=(0, 1, 0), frameon=False)
    session.note(data="nothing that was ever recorded")
    session.figure(drawn, "own")
    plt.close(drawn)
    pixels = np.asarray(Image.open(session.folder / "figures/own.png").convert("RGB")).astype(int)
    black = pixels.sum(2) < 60
    green = (pixels[..., 1] > 150) & (pixels[..., 0] < 60) & (pixels[..., 2] < 60)
    brown = (pixels[..., 0] > 150) & (pixels[..., 1] < 120) & (pixels[..., 2] < 60)
    ends = [(np.flatnonzero(ink.any(1)).min(), np.flatnonzero(ink.any(1)).max()) for ink in (black, green, brown)]
    assert all(above[1] < below[0] for above, below in zip(ends, ends[1:], strict=False)), ends


def test_a_figure_carries_its_words_into_the_store(tmp_path, session, figure):
    from PIL import Image

    session.figure(figure, "own")
    session.figure(figure, "given", alt="A rising line.")
    session.close()
    texts = [Image.open(tmp_path / f"store/toy/figures/{name}.png").text["Description"] for name in ("own", "given")]
    assert texts == [figure_in_words(figure), "A rising line."]


def test_a_page_reaches_the_store_as_it_is(tmp_path, session):
    session.page("brain", "<!doctype html><p>δ</p>")
    session.close()
    assert stored(tmp_path, "pages/brain.html").decode() == "<!doctype html><p>δ</p>"


@pytest.mark.parametrize("html", ["<html><head></head><body class='b'><p>δ</p>", "<!doctype html><p>δ</p>", "<p>δ</p>"])
def test_a_page_of_made_up_data_says_so_inside(tmp_path, session, html):
    session.note(data="synthetic <stand-in>", weights="random, seed 0")
    session.page("brain", html)
    session.close()
    kept = stored(tmp_path, "pages/brain.html").decode()
    words = "synthetic &lt;stand-in&gt;; weights: random, seed 0</p>"
    assert kept.count(words) == 1 and kept.index(words) < kept.index("<p>δ</p>")
    assert kept.index(words) > html.find("<body") and kept.startswith(html[: html.find("<p>")])


def test_a_table_reaches_the_store_as_tab_separated_text(tmp_path, session):
    session.table("people", [{"name": "a\tb\nc", "age (y)": 3.5}, {"name": 'δ "x"', "age (y)": ""}])
    session.close()
    with open(tmp_path / "store/toy/tables/people.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert rows == [["name", "age (y)"], ["a b c", "3.5"], ['δ "x"', ""]]


@pytest.mark.parametrize("rows", [[], [{}], [{"a": 1}, {"b": 1}], [{"a": 1}, {}]])
def test_what_is_no_table_is_refused(tmp_path, session, rows):
    with pytest.raises(UsageError, match="Nothing was kept"):
        session.table("people", rows)
    with pytest.raises(UsageError):
        session.table("../people", [{"a": 1}])
    assert not (tmp_path / "store/toy/tables").exists()


NO_PAGES = {"none": None, "bytes": b"<p>", "empty": "", "blank": " \n", "huge": "x" * (LARGEST_PAGE + 1)}


@pytest.mark.parametrize("html", NO_PAGES.values(), ids=NO_PAGES.keys())
def test_what_is_no_page_is_refused(tmp_path, session, html):
    with pytest.raises(UsageError, match="Nothing was kept"):
        session.page("brain", html)
    assert session.close()["not_stored"] == [] and not (tmp_path / "store/toy/pages").exists()


@pytest.mark.parametrize("name", ["../x", "a//b", "x\n"])
def test_names_cannot_leave_their_folder(session, name, figure):
    with pytest.raises(UsageError):
        session.page(name, "<p>x</p>")
    with pytest.raises(UsageError):
        session.figure(figure, name)


def test_a_published_score_is_printed_and_kept(tmp_path, session, capfd):
    session.result("r", 0.4, unit="1", baseline=0.0, baseline_is="chance", anchor=0.5, anchor_is="Somebody 2024")
    session.close()
    assert "published 0.5: Somebody 2024" in capfd.readouterr().out
    assert b'"anchor_is": "Somebody 2024"' in stored(tmp_path, "results.json")


def test_sessions_say_what_they_found_and_of_how_many(tmp_path, session):
    from nbkit.runtime.ledger.segments import read_state
    from nbkit.runtime.store.folder import FolderStore

    for item in session.work([{"key": "a"}, {"key": "b"}]):
        with item:
            item.save(x=[1])
    session.close()
    again = nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "other")
    again.close()
    sessions = read_state(FolderStore(tmp_path / "store"), "toy", tmp_path / "cache").sessions
    first, second = sessions[session.id], sessions[again.id]
    assert (first["open"]["done"], second["open"]["done"], first["open"]["step"]) == (0, 2, 0)
    assert (first["close"]["of"], second["close"]["of"]) == (2, 0)


def show(session, kind: str, name: str, figure) -> None:
    calls = {
        "figure": lambda: session.figure(figure, name),
        "table": lambda: session.table(name, [{"a": 1}]),
        "page": lambda: session.page(name, "<p>x</p>"),
    }
    calls[kind]()


@pytest.mark.parametrize("kind", ["figure", "table", "page"])
@pytest.mark.parametrize("name", ["NUL", "aux", "con.x", "Com1", "a/lpt9", "prn/a"])
def test_a_name_that_windows_keeps_for_a_device_is_refused(session, tmp_path, figure, kind, name):
    with pytest.raises(UsageError, match="keeps for a device"):
        show(session, kind, name, figure)
    session.close()
    assert not list((tmp_path / "store").rglob(f"{kind}s"))


@pytest.mark.parametrize("kind", ["figure", "table", "page"])
@pytest.mark.parametrize(
    "names", [("Scores", "scores"), ("\u00e9", "e\u0301"), ("A/b", "a/b"), ("STRASSE", "stra\u00dfe")]
)
def test_two_names_that_are_one_on_some_file_system_are_refused(session, tmp_path, figure, kind, names):
    show(session, kind, names[0], figure)
    with pytest.raises(UsageError, match="count as one"):
        show(session, kind, names[1], figure)
    for name in (names[0], "another"):
        show(session, kind, name, figure)
    session.close()
    assert len([path for path in (tmp_path / "store/toy" / f"{kind}s").rglob("*") if path.is_file()]) == 2


def test_a_data_frame_is_a_table(session, tmp_path):
    from pandas import DataFrame

    session.table("frame", DataFrame({"a": [1, 2], "b": ["x\ty", "z"]}, index=[5, 6]))
    session.table("rows", ({"a": number} for number in range(2)))
    session.close()
    assert stored(tmp_path, "tables/frame.tsv") == b"a\tb\n1\tx y\n2\tz\n"
    assert stored(tmp_path, "tables/rows.tsv") == b"a\n0\n1\n"


@pytest.mark.parametrize("rows", [None, 5, "ab", ["a"], [None], {"a": 1}, [("a", 1)], [{"a": 1}, 5]])
def test_what_is_no_table_is_refused_in_words(session, tmp_path, rows):
    with pytest.raises(UsageError, match="The table 't': .*names with values.*Nothing was kept"):
        session.table("t", rows)
    assert not list(tmp_path.rglob("*.tsv"))


@pytest.mark.parametrize("given", [5, None, "figure", (1, 2), lambda: None, lambda: "path.png"])
def test_what_is_no_figure_is_refused_in_words(session, tmp_path, given):
    with pytest.raises(UsageError, match="The figure 'x' is .*, which is no figure of matplotlib.*Nothing was kept"):
        session.figure(given, "x")
    assert not list(tmp_path.rglob("*.png"))


def test_a_wrong_score_spoils_no_later_one_of_the_session(session, tmp_path, capsys):
    known = {"unit": "1", "baseline": np.float32(0.5), "baseline_is": "chance"}
    for name, more in ((b"a", {}), (5, {}), ("x", {"low": "a", "high": 1, "over": "x"}), ("x", {"rivals": 5})):
        with pytest.raises(UsageError, match="Nothing was written"):
            session.result(name, 1.0, **known, **more)
    session.result("good", np.array(0.75), **known)
    session.note(data="real")
    assert session.close()["complete"]
    assert "good = 0.75   (baseline 0.5: chance)" in capsys.readouterr().out
    assert list(json.loads(stored(tmp_path, "results.json"))["metrics"]) == ["good"]


SECRET = "hunter2secretXYZ"
ADDRESSES = [f"ftp://me:{SECRET}@h/x", f"see https://h/x?sig={SECRET}"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_password_in_an_address_is_neither_shown_nor_stored(session, figure, address, tmp_path, capsys):
    rival = {"name": address, "value": 1.0, "difference": 0.5, "difference_low": 0.1, "difference_high": 0.9}
    texts = {"unit": address, "baseline_is": address, "anchor_is": address, "over": address}
    session.result("m", 1.0, baseline=2.0, anchor=1.0, low=0.5, high=1.5, rivals=[rival], **texts)
    session.note(data=address)
    session.table("t", [{"url": address, address: 1}])
    session.figure(figure, "f", alt=address)
    session.close()
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
