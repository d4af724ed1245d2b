"""Lines with right checksums that are no records, beside a healthy session: what any reader of a store may meet."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from nbkit.runtime.ledger.segments import MERGED, encode_line, segment_of
from nbkit.runtime.store.folder import FolderStore

HEALTHY = "20260101T000000-aaaaaaaa"
OUTSIDE = ("../x", "/x", "other/items/a.npz", "p/../x", "p//x", "p/.x", "p/\x1b[2J", "p/a\\b")
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=6),
    st.sampled_from([10**400, 1e308, -1, "x", "2/5", "9/5", "1/99999999", "0/0", *OUTSIDE, "\udcff", "\x1b[31m"]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
KINDS = ("done", "failed", "died", "begun", "ended", "settings", "open", "close", "merged", "from", "was", "new")
FIELDS = (
    "k", "o", "s", "v", "t", "err", "n", "of", "how", "settings", "host", "shard", "limit", "done", "step", "complete",
    "left", "failed", "max_steps", "reason", "ending", "sealed", "replaces", "r", "format", "c",
)  # fmt: skip
NAMES = st.sampled_from([f"p/ledger/{HEALTHY}", f"p/ledger/{HEALTHY}~late", "p/ledger/merged", "p"])
OUTPUTS = st.lists(st.tuples(st.sampled_from([*OUTSIDE, "p/items/a.npz"]), VALUES, VALUES).map(list), max_size=2)


def records() -> st.SearchStrategy[Any]:
    """Return records of every kind in which any field may hold anything, and values that are no objects at all."""
    fields = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5)
    made = st.builds(lambda kind, more: {"e": kind, **more}, st.sampled_from(KINDS) | VALUES, fields)
    likely = st.builds(
        lambda record, key, outputs, sealed: record | {"k": key, "o": outputs, "sealed": sealed, "replaces": sealed},
        made, LEAVES, OUTPUTS, st.lists(NAMES, max_size=2),
    )  # fmt: skip
    wrapped = st.builds(lambda inner: {"e": "was", "r": inner}, made | VALUES)
    return made | likely | wrapped | VALUES


def whole_line(value: Any) -> str:
    """Return a value as a line with its checksum, as far as a value that is no object can have one."""
    if isinstance(value, dict) and value:
        return encode_line(value)
    text = json.dumps(value)
    return f'{text},"c":"{zlib.crc32(text.encode()):08x}"}}' if len(text) % 2 else text


def plant(store: FolderStore, lines: list[str], session: str = "20260102T000000-bbbbbbbb", first: int = 1) -> str:
    """Write lines as an intact segment of a session and return its name."""
    segment, data = segment_of("p", session, first, lines)
    path = store.path(segment.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return segment.name


def healthy(folder: Path) -> FolderStore:
    """Return a store with one session that did an item, failed one, and closed."""
    store = FolderStore(folder)
    path = store.path("p/items/good.npz")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    content = ["p/items/good.npz", 7, "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"]
    rows = [
        {"e": "open", "t": 1.7e9, "host": "local", "step": 0, "done": 0},
        {"e": "done", "k": "good", "o": [content], "s": 1.0},
        {"e": "failed", "k": "bad", "err": "ValueError: no", "t": 1.7e9 + 1},
        {"e": "close", "t": 1.7e9 + 2, "done": 1, "left": 1, "failed": 0, "complete": False, "reason": "left", "of": 2},
    ]
    plant(store, [encode_line(row) for row in rows], HEALTHY)
    return store


DEEP = "[" * 5000 + "]" * 5000
ODD = {
    "a number": "5",
    "text": '"done"',
    "null": "null",
    "a list": "[]",
    "two records": '{"e":"died","k":"a"},{"e":"died","k":"b"}',
    "no kind": "{}",
    "no JSON": "{",
    "a kind that is a list": '{"e":[]}',
    "an unknown kind": '{"e":"new","k":"a"}',
    "a newer format": '{"e":"done","k":"a","o":[],"format":2}',
    "a format that is text": '{"e":"done","k":"a","o":[],"format":"2"}',
    "no key": '{"e":"done","o":[]}',
    "a list as key": '{"e":"failed","k":["a"]}',
    "a key outside": '{"e":"done","k":"../../x","o":[]}',
    "an empty key": '{"e":"died","k":""}',
    "a key that steers a terminal": '{"e":"failed","k":"\\u001b[2J"}',
    "half of a character": '{"e":"failed","k":"\\ud800"}',
    "no outputs": '{"e":"done","k":"a"}',
    "outputs as text": '{"e":"done","k":"a","o":"p/items/a"}',
    "an output as text": '{"e":"done","k":"a","o":["p/items/a"]}',
    "an output without a hash": '{"e":"done","k":"a","o":[["p/items/a.npz",1]]}',
    "an output outside": '{"e":"done","k":"a","o":[["p/../../x",1,"aa"]]}',
    "an output of another phase": '{"e":"done","k":"a","o":[["q/items/a.npz",1,"aa"]]}',
    "a negative size": '{"e":"done","k":"a","o":[["p/items/a.npz",-1,"aa"]]}',
    "text as time": '{"e":"failed","k":"a","t":"now"}',
    "a time far off": '{"e":"open","t":1e300}',
    "NaN": '{"e":"failed","k":"a","t":NaN}',
    "infinity": '{"e":"close","ending":Infinity}',
    "a number out of range": '{"e":"done","k":"a","o":[],"s":1e999}',
    "a number of 5000 digits": f'{{"e":"open","t":{"9" * 5000}}}',
    "a number of 400 digits": f'{{"e":"open","step":{"9" * 400}}}',
    "deep nesting": DEEP,
    "deep nesting in a field": f'{{"e":"settings","settings":{{"a":{DEEP}}}}}',
    "settings nested as deep as JSON goes": f'{{"e":"settings","settings":{{"a":{"[" * 300 + "]" * 300}}}}}',
    "settings as text": '{"e":"settings","settings":"x"}',
    "a shard that is none": '{"e":"open","t":1,"shard":"x"}',
    "a shard of a billion": '{"e":"open","t":1,"shard":"1/1000000000"}',
    "a shard beyond its count": '{"e":"open","t":1,"shard":"3/2"}',
    "a limit as text": '{"e":"open","t":1,"limit":"9h"}',
    "a step that is true": '{"e":"close","t":1,"step":true}',
    "a death in no session": '{"e":"died","k":"a","of":"../x"}',
    "a claim of text": '{"e":"begun","n":1,"k":"abc"}',
    "an end without a session": '{"e":"ended","how":"outside"}',
    "a host that steers a terminal": '{"e":"open","t":1,"host":"\\u001b[2J"}',
    "a machine with half a character": '{"e":"open","t":1,"machine":"\\ud800"}',
    "a boot of two lines": '{"e":"open","t":1,"boot":"a\\nb"}',
    "a reason that steers a terminal": '{"e":"close","t":1,"reason":"\\u001b]0;x\\u0007"}',
    "a reason with half a character": '{"e":"close","t":1,"reason":"\\ud800"}',
    "a host of 5000 characters": f'{{"e":"open","t":1,"host":"{"h" * 5000}"}}',
    "an end that steers a terminal": '{"e":"ended","of":"s","how":"\\u009b2J"}',
    "a checksum that steers a terminal": '{"e":"done","k":"a","o":[["p/items/a.npz",1,"\\u001b[2J"]]}',
    "a merged record among a session's": f'{{"e":"merged","sealed":["p/ledger/{HEALTHY}"],"replaces":[]}}',
}
MERGED_ODD = {
    "seals what it does not hold": f'{{"e":"merged","sealed":["p/ledger/{HEALTHY}"],"replaces":[]}}',
    "replaces a session's segment": f'{{"e":"merged","sealed":[],"replaces":["p/ledger/{HEALTHY}/x"]}}',
    "sealed is a number": '{"e":"merged","sealed":5,"replaces":[]}',
    "a record of nobody": '{"e":"was","r":{"e":"died","k":"a"}}',
    "was a number": '{"e":"was","r":5}',
    "was a merged one": '{"e":"was","r":{"e":"merged","sealed":[],"replaces":[]}}',
    "from a list": '{"e":"from","of":[],"n":1}',
    "from number 0": f'{{"e":"from","of":"{HEALTHY}","n":0}}',
    "from above": '{"e":"from","of":"../..","n":1}',
}
assert MERGED == "merged"
