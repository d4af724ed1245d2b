"""The store over the Hub's own client: commits shared, content verified, listings remembered, faults in words."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nbkit.runtime.errors import StoreError, UsageError
from nbkit.runtime.store.hub.commits import EVERY
from nbkit.runtime.store.hub.credential import HubCredential
from nbkit.runtime.store.hub.store import HubStore
from nbkit.runtime.store.opening import open_store
from nbkit.runtime.store.retried import Retried
from nbkit.tools.commands.check import check_store
from tests import ROOT
from tests.runtime.children import fork
from tests.runtime.store.hub.hub_loopback import Loopback
from tests.runtime.store.hub.hub_state import AFTER, BEFORE, DOWNLOADS, TOKEN, Plan

REPO = "someone/nbkit"


@pytest.fixture
def hub():
    with Loopback(Plan()) as served:
        yield served


def store_of(hub: Loopback, every: float = 0.0) -> HubStore:
    return HubStore(REPO, HubCredential(TOKEN, hub.endpoint, "the test"), every, first_wait=0.01)


@pytest.fixture
def file(tmp_path):
    def write(content: str, name: str) -> Path:
        path = tmp_path / name
        path.write_text(content)
        return path

    return write


def commits(hub: Loopback) -> int:
    return len(hub.hub.repos[REPO]["commits"]) - 1


def in_threads(*calls) -> list[Exception]:
    faults: list[Exception] = []

    def make(call) -> None:
        try:
            call()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=make, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


def test_puts_of_one_interval_share_a_commit(hub, file):
    store = store_of(hub, every=1.0)
    paths = [file(f"content {i}", f"f{i}.npz") for i in range(40)]
    assert not in_threads(*(lambda p=p: store.put(p, f"items/{p.name}") for p in paths))
    assert len(hub.hub.tree()) == 40
    assert commits(hub) <= 2, "40 files, and a commit a file would meet the Hub's limit"


def test_commits_of_a_session_keep_their_distance(hub, file):
    store = store_of(hub, every=0.3)
    for i in range(3):
        store.put(file(str(i), f"f{i}"), f"a/{i}")
    at = [commit["at"] for commit in hub.hub.repos[REPO]["commits"][1:]]
    assert len(at) == 3 and min(b - a for a, b in zip(at, at[1:], strict=False)) >= 0.3
    assert EVERY == 60.0


def test_files_put_together_appear_together_or_not_at_all(hub, file):
    store = store_of(hub)
    hub.hub.plan.limit = 0  # contents are sent, and then the commit is refused
    files = [(file("weights", "a.ckpt"), "a/step.ckpt"), (file("receipt", "a.json"), "a/step.json")]
    with pytest.raises(StoreError) as caught:
        store.put_together(files)
    assert caught.value.passing and hub.hub.tree() == {}
    hub.hub.plan.limit = None
    store.put_together(files)
    assert sorted(hub.hub.tree()) == ["a/step.ckpt", "a/step.json"] and commits(hub) == 1


def test_commit_whose_answer_is_lost_is_found_and_not_made_again(hub, file):
    store = store_of(hub)
    for i, kind in enumerate(AFTER):
        hub.hub.plan.fail_next = [kind]
        store.put(file(kind, f"{i}.npz"), f"a/{i}.npz")
    assert commits(hub) == 2


def test_same_content_again_makes_no_commit_and_waits_for_none(hub, file):
    store_of(hub).put(file("x", "x.npz"), "a/x.npz")
    again = store_of(hub, every=30.0)
    again.put(file("y", "y"), "a/y")  # from now on a commit would wait 30 s
    began = time.monotonic()
    again.put(file("x", "x.npz"), "a/x.npz")
    assert time.monotonic() - began < 10 and commits(hub) == 2


def test_unchanged_head_answers_a_listing_without_fetching_it(hub, file):
    store = store_of(hub)
    store.put(file("x", "x"), "a/x")
    for _ in range(3):
        assert [s.name for s in store.list("a/")] == ["a/x"]
    assert hub.hub.counts["tree"] == 1
    store_of(hub).put(file("y", "y"), "a/y")
    assert [s.name for s in store.list("a/")] == ["a/x", "a/y"] and hub.hub.counts["tree"] == 2


def test_listing_of_many_pages_is_whole(hub, file):
    hub.hub.plan.page = 3
    store = store_of(hub)
    store.put_together([(file(str(i), f"f{i}"), f"a/b/{i}") for i in range(10)])
    assert [s.name for s in store.list("a/")] == [f"a/b/{i}" for i in range(10)]


def test_content_that_another_session_replaced_is_fetched_whole(hub, file, tmp_path):
    store = store_of(hub)
    store.put(file("old", "x.npz"), "a/x.npz")
    assert len(list(store.list("a/"))) == 1, "from now on this content is remembered"
    store_of(hub).put(file("newer", "y.npz"), "a/x.npz")
    store.get("a/x.npz", tmp_path / "got")
    assert (tmp_path / "got").read_text() == "newer"


@pytest.mark.parametrize("kind", DOWNLOADS)
@pytest.mark.parametrize("name", ["a/x.npz", "a/x.txt"])
def test_damaged_download_is_noticed_and_fetched_again(hub, file, tmp_path, kind, name):
    store = store_of(hub)
    store.put(file("0123456789" * 50, "x"), name)
    hub.hub.plan.kinds = (kind,)
    hub.hub.plan.rate = 1.0
    with pytest.raises(StoreError) as caught:
        store.get(name, tmp_path / "got")
    assert caught.value.passing
    hub.hub.plan.rate = 0.0
    store.get(name, tmp_path / "got")
    assert (tmp_path / "got").read_text() == "0123456789" * 50


@pytest.mark.parametrize("kind", BEFORE)
def test_passing_fault_of_any_request_is_outlived(hub, file, tmp_path, kind):
    store = Retried(store_of(hub), first_wait=0.01)
    for i in range(2):
        hub.hub.plan.fail_next = [kind]
        store.put(file(f"{i}", f"{i}"), f"a/{i}")
        hub.hub.plan.fail_next = [kind]
        assert len(list(store.list("a/"))) == i + 1
        hub.hub.plan.fail_next = [kind]
        store.get(f"a/{i}", tmp_path / "got")
    assert sum(hub.hub.faults.values()) == 6


def test_deletions_go_with_the_next_commit_and_are_hidden_at_once(hub, file):
    store = store_of(hub, every=3.0)
    store.put_together([(file(str(i), f"f{i}"), f"a/{i}") for i in range(5)])
    began = time.monotonic()
    for i in range(4):
        store.delete(f"a/{i}")
    assert time.monotonic() - began < 2, "a deletion waits for no commit"
    assert [s.name for s in store.list("a/")] == ["a/4"] and store.stat("a/0") is None
    store.put(file("new", "new"), "a/0")
    store.settle()
    assert sorted(hub.hub.tree()) == ["a/0", "a/4"] and commits(hub) <= 3


@pytest.mark.parametrize("listed", [False, True], ids=["never listed", "listed before"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("asked", ["head", "tree", "entries"])
def test_what_was_deleted_is_not_seen_whenever_its_commit_is_made(
    asked, when, listed, hub, file, tmp_path, monkeypatch
):
    store = store_of(hub)
    looks = {"list": lambda: [one.name for one in store.list()], "stat": lambda: store.stat("a/x")}
    for look, see in looks.items():
        store.put(file("x", "x"), "a/x")
        store.put(file("y", "y"), "a/y")
        assert not listed or "a/x" in looks["list"]()
        monkeypatch.setattr(store._commits, "_every", 4.0)  # the deletion waits until it is told to go
        store.delete("a/x")
        ask = getattr(store._access, asked)

        def meanwhile(*arguments, ask=ask):
            monkeypatch.setattr(store._access, asked, ask)
            if when == "before":
                store.settle()
            answer = ask(*arguments)
            store.settle()
            return answer

        monkeypatch.setattr(store._access, asked, meanwhile)
        assert see() == {"list": ["a/y"], "stat": None}[look]
        monkeypatch.setattr(store._access, asked, ask)
        store.settle()
        monkeypatch.setattr(store._commits, "_every", 0.0)
        with pytest.raises(FileNotFoundError):
            store.get("a/x", tmp_path / "got")


def test_two_sessions_that_delete_the_same_end_both(hub, file):
    store_of(hub).put_together([(file(str(i), f"f{i}"), f"a/{i}") for i in range(5)])
    stores = [store_of(hub), store_of(hub)]
    assert not in_threads(*(lambda s=s, i=i: s.delete(f"a/{i}") for i in range(5) for s in stores))
    for store in stores:
        store.settle()
    assert hub.hub.tree() == {}


def test_deletions_that_wait_are_made_when_the_process_ends(hub, file, tmp_path):
    import os

    store_of(hub).put(file("x", "x"), "a/x")
    pid = fork(lambda: _delete_and_leave(hub, "a/x"), tmp_path / "log")
    os.waitpid(pid, 0)
    assert hub.hub.tree() == {}, (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""


def _delete_and_leave(hub: Loopback, name: str) -> None:
    store = store_of(hub, every=0.2)
    store.delete(name)
    store._leave()  # what the interpreter calls at its end, which a forked child of a test skips


def test_file_that_vanishes_while_it_waits_fails_alone(hub, file, tmp_path):
    store = store_of(hub, every=1.0)
    store.put(file("first", "first"), "a/first")
    paths = [file("x" * 10, f"f{i}.npz") for i in range(3)]
    timer = threading.Timer(0.3, paths[1].unlink)
    timer.start()
    faults = in_threads(*(lambda p=p: store.put(p, f"a/{p.name}") for p in paths))
    assert [type(fault) for fault in faults] == [FileNotFoundError] and "f1.npz" in str(faults[0])
    assert sorted(hub.hub.tree()) == ["a/f0.npz", "a/f2.npz", "a/first"]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"revoked": True}, "no longer works.*the test.*'nbkit login hf'"),
        ({"read_only": True}, "may not do this.*right to write.*settings/tokens"),
        ({"full": True}, "storage is full.*safe"),
    ],
    ids=["revoked", "read only", "full"],
)
def test_permanent_fault_says_what_to_do(hub, file, plan, words):
    for name, value in plan.items():
        setattr(hub.hub.plan, name, value)
    with pytest.raises(StoreError, match=words) as caught:
        store_of(hub).put(file("x", "x.npz"), "a/x.npz")
    assert not caught.value.passing and TOKEN not in str(caught.value)


def test_commit_limit_of_the_hub_is_passing_with_its_wait(hub, file):
    hub.hub.plan.limit = 0
    with pytest.raises(StoreError) as caught:
        store_of(hub).put(file("x", "x"), "a/x")
    assert caught.value.passing and caught.value.retry_after == 3000.0


def test_data_set_that_is_not_there_is_said(hub):
    store = HubStore("someone/other", HubCredential(TOKEN, hub.endpoint, "the test"), 0.0, first_wait=0.01)
    with pytest.raises(StoreError, match="no data set someone/other.*'nbkit login hf'"):
        list(store.list())


def test_addresses(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    assert open_store("hf://datasets/someone/nbkit/").url == "hf://datasets/someone/nbkit"
    assert hub.hub.counts["all"] == 0, "opening asks nobody"
    for url in ("hf://someone/nbkit", "hf://datasets/someone", "hf://datasets/a/b/c", "hf://models/a/b"):
        with pytest.raises(UsageError, match="names no data set"):
            open_store(url)
    monkeypatch.setenv("NBKIT_HUB_COMMIT_SECONDS", "often")
    with pytest.raises(UsageError, match="'often'.*such as 60"):
        open_store("hf://datasets/someone/nbkit")


def test_check_writes_reads_and_deletes_at_once(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    began = time.monotonic()
    assert check_store(hub.url).state == "ok"
    assert hub.hub.tree() == {} and time.monotonic() - began < 20, "it may not wait a minute for its second commit"


_IMPORTED_FIRST = """import os, sys
from pathlib import Path
from huggingface_hub import HfApi, constants
assert not constants.HF_HUB_DISABLE_XET
from nbkit.runtime.store.hub.credential import HubCredential
from nbkit.runtime.store.hub.store import HubStore
print(constants.HF_HUB_DISABLE_XET)
if len(sys.argv) == 4:
    credential = HubCredential(os.environ["HF_TOKEN"], sys.argv[2], "x")
    HubStore(sys.argv[1], credential, 0.0).put(Path(sys.argv[3]), "a/x.npz")
"""


@pytest.mark.parametrize("asked", [None, "0"])
def test_client_that_was_imported_before_sends_by_plain_http_unless_the_user_asks_for_xet(hub, file, asked):
    """Transformers imports the client before a notebook opens its store; the client reads its variable only then."""
    environ = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    environ |= {"PYTHONPATH": str(ROOT), "HF_TOKEN": TOKEN} | ({} if asked is None else {"HF_HUB_DISABLE_XET": asked})
    put = [REPO, hub.endpoint, str(file("content", "x"))] if asked is None else []
    command = [sys.executable, "-c", _IMPORTED_FIRST, *put]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(asked is None)]
    assert [*hub.hub.tree()] == (["a/x.npz"] if asked is None else [])
