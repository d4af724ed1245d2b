"""What Drive's refusals come to: passing ones are outlasted, permanent ones are said in words, and nothing is lost."""

from __future__ import annotations

import email.utils
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from nbkit.runtime.errors import StoreError
from nbkit.runtime.session import open_session
from nbkit.runtime.store import retried
from nbkit.runtime.store.drive.access import TRIES
from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.store import DriveStore
from nbkit.runtime.store.retried import Retried
from tests.runtime.store.drive.drive_loopback import Loopback
from tests.runtime.store.drive.drive_state import AFTER, BEFORE, Plan, md5_of


@pytest.fixture
def drive():
    with Loopback(Plan(retry_after="0")) as served:
        yield served


def store_of(drive: Loopback, **options: object) -> DriveStore:
    credential = read_credential(drive.credential_text(), "the dataset me/secrets")
    return DriveStore(drive.drive.made_folder, credential, **{"first_wait": 0.01, **options})


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(5000))
    return path


def fail_at(drive: Loopback, number: int, kind: str) -> list[int]:
    """Make the n-th request fail."""
    seen = [0]

    def fault(kinds: tuple[str, ...]) -> str | None:
        seen[0] += 1
        return kind if seen[0] == number and kind in kinds else None

    drive.drive.fault = fault
    return seen


@pytest.mark.parametrize("kind", BEFORE + AFTER)
def test_one_fault_at_any_request_of_put_get_list_delete_leaves_one_file_or_none(drive, file, tmp_path, kind):
    number = 0
    while True:
        number += 1
        name = f"a/{number}/x"
        store = store_of(drive)
        seen = fail_at(drive, number, kind)
        store.put(file, name)
        assert [f for f in drive.drive.tree() if f[0] == name] == [(name, md5_of(file), 5000)], f"request {number}"
        store.get(name, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == file.read_bytes()
        assert name in [stat.name for stat in store.list("a/")]
        store.put(tmp_path / "back", name)
        store.delete(name)
        assert name not in [f[0] for f in drive.drive.tree()]
        if seen[0] < number:
            break
    assert number > 12, "the fault must have met every request"


@pytest.mark.parametrize("kind", [k for k in BEFORE if k != "expired"] + list(AFTER))
def test_faults_that_do_not_end_are_passing_and_end_the_call(drive, file, kind):
    store = store_of(drive)
    store.put(file, "a/first")
    drive.drive.plan.rate, drive.drive.plan.kinds = 1.0, (kind,)
    before = drive.drive.counts["all"]
    file.write_bytes(b"other content")
    with pytest.raises(StoreError) as caught:
        store.put(file, "a/first")
    assert caught.value.passing
    assert drive.drive.counts["all"] - before <= 2 * TRIES + 2  # the connection itself repeats what was dropped


def test_a_new_access_token_that_is_refused_too_is_no_lost_login(drive, file):
    drive.drive.plan.rate, drive.drive.plan.kinds = 1.0, ("expired",)
    with pytest.raises(StoreError, match="the login itself is good") as caught:
        store_of(drive).put(file, "a/x")
    assert caught.value.passing


@pytest.mark.parametrize("asked", ["30", "date"])
def test_a_long_retry_after_goes_up_to_those_who_know_the_wall(drive, file, asked, monkeypatch):
    waits = []
    monkeypatch.setattr(retried, "time", SimpleNamespace(sleep=waits.append, time=time.time))
    store = store_of(drive)
    store.put(file, "a/first")
    date = email.utils.formatdate(time.time() + 3600.5, usegmt=True)
    drive.drive.plan.retry_after = date if asked == "date" else asked
    drive.drive.plan.fail_next = ["busy503"]
    with pytest.raises(StoreError) as caught:
        store.put(file, "a/x")
    assert caught.value.passing
    assert caught.value.retry_after == 30 if asked == "30" else 3000 < caught.value.retry_after <= 3601
    drive.drive.plan.fail_next = ["busy503"]
    with pytest.raises(StoreError):
        Retried(store, time_left=lambda: 10.0).put(file, "a/x")
    assert waits == [], "no wait may go past the wall"


def test_an_answer_that_does_not_come_ends_in_time(drive, file):
    store = store_of(drive, timeout=0.2)
    store.put(file, "a/first")
    drive.drive.plan.slow = 50
    with pytest.raises(StoreError, match="no answer in time") as caught:
        store.put(file, "a/x")
    assert caught.value.passing
    drive.drive.plan.slow = 0
    store.put(file, "a/x")
    assert [name for name, _, _ in drive.drive.tree()].count("a/x") == 1


def test_a_server_that_is_gone_is_passing(drive, file):
    store = store_of(drive)
    drive.close()
    with pytest.raises(StoreError, match="the connection broke") as caught:
        store.put(file, "a/x")
    assert caught.value.passing


@pytest.mark.parametrize("size", [5000, 600_000])
def test_a_full_drive_is_said_in_words_and_not_tried_again(drive, tmp_path, size):
    path, store = tmp_path / "file", store_of(drive, chunk=256 << 10, small=100_000)
    path.write_bytes(b"x" * 5000)
    store.put(path, "a/first")
    drive.drive.plan.quota = 6000
    path.write_bytes(os.urandom(size))
    before = drive.drive.counts["all"]
    with pytest.raises(
        StoreError, match="The Drive is full: put a/x .*15 GB, its trash included.*kept on this mach"
    ) as caught:
        store.put(path, "a/x")
    assert not caught.value.passing
    assert drive.drive.counts["all"] - before <= 4
    assert store.stat("a/first").size == 5000 and store.stat("a/x") is None
    drive.drive.plan.quota = None
    store.put(path, "a/x")
    assert len(drive.drive.tree()) == 2


def test_a_login_that_ended_is_said_with_its_cause_and_the_next_step(drive, file):
    drive.drive.plan.revoked = True
    store = store_of(drive)
    with pytest.raises(StoreError) as caught:
        Retried(store, first_wait=0.01).put(file, "a/x")
    assert not caught.value.passing
    for words in (
        "invalid_grant",
        "'Testing'",
        "7 days",
        "nbkit login drive",
        "the dataset me/secrets",
        "kept on this",
    ):
        assert words in str(caught.value)
    assert drive.drive.counts["all"] == 1, "a dead login is asked once"


def test_an_oauth_client_that_was_deleted_is_said_so(drive, file):
    text = drive.credential_text().replace("GOCSPX-planted", "GOCSPX-other")
    store = DriveStore(drive.drive.made_folder, read_credential(text, "a test"))
    with pytest.raises(StoreError, match="OAuth client .* is refused .*invalid_client.*--client FILE") as caught:
        store.put(file, "a/x")
    assert not caught.value.passing and "GOCSPX-other" not in str(caught.value)


@pytest.mark.parametrize("fault", ["revoked", "full"])
def test_work_waits_in_the_outbox_while_drive_refuses_and_goes_on_after(drive, tmp_path, monkeypatch, fault):
    """A login that ends in the middle: no browser, no endless wait, nothing lost, and the next session brings it."""
    opened = tmp_path / "a-browser-was-opened"
    monkeypatch.setenv("BROWSER", f"touch {opened} %s")
    rows = [{"key": f"item-{i}"} for i in range(12)]

    def session() -> dict:
        made = open_session("waits", store=store_of(drive), folder=tmp_path / "machine", limit=60)
        for number, item in enumerate(made.work(rows)):
            with item:
                if number == 4 and faulty:
                    assert made.outbox.drain(20) == []
                    drive.drive.plan.revoked, drive.drive.plan.quota = (
                        (True, None) if fault == "revoked" else (False, 1)
                    )
                    drive.drive.tokens.clear()
                item.save(x=[1.0, 2.0])
        return made.close()

    faulty = True
    began = time.monotonic()
    summary = session()
    assert time.monotonic() - began < 40
    assert not summary["complete"] and summary["exit"] == 3
    assert summary["not_stored"] and not opened.exists()
    faulty = False
    drive.drive.plan.revoked, drive.drive.plan.quota = False, None
    assert session()["complete"]
    held = [name for name, _, _ in drive.drive.tree() if "/items/" in name]
    assert held == sorted(f"waits/items/item-{i}.npz" for i in range(12))
