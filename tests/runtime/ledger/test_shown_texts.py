"""Texts of a store as people see them: what a hand has put there reaches no terminal as control characters."""

from __future__ import annotations

import json
import os
import time

import pytest

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.segments import encode_line
from nbkit.tools.report.page import write_report
from nbkit.tools.status.status import read_status
from nbkit.tools.status.table import words
from nbkit.tools.status.verify import verify_store
from nbkit.tools.status.verify import words as verify_words
from tests.runtime.ledger.odd_records import healthy, plant


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


ESCAPES = ("\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\ud800", "\u202eabc", "\r\x08")


@pytest.mark.parametrize("text", ESCAPES)
def test_no_text_of_a_store_steers_a_terminal(tmp_path, text, capsys):
    """Of what a hand has put into a store, readers show printable characters alone."""
    store = healthy(tmp_path / "store")
    opened = {"e": "open", "t": time.time() - 20, "host": text, "machine": f"m{text}", "boot": text}
    plant(store, [encode_line(opened)], "20260102T000000-bbbbbbbb")
    plant(store, [encode_line({"e": "open", "t": 1.7e9}), encode_line({"e": "close", "t": 1.7e9, "reason": text})],
          "20260102T000000-cccccccc")  # fmt: skip
    plant(store, [encode_line({"e": "failed", "k": "bad", "err": text, "t": 1.8e9})], "20260102T000000-dddddddd")
    metrics = {f"a{text}": {"value": 1, "unit": text, "baseline": 0, "baseline_is": text, "over": text}}
    (store.root / "p/results.json").write_text(json.dumps({"metrics": metrics, "data": text, text: text}))
    (store.root / "p/rehearsal.json").write_text(
        json.dumps({"sums": {"goodput": text}, "sessions": [{"session": text}]})
    )
    row = read_status(str(store.root), ["p"])
    said = [words(row, None, history=True), verify_words(verify_store(str(store.root)))]
    page = write_report(str(store.root), tmp_path / "page.html", ["p"])
    said += [page.words()]
    session = nbkit.open_session("p", store=store.root, folder=tmp_path / "work")
    with pytest.raises(UsageError, match="not a valid results.json") as caught:
        session.note(data="real")
    session.close()
    said += [str(caught.value), capsys.readouterr().out]
    for one in said:
        one.encode("utf-8")
        assert one.replace("\n", "").replace("\t", "").isprintable()
    assert "\x1b" not in (tmp_path / "page.html").read_text("utf-8")


def test_a_label_or_score_that_steers_a_terminal_is_refused(tmp_path):
    session = nbkit.open_session("p", store=tmp_path / "store", folder=tmp_path / "work")
    session.note(data="two\nlines")
    for call in (
        lambda: session.note(data="\x1b[2J"),
        lambda: session.result("a", 1.0, unit="1", baseline=0.0, baseline_is="\ud800"),
        lambda: session.result("a\x07", 1.0, unit="1", baseline=0.0, baseline_is="none"),
    ):
        with pytest.raises(UsageError, match="cannot be shown"):
            call()
    assert session.results.content == {"metrics": {}, "data": "two\nlines"}
    session.close()
