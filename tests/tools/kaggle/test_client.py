"""The real Kaggle client against the loopback: quota, faults on the way, refused keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.tools.kaggle import client as kaggle_client
from nbkit.tools.kaggle.client import KaggleError, connect, has_credentials
from nbkit.tools.kaggle.pull import log_text, pull_run
from nbkit.tools.kaggle.quota import read_quota
from tests.tools.kaggle.kaggle_loopback import KEY, USER, Kernel, Loopback, need_client

need_client()


@pytest.fixture
def server(monkeypatch, tmp_path):
    with Loopback() as loopback, loopback.point(monkeypatch, tmp_path):
        yield loopback


@pytest.fixture
def kaggle(server):
    return connect(first_wait=0.01)


def test_the_quota_is_read(kaggle, server):
    server.hours = 30.0
    quota = read_quota(kaggle)
    assert (quota.gpu.left, quota.gpu.total, quota.tpu.total) == (30.0, 30.0, 20.0)
    assert quota.refresh == "2026-11-09T00:00:00Z"
    assert "30.0 of 30.0 h left" in quota.words() and quota.row()["gpu"]["left"] == 30.0


@pytest.mark.parametrize("fault", ["429", "502", "drop"])
def test_passing_faults_are_tried_again(kaggle, server, fault):
    server.faults["GetAcceleratorQuotaStatistics"] = [fault] * 3
    assert read_quota(kaggle).gpu.left == 30.0
    assert server.faults["GetAcceleratorQuotaStatistics"] == []


def test_a_dead_connection_is_said_in_words(kaggle, server):
    server.faults["*"] = ["drop"] * 20
    with pytest.raises(KaggleError, match=r"did not answer \(ConnectionError\)"):
        read_quota(kaggle)


def test_a_wrong_key_is_refused_without_being_shown(server, monkeypatch, capfd):
    monkeypatch.setenv("KAGGLE_KEY", "wrong-" + KEY)
    with pytest.raises(KaggleError, match="rejects the credential of mary") as caught:
        read_quota(connect(first_wait=0.01))
    said = capfd.readouterr()
    assert KEY not in str(caught.value) + said.out + said.err
    assert server.counts["GetAcceleratorQuotaStatistics"] == 0


def test_no_credential_is_a_users_mistake(server, monkeypatch):
    monkeypatch.delenv("KAGGLE_KEY")
    assert not has_credentials()
    with pytest.raises(UsageError, match="no Kaggle credential"):
        connect()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("kaggle.json", "KGAT_secret", "kaggle.json is not the JSON of a key. It looks like a token of the new form"),
        ("kaggle.json", '{"username": "mary"', "kaggle.json is not the JSON of a key. Create"),
        ("kaggle.json", '{"username": "mary"}', "kaggle.json has no key. Create"),
        ("kaggle.json", "[1]", "kaggle.json has no username and no key."),
        ("access_token", "", "access_token is empty. Create a token"),
        ("access_token", "KGAT_secret", "none of this machine's credentials. Create a token"),
    ],
)
def test_a_file_that_is_no_credential_is_named_with_what_is_wrong(server, monkeypatch, tmp_path, name, content, says):
    for variable in ("KAGGLE_KEY", "KAGGLE_USERNAME", "KAGGLE_CONFIG_DIR", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    file = tmp_path / "person" / ".kaggle" / name
    file.parent.mkdir(parents=True)
    file.write_text(content)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "person")
    monkeypatch.setattr("nbkit.tools.kaggle.client._client", lambda: NoClient)
    with pytest.raises(UsageError) as caught:
        connect()
    said = str(caught.value)
    assert says in said and "access_token, or set KAGGLE_API_TOKEN" in said and "secret" not in said


class NoClient:
    """Kaggle's client that finds nothing to log in with, as it then ends the process."""

    def authenticate(self) -> None:
        raise SystemExit(1)


def test_verbose_client_does_not_print_the_key(server, monkeypatch, capfd):
    from kaggle.api.kaggle_api_extended import KaggleApi

    monkeypatch.setattr(KaggleApi, "args", ["--local", "--verbose"])  # what the variable VERBOSE makes of it
    connected = connect(first_wait=0.01)
    read_quota(connected)
    said = capfd.readouterr()
    assert "Authorization" not in said.out + said.err and KEY not in repr(connected)


def test_the_attached_key_is_taken_on_kaggle(server, monkeypatch, tmp_path):
    """Where a notebook's own session token stands in the environment, the attached key must win."""
    folder = tmp_path / "root/input/datasets/mary/nbkit-kaggle-key"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": USER, "key": KEY}))
    token = tmp_path / "token"
    token.write_text("the notebook's own token")
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("NBKIT_KAGGLE_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setenv("KAGGLE_DATA_PROXY_URL", "https://dp.kaggle.net")
    monkeypatch.setenv("KAGGLE_API_V1_TOKEN", str(token))
    kaggle = connect(first_wait=0.01)
    assert kaggle.user == USER and read_quota(kaggle).gpu.left == 30.0
    assert kaggle_client.os.environ["KAGGLE_API_V1_TOKEN"] == str(token)
    assert json.loads(kaggle.key_file()) == {"username": USER, "key": KEY}


# -- pull --------------------------------------------------------------------------------------------------------------


def test_all_pages_of_a_runs_files_come_whole(kaggle, server, tmp_path):
    files = {f"figures/{number:02d}.bin": bytes([number]) * (1000 + number) for number in range(50)}
    log = json.dumps([{"stream_name": "stdout", "time": 1.5, "data": "step 1\n"}])
    server.kernels["mary/nbkit-x"] = Kernel({"slug": "mary/nbkit-x"}, files=files | {"../../evil": b"x"}, log=log)
    server.faults["ListKernelSessionOutput"] = ["429", "drop"]
    server.faults["GET"] = ["502", "short", "drop", "429"]
    pulled = pull_run(kaggle, "mary/nbkit-x", tmp_path / "out")
    assert server.counts["ListKernelSessionOutput"] == 3
    assert {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in pulled.files} == files
    assert pulled.skipped == ("../../evil",) and not (tmp_path.parent / "evil").exists()
    assert pulled.log.read_text() == "      1.5 step 1\n"
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_run_that_never_was_is_said_so(kaggle, tmp_path):
    with pytest.raises(KaggleError, match="no run of mary/nbkit-none"):
        pull_run(kaggle, "mary/nbkit-none", tmp_path)


def test_a_log_that_is_no_json_is_kept_as_it_is():
    assert log_text("plain words") == "plain words"


# os.makedirs, but another process has made the folder between the client's look and this call
_RACE = """
import os
make = os.makedirs
def slow(path, *args, **more):
    if str(path).endswith("kaggle"):
        make(path)
    make(path, *args, **more)
os.makedirs = slow
from nbkit.tools.kaggle.client import _client
print(_client().__name__)
"""


def test_two_processes_may_import_the_client_for_the_first_time(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", _RACE], env={**environment, "HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout == "KaggleApi\n", done.stderr[-800:]
