"""A manifest with a fault is refused with the line, before anything is begun; a whole one is read exactly."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame as frame

from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.manifest import parse_shard, read_manifest, read_seed_manifest, rows_left, write_seed_manifest


@pytest.fixture
def tsv(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "eeg_windows.tsv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_rows_in_their_order(tsv):
    manifest = read_manifest(tsv("key\tpath\nb\tx y\n# a comment\n\na\té\n"))
    assert [dict(row) for row in manifest] == [{"key": "b", "path": "x y"}, {"key": "a", "path": "é"}]
    assert (manifest.name, len(manifest), manifest.keys) == ("eeg_windows", 2, ["b", "a"])


@pytest.mark.parametrize("content", ["key\tn\na\t1\nb\t2\n", "key\tn\r\na\t1\r\nb\t2\r\n", "\ufeffkey\tn\na\t1\nb\t2",
                                     "n\tkey\n1\ta\n2\tb", "\ufeffkey\tn\r\na\t1\r\n\r\nb\t2\r\n\r\n"])  # fmt: skip
def test_byte_order_mark_line_ends_and_column_order_do_not_matter(tsv, content):
    assert [(row["key"], row["n"]) for row in read_manifest(tsv(content))] == [("a", "1"), ("b", "2")]


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=6)


@given(st.lists(CELLS, max_size=4), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.booleans())
def test_whatever_ends_its_lines_a_manifest_is_the_same(tmp_path_factory, cells, end, ended, marked):
    path = tmp_path_factory.mktemp("ends") / "eeg_windows.tsv"
    lines = ["key\tcell", *(f"k{number}\t{cell}" for number, cell in enumerate(cells))]
    path.write_bytes((("\ufeff" * marked) + end.join(lines) + end * ended).encode())
    assert [(row["key"], row["cell"]) for row in read_manifest(path)] == [(f"k{i}", c) for i, c in enumerate(cells)]


ODD = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029) if chr(code) not in "\t\n"]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_a_character_that_may_be_meant_as_a_line_end_or_that_nobody_sees_is_refused_with_its_line(tsv, odd):
    what = "NUL" if odd == "\0" else re.escape(f"the control character {odd!r}")
    for content in (f"key\tx\na\t1{odd}2\n", f"key\tx\na\t{odd}{odd}\nb\t3", f"#\n#{odd}#\n"):
        with pytest.raises(UsageError, match=f"line 2: holds a?.?{what}.*Nothing was begun"):
            read_manifest(tsv(content))
    if odd != "\r":
        with pytest.raises(UsageError, match="line 1: holds"):
            read_manifest(tsv(f"key\tpath{odd}s1\ta.edf{odd}s2\tb.edf{odd}"))


@pytest.mark.parametrize("content", ["key\r", "key\n", "key", "key\tx\n\n\n", "\ufeffkey\n# nothing yet\n"])
def test_no_rows_is_no_fault(tsv, content):
    assert len(read_manifest(tsv(content))) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1.*no column 'key'"),
        ("name\tpath\na\tb\n", "line 1.*no column 'key'"),
        ("key\tkey\na\tb\n", "line 1.*twice"),
        ("key\tpath\na\tb\nc\n", "line 3: 1 cells where the header has 2"),
        ("key\tpath\na\tb\nc\td\te\n", "line 3: 3 cells"),
        ("key\na\nb\n\n# x\na\n", "line 6: the key 'a' is already in line 2"),
        ("key\tx\na\t1\n\t2\n", "line 3.*empty"),
        ("key\n../x\n", "line 2.*segment '..'"),
        ("key\nok\n/abs\n", "line 3.*absolute"),
        ("key\na\\b\n", "line 2.*holds"),
        ("key\na\x07b\n", "line 2.*control"),
        ("key\na\r\rb\n", "line 2.*control"),
        ("key\n.hidden\n", "line 2.*dot"),
        (f"key\n{'x' * 5000}\n", "line 2.*5000 bytes"),
        (b"key\tn\na\t1\nb\xff\t2\n", "line 3: byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbfkey\na\nb\nc\xe9\n", "line 4: byte 0xe9 is not UTF-8"),
        (b"\xef\xbb\xbfkey\n\xe9\n", "line 2: byte 0xe9 is not UTF-8"),
        ("key\na\n".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
    ],
)
def test_faults_are_refused_with_the_line(tsv, content, words):
    path = tsv(content)
    with pytest.raises(UsageError, match=f"(?s){words}.*(N|n)othing was (begun|written)") as caught:
        read_manifest(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 5600


def test_a_missing_manifest_names_those_that_are_there(tmp_path, monkeypatch):
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "eeg_windows.tsv").write_text("key\na\n")
    monkeypatch.chdir(tmp_path)
    assert read_manifest("eeg_windows").keys == ["a"]
    with pytest.raises(UsageError, match="(?s)eeg_window.*one of eeg_windows"):
        read_manifest("eeg_window")
    with pytest.raises(UsageError, match="no manifest"):
        read_manifest(tmp_path / "nothing.tsv")
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(UsageError, match="no manifest.*which is a folder"):
        read_manifest("folder.tsv")
    for wrong in ("../eeg_windows", "/etc/passwd", "", "x" * 300 + ".tsv", "a\0.tsv"):
        with pytest.raises(UsageError):
            read_manifest(wrong)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"key": "a"}, {"key": "a"}], "row 2: the key 'a' is already in row 1"),
        ([{"key": "a", "x": 1}, {"key": "b"}], "Row 2 has the columns"),
        ([{"x": 1}], "Row 1 has the columns"),
        ([{"key": "a", "x": "1\t2"}], "Row 1 .*tab"),
        ([{"key": "a", "x": "1\n2"}], "Row 1 .*line end"),
        ([{"key": "../a"}], "row 1.*segment"),
    ],
)
def test_rows_with_a_fault(rows, words):
    with pytest.raises(UsageError, match=words):
        read_manifest(rows)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (None, "The rows are None"),
        (5, "The rows are 5"),
        (b"eeg", "The rows are b'eeg'"),
        ({"key": "a"}, "The rows are one mapping.*put it into a list"),
        ([1], "Row 1 is 1 .int."),
        ([{"key": "a"}, None], "Row 2 is None"),
        (["a", "b"], "Row 1 is 'a'.*For keys alone: "),
        ([("key", "a")], "Row 1 is .'key', 'a'. .tuple."),
        ([["key"] * 99], "Row 1 is .*[.]{3} .list."),
        ([{"key": "q", 5: "x"}], "a column 5, which is no text"),
        (frame({"key": [1], "x": [2]}).set_axis(["key", "key"], axis=1), "has the column 'key' twice"),
        (frame({"x": [2]}), "Row 1 has the columns"),
    ],
)
def test_what_are_no_rows_is_refused_in_words(rows, words):
    with pytest.raises(UsageError, match=f"(?s){words}.*Nothing was begun"):
        read_manifest(rows)


def test_an_error_of_ones_own_in_rows_stays_what_it_is():
    with pytest.raises(ValueError, match="my own") as caught:
        read_manifest({"key": int("my own")} for _ in range(2))
    assert not isinstance(caught.value, UsageError)


def test_a_data_frame_is_its_rows():
    rows = read_manifest(frame({"key": ["b", "a"], "n": [1, 2], "x": [0.5, 2.0]}, index=[7, 9]))
    assert [dict(row) for row in rows] == [{"key": "b", "n": "1", "x": "0.5"}, {"key": "a", "n": "2", "x": "2.0"}]
    assert len(read_manifest(frame({"key": []}))) == 0


def test_rows_take_any_value_and_nothing_is_no_fault():
    manifest = read_manifest(({"key": i, "n": i / 2} for i in range(3)), "toy")
    assert manifest.row(1) == {"key": "1", "n": "0.5"} and manifest.name == "toy"
    assert len(read_manifest([])) == 0
    assert read_manifest(manifest) is manifest


@given(st.integers(1, 12), st.sets(st.text("abc019-", min_size=1, max_size=6), max_size=60))
def test_shards_are_a_partition(count, keys):
    whole = read_manifest([{"key": key} for key in sorted(keys)])
    parts = [whole.shard(f"{i}/{count}").keys for i in range(1, count + 1)]
    assert sorted(sum(parts, [])) == whole.keys
    assert whole.shard(None).keys == whole.keys


def test_shards_do_not_depend_on_the_other_rows_and_are_even():
    keys = [f"sub-{i:04d}" for i in range(3000)]
    whole = read_manifest([{"key": key} for key in keys])
    some = read_manifest([{"key": key} for key in keys[::3]])
    for i in range(1, 6):
        part = whole.shard(f"{i}/5").keys
        assert set(some.shard(f"{i}/5").keys) == set(part) & set(keys[::3])
        assert 480 < len(part) < 720


@pytest.mark.parametrize("part", ["0/5", "6/5", "1", "a/b", "1/0", "-1/5", "1/5/2", "", "²/3", 3])
def test_refused_shards(part):
    with pytest.raises(UsageError, match="is not valid. Write '2/5'"):
        parse_shard(part)


def test_a_million_rows(tmp_path):
    path = tmp_path / "many.tsv"
    path.write_text("key\tpath\n" + "".join(f"sub-{i:07d}/run-1\tdata/{i}.edf\n" for i in range(1_000_000)))
    manifest = read_manifest(path)
    assert len(manifest) == 1_000_000 and manifest.row(999_999)["path"] == "data/999999.edf"


def test_seed_manifest_round_trip(tmp_path):
    path = tmp_path / "manifest.json"
    write_seed_manifest(path, {"b", "a/é"})
    assert json.loads(path.read_text("utf-8")) == {"a/é": "done", "b": "done"}
    path.write_text(json.dumps({"a": "done", "b": "failed", "c": "done"}))
    assert read_seed_manifest(path) == {"a", "c"}


def test_what_an_earlier_project_did_is_left_out(tmp_path, capsys):
    rows = [{"key": key} for key in "abc"]
    assert rows_left(rows, None) == rows
    write_seed_manifest(tmp_path / "manifest.json", {"b", "z"})
    assert rows_left(rows, tmp_path / "manifest.json") == [{"key": "a"}, {"key": "c"}]
    assert "1 of 3 items are done there" in capsys.readouterr().out
    with pytest.raises(UsageError, match="All 1 items are done"):
        rows_left(rows[1:2], tmp_path / "manifest.json")
    with pytest.raises(UsageError, match="There is no file"):
        rows_left(rows, tmp_path / "none.json")


@pytest.mark.parametrize("content", [b'{"a": "done"', b"", b"[1]", b'{"a": 1}', b"\xff", b'{"../a": "done"}'])
def test_seed_manifests_with_a_fault(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UsageError, match="nothing was taken|Nothing was written"):
        read_seed_manifest(tmp_path / "manifest.json")


def test_rows_that_belong_together_go_to_the_same_session():
    rows = [{"key": f"v{v}-{part}", "together": f"v{v}"} for v in range(40) for part in range(5)]
    whole = read_manifest(rows)
    parts = [list(whole.shard(f"{i}/4")) for i in range(1, 5)]
    assert sorted(row["key"] for part in parts for row in part) == sorted(row["key"] for row in rows)
    videos = [{row["together"] for row in part} for part in parts]
    assert sum(map(len, videos)) == 40 and all(videos)
    alone = read_manifest([{"key": f"k{i}", "together": ""} for i in range(40)])
    plain = read_manifest([{"key": f"k{i}"} for i in range(40)])
    assert alone.shard("2/3").keys == plain.shard("2/3").keys
