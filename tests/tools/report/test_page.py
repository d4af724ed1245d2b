"""The report: all of a store on one page, nothing of it taken for markup, and a page whatever is damaged."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.tools.commands import cli
from nbkit.tools.notebooks import captions_of
from nbkit.tools.phases import load_phases
from nbkit.tools.report.embedded import content_policy, script_hashes, without_requests
from nbkit.tools.report.page import shown_url, write_report
from tests.tools.report import report_store
from tests.tools.report.report_store import EVIL


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Path:
    return report_store.make_store(tmp_path_factory.mktemp("calm"))


@pytest.fixture
def calm(made_once, tmp_path) -> Path:
    """Return a store of one's own that may be damaged."""
    return Path(shutil.copytree(made_once, tmp_path / "store"))


class Read(HTMLParser):
    """Read a page as a browser would: its elements, their text, and the text alone."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._hidden += tag == "style"

    def handle_endtag(self, tag):
        self._hidden -= tag == "style"

    def handle_data(self, data):
        if not self._hidden:
            self.text += data

    def all(self, name: str) -> list[dict]:
        return [attrs for tag, attrs in self.tags if tag == name]


def report_of(store: Path, *slugs: str) -> tuple[Read, object]:
    made = write_report(str(store), "page.html", list(slugs) or None)
    return Read(Path("page.html").read_text("utf-8")), made


def test_a_page_shows_what_the_phases_stored(calm):
    page, made = report_of(calm)
    text = " ".join(page.text.split())
    assert (made.scores, made.figures, made.views) == (2, 2, 1)
    assert made.notes == ("bandvar_train: figures that are not in the store yet: excess, maps",)
    for words in ("0.21", "0.34 persistence", "0.18 Somebody 2024, Table 2", "µV²", "Stand-in data: synthetic"):
        assert words in text
    assert "val_mse 0.21 µV² (baseline 0.34)" in text, "the main score stands in the first table"
    assert "2 sessions brought bandvar_train to step 40 of 100; 1 open now." in text
    assert "Goodput0.45" in text and "Lost at kills and done again: 3 steps" in text and "Not results." in text
    alts = ["Bands of one channel.", "Training: Loss (1) against Step"]
    assert [img["alt"] for img in page.all("img")] == [f"{alt} (synthetic stand-in)" for alt in alts]
    assert all(int(img["width"]) > int(img["height"]) > 0 for img in page.all("img"))
    assert "You should see" in text, "the figure's words come from the notebook"
    assert "Table recordings of bandvar_train recording left out said P01ECG (by its name)-" in text


def test_the_main_figure_stands_above_facts_and_scores(calm):
    (calm / "bandvar_train/figures/excess.png").write_bytes((calm / "bandvar_train/figures/curves.png").read_bytes())
    page, _ = report_of(calm)
    text = Path("page.html").read_text("utf-8")
    section = text[text.index('id="phase-bandvar_train"') :]
    places = [section.index(f"<strong>{name}</strong>") for name in ("excess", "bands", "curves")]
    assert places == sorted(places) and section.count("<strong>excess</strong>") == 1
    assert places[0] < section.index('<dl class="facts">') < section.index("More figures") < places[1]


@pytest.mark.parametrize("charts", [1, 3], ids=["stored curves", "no stored curves"])
def test_every_chart_says_in_words_what_it_shows(calm, charts):
    if charts == 3:
        (calm / "bandvar_train/figures/curves.png").unlink()  # the sessions' chart, and now one a metric
    page, _ = report_of(calm)
    drawn = [attrs for attrs in page.all("svg") if attrs.get("role") == "img"]
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert len(drawn) == charts and all(set(chart["aria-labelledby"].split()) <= ids for chart in drawn)
    assert "val_mse from 0.9 at step 10 to 0.21 at step 40" in page.text


def test_ids_stand_once_and_all_that_is_pointed_at_is_there(calm):
    page, _ = report_of(calm)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"][1:] for tag, attrs in page.tags if attrs.get("href", "").startswith("#")}
    assert targets and targets <= set(ids)


def test_headings_follow_in_order(calm):
    page, _ = report_of(calm)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_nothing_of_a_store_becomes_markup(tmp_path, calm):
    page, _ = report_of(report_store.make_store(tmp_path / "evil", evil=True))
    assert page.text.count(EVIL) >= 5, "in an error, a score, a unit, a baseline and a note it is shown as text"
    assert not page.all("script") and not [a for tag, a in page.tags if any(name.startswith("on") for name in a)]
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in report_of(calm)[0].tags}
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy.partition("script-src")[2]


def test_the_page_asks_the_network_for_nothing(calm):
    page, _ = report_of(calm)
    for name, attribute in (("img", "src"), ("link", "href"), ("script", "src"), ("iframe", "src")):
        assert all(attrs.get(attribute, "data:").startswith("data:") for attrs in page.all(name))
    (frame,) = page.all("iframe")
    assert frame["sandbox"] == "allow-scripts" and "document.body" in frame["srcdoc"]


def test_a_view_that_asks_the_network_is_left_out_with_words(calm):
    store = calm
    path = store / "bandvar_train/pages/other.html"
    path.write_text('<script src="https://cdn.example.org/plotly.js"></script>')
    page, made = report_of(store)
    assert len(page.all("iframe")) == 1 and "asks the network for https://cdn.example.org/plotly.js" in made.notes[0]


def test_icons_do_not_keep_a_view_out():
    image = '<img src="data:image/png;base64,">'
    html, asks = without_requests(f'<link rel="icon" href="https://x/y.ico"><p>a\r\nb</p>{image}')
    assert (html, asks) == (f"<p>a\nb</p>{image}", [])


def test_a_views_scripts_are_known_by_their_hashes():
    texts = (b" a &amp; b", b"")
    hashes = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in texts]
    assert script_hashes("<script> a &amp; b</script><p>x</p><script type='x'></script>") == hashes
    assert f"'sha256-{hashes[0]}'" in content_policy(["<script> a &amp; b</script>"])
    assert "script-src" not in content_policy([])


def test_a_figure_of_169_megapixels_is_not_decoded(calm, monkeypatch):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side, pack = 13_000, zlib.compressobj(1)
    rows = b"".join(pack.compress(bytes(1 + side // 8) * 100) for _ in range(side // 100)) + pack.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path = calm / "bandvar_train/figures/huge.png"
    path.write_bytes(png)
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda file, **more: opened.append(file.getvalue()) or real(file, **more))
    _, made = report_of(calm)
    assert any("huge.png has 13,000 x 13,000 pixels" in note for note in made.notes)
    assert opened and png not in opened and made.figures == 2


DAMAGES = {
    "results.json": (b"{", "results.json is not a whole JSON"),
    "metrics.jsonl": (b'{"step": 1, "a": 1}\n{"st\n[]\n{"step": "x"}\n', "3 lines of metrics.jsonl are damaged"),
    "rehearsal.json": (b"[1]", "rehearsal.json does not hold a JSON object"),
    "figures/curves.png": (None, "figures/curves.png is not a whole PNG"),
    "tables/recordings.tsv": (b"a\tb\n1\n", "tables/recordings.tsv is not a whole table"),
    "checkpoints/step-000000040.json": (b"{}", "step-000000040.json is damaged"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_said_beside_what_is_whole(calm, name):
    store = calm
    content, words = DAMAGES[name]
    path = store / "bandvar_train" / name
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    page, made = report_of(store)
    assert words in page.text and any(words in note for note in made.notes)
    assert "Train the next-frequency-band model" in page.text and page.all("img") or name.startswith("figures")


@pytest.mark.parametrize(
    "results",
    [
        {"metrics": 3},
        {"metrics": {"a": 3, "b": {"value": "x"}, "c": {"value": True}}},
        {"metrics": {"a": {"value": 1}}},
        {"metrics": {"a": {"value": 1, "unit": 3, "baseline": None, "baseline_is": []}}, "data": 7},
    ],
)
def test_results_of_another_form_break_nothing(calm, results):
    store = calm
    (store / "bandvar_train/results.json").write_text(json.dumps(results))
    page, made = report_of(store)
    assert made.notes or "no baseline is stored" in page.text


def test_any_store_will_do(calm):
    page, made = report_of(calm)
    there = write_report(f"file://{calm}", "other.html")
    assert (there.scores, there.figures, there.views) == (made.scores, made.figures, made.views) == (2, 2, 1)


def test_a_drive_will_do_and_its_quota_is_shown(calm):
    drive_store = pytest.importorskip("nbkit.runtime.store.drive.store", reason="PyDrive2 is not installed")
    from nbkit.runtime.store.drive.credential import read_credential
    from tests.runtime.store.drive.drive_loopback import Loopback
    from tests.runtime.store.drive.drive_state import Plan

    made = write_report(str(calm), "page.html")
    with Loopback(Plan(retry_after="0")) as served:
        credential = read_credential(served.credential_text(), "the test")
        drive = drive_store.DriveStore(served.drive.made_folder, credential, first_wait=0.01)
        for path in sorted(path for path in calm.rglob("*") if path.is_file() and ".incoming" not in path.parts):
            drive.put(path, path.relative_to(calm).as_posix())
        there = write_report(drive, "other.html")
    assert (there.scores, there.figures, there.views) == (made.scores, made.figures, made.views)
    page = Read(Path("other.html").read_text("utf-8"))
    assert "(the Drive account)" in page.text and credential.refresh_token not in Path("other.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("labels", "odd"),
    [
        ({"data": "real: EEGBCI"}, False),
        ({"data": "real", "weights": "trained here; the twin's began at random"}, False),
        ({"data": "real", "weights": "random"}, True),
        ({"data": "pink noise"}, True),
        ({"weights": "trained here"}, True),
    ],
)
def test_what_is_no_result_is_marked(calm, labels, odd):
    path = calm / "bandvar_train/results.json"
    path.write_text(json.dumps({"metrics": json.loads(path.read_text())["metrics"]} | labels))
    page, _ = report_of(calm, "bandvar_train")
    assert any("odd" in attrs.get("class", "").split() for _, attrs in page.tags) == odd


def test_an_empty_store_has_a_page_too(tmp_path):
    page, made = report_of(tmp_path / "nothing here")
    assert made.phases == () and "No phase has begun in this store." in page.text
    assert not (tmp_path / "nothing here").exists()


def test_phases_beside_the_map_are_shown_and_other_folders_are_not(tmp_path):
    session = nbkit.open_session("my_own", store=tmp_path / "store")
    for item in session.work([{"key": "a"}]):
        with item:
            item.save(x=np.arange(3))
    session.close()
    (tmp_path / "store" / "Photos").mkdir()
    (tmp_path / "store" / "Photos" / "x.png").write_bytes(b"x")
    page, made = report_of(tmp_path / "store")
    assert made.phases == ("my_own",) and "Photos" not in page.text


def test_an_items_page_is_a_view(tmp_path):
    (tmp_path / "brain.html").write_text("<p>a brain</p>")
    session = nbkit.open_session("toy", store=tmp_path / "store")
    for item in session.work([{"key": "export"}]):
        with item:
            item.save(view=tmp_path / "brain.html")
    session.close()
    page, made = report_of(tmp_path / "store", "toy")
    assert made.views == 1 and page.all("iframe")[0]["srcdoc"] == "<p>a brain</p>"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/srv/someone/my-store", "my-store"),
        ("gdrive://abc", "gdrive://abc"),
        ("s3://key:secret@bucket/path?token=x", "s3://bucket/path"),
    ],
)
def test_no_secret_of_an_address_is_shown(url, shown):
    assert shown_url(url) == shown


def test_every_notebooks_figures_have_words():
    for phase in load_phases():
        assert set(captions_of(phase)) == set(phase.figures), phase.slug
        assert all("You should see" in words for words in captions_of(phase).values())


def test_the_command_writes_one_file(tmp_path, calm, capsys):
    store = calm
    before, _ = set(tmp_path.iterdir()), capsys.readouterr()
    assert cli.run(["report", "--store", str(store), "--out", "a/page.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["size"] == (tmp_path / "a/page.html").stat().st_size and told["phases"] == ["bandvar_train", "toy"]
    assert set(tmp_path.iterdir()) - before == {tmp_path / "a"} and len(list((tmp_path / "a").iterdir())) == 1
    assert cli.run(["report", "--store", str(store), "--out", "a"]) == 2
    assert "is a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "slugs", "words"),
    [
        (".", None, "is a folder"),
        ("file/page.html", None, "cannot be written to file/page.html"),
        ("page.html", ["bandvar_trian"], "no phase 'bandvar_trian'.*bandvar_train"),
        ("page.html", ["../x"], "Phase slug"),
    ],
)
def test_a_users_mistake_is_said_in_words(tmp_path, out, slugs, words):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=words):
        write_report(str(tmp_path / "store"), out, slugs)
    assert not Path("page.html").exists()


def test_more_than_a_phone_can_open_is_left_out_with_words(calm):
    for number in range(8):
        (calm / f"bandvar_train/pages/p{number}.html").write_text("<p>x</p>")
    lines = ["recording\tsaid", *(f"P{number:04d}\tok" for number in range(500))]
    (calm / "bandvar_train/tables/recordings.tsv").write_text("\n".join(lines))
    page, made = report_of(calm)
    assert "P0399" in page.text and "P0400" not in page.text and "100 more rows are in the store" in page.text
    assert made.views == 6 and "3 more pages are in the store, such as bandvar_train/pages/p5.html" in page.text


def test_the_first_table_has_interval_rivals_and_verdict(tmp_path):
    session = nbkit.open_session("decoding_compare", store=tmp_path / "store", folder=tmp_path / "work")
    session.note(data="real", weights="random")
    rival = {"name": "band powers", "value": 0.73, "difference": -0.12, "difference_low": -0.18, "p": 0.004,
             "difference_high": -0.06}  # fmt: skip
    said = {"unit": "1", "baseline": 0.73, "baseline_is": "band powers", "low": 0.57, "high": 0.66, "over": "36 groups"}
    session.result("balanced_accuracy_luna_frozen", 0.61, **said, rivals=[rival])
    session.close()
    write_report(str(tmp_path / "store"), tmp_path / "page.html")
    text = " ".join(Read((tmp_path / "page.html").read_text()).text.split())
    assert "0.61 [0.570, 0.660] over 36 groups" in text
    assert "worse: band powers 0.730 (difference −0.120 [−0.180, −0.060], p 0.004)" in text
