"""The login to the Hub: a private data set, a file that only its owner can read, and a token that nothing shows."""

from __future__ import annotations

import json
import logging
import stat
import subprocess
import sys

import pytest

from nbkit.runtime.errors import StoreError, UsageError
from nbkit.runtime.hosts import credentials
from nbkit.runtime.hosts.credentials import HUB_FILE
from nbkit.runtime.store.hub.credential import ENDPOINT, HubCredential, find_hub_credential, read_hub_credential
from nbkit.runtime.store.hub.login import login_hub
from nbkit.runtime.store.hub.store import HubStore
from tests import ROOT
from tests.runtime.store.hub.hub_loopback import Loopback
from tests.runtime.store.hub.hub_state import TOKEN, Plan


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with Loopback(Plan()) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


def test_login_makes_a_private_data_set_and_a_file_for_its_owner(hub, tmp_path, monkeypatch, capsys):
    login = login_hub("results", token=TOKEN)
    assert login.store == "hf://datasets/someone/results" and hub.hub.repos["someone/results"]["private"]
    assert stat.S_IMODE(login.credential.stat().st_mode) == 0o600
    print(login.words())
    assert TOKEN not in capsys.readouterr().out
    assert login_hub("results", token=TOKEN).store == login.store, "a second login finds it"
    found = find_hub_credential()
    assert (found.token, found.endpoint, found.where) == (TOKEN, hub.endpoint, str(login.credential))
    login_hub("again")  # the token of the earlier login


def test_public_data_set_is_refused(hub, tmp_path):
    hub.hub.make("someone/open", private=False)
    with pytest.raises(UsageError, match="someone/open is public.*Nothing was written"):
        login_hub("open", tmp_path / "file", TOKEN)
    assert not (tmp_path / "file").exists()


def test_refused_token_writes_nothing(hub, tmp_path):
    with pytest.raises(StoreError, match="no longer works"):
        login_hub("nbkit", tmp_path / "file", "hf_wrongButLongEnough")
    assert not (tmp_path / "file").exists()


def test_no_token_says_where_one_is_taken_from(hub):
    with pytest.raises(UsageError, match="variable HF_TOKEN.*'nbkit login hf'"):
        find_hub_credential()


def test_hosts_hand_it_on(hub, tmp_path, monkeypatch):
    folder = tmp_path / "input" / "datasets" / "me" / "private"
    folder.mkdir(parents=True)
    (folder / HUB_FILE).write_text(HubCredential(TOKEN, hub.endpoint).to_text())
    told = {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "NBKIT_KAGGLE_ROOT": str(tmp_path)}
    assert find_hub_credential(told).endpoint == hub.endpoint
    (tmp_path / HUB_FILE).write_text(TOKEN)
    on_colab = {"COLAB_RELEASE_TAG": "1", "NBKIT_COLAB_ROOT": str(tmp_path)}
    texts = [*credentials.host_credentials(on_colab, file=HUB_FILE, variable="HF_TOKEN")]
    assert texts == [(str(tmp_path / HUB_FILE), TOKEN)]
    assert find_hub_credential({"HF_TOKEN": TOKEN}).endpoint == ENDPOINT


@pytest.mark.parametrize("text", ['{"token": ""}', "{", '{"other": 1}', "two words", "", "short"])
def test_text_that_is_no_token_is_refused_without_being_shown(text):
    with pytest.raises(UsageError, match="Hub credential from here") as caught:
        read_hub_credential(text, "here")
    assert "two words" not in str(caught.value)


def test_token_goes_to_no_unencrypted_server():
    with pytest.raises(UsageError, match="unencrypted") as caught:
        HubCredential(TOKEN, "http://example.org", "here")
    assert TOKEN not in str(caught.value)


def test_token_and_signed_addresses_are_in_no_word_of_a_failing_store(hub, tmp_path, caplog, capfd):
    caplog.set_level(logging.WARNING)
    (tmp_path / "x.npz").write_bytes(b"x")
    hub.hub.plan.rate, hub.hub.plan.retry_after = 0.5, "0"
    store = HubStore("someone/nbkit", HubCredential(TOKEN, hub.endpoint, "the test"), 0.0, first_wait=0.01)
    said = [repr(store), repr(store._access)]
    for verb in (lambda: store.put(tmp_path / "x.npz", "a/x.npz"), lambda: store.get("a/x.npz", tmp_path / "y")) * 2:
        try:
            verb()
        except (StoreError, FileNotFoundError) as error:
            said.append(str(error))
    out = capfd.readouterr()
    words = "\n".join([*said, caplog.text, out.out, out.err])
    assert sum(hub.hub.faults.values()) > 2
    assert TOKEN not in words and "plantedSignature" not in words


def test_command_takes_the_token_from_the_variable_and_shows_it_nowhere(hub, tmp_path):
    import os

    command = [sys.executable, "-m", "nbkit", "login", "hf", "--name", "mine"]
    told = {**os.environ, "HF_TOKEN": TOKEN}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=told, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "hf://datasets/someone/mine" in done.stdout and TOKEN not in done.stdout + done.stderr
    written = tmp_path / "config" / "nbkit" / HUB_FILE
    assert json.loads(written.read_text()) == {"token": TOKEN, "endpoint": hub.endpoint}
