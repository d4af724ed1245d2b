"""Colab's client as a process: what it says becomes a sentence with the next step, and nothing secret is shown."""

from __future__ import annotations

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.tools.colab.client import ColabError, check_gpu, clean, connect, wait_for
from tests.tools.colab import standin


@pytest.fixture
def folder(tmp_path, monkeypatch):
    place = tmp_path / "colab"
    monkeypatch.setenv("NBKIT_COLAB", str(standin.program(place)))
    return place


def test_runtimes_units_and_stop(folder):
    colab = connect()
    assert colab.version() == "0.7.5" and colab.runtimes() == {}
    colab.new("nbkit-x", "t4")
    assert "Hardware: T4" in colab.runtimes()["nbkit-x"]
    units = colab.units()
    assert (units.balance, units.rate, units.active) == (100.0, 1.76, 1)
    colab.stop("nbkit-x")
    colab.stop("nbkit-x")
    assert colab.runtimes() == {}


def test_code_goes_in_and_lines_come_out(folder, tmp_path):
    colab = connect()
    colab.new("nbkit-x", None)
    (tmp_path / "file").write_text("secret content")
    colab.upload("nbkit-x", tmp_path / "file", "content/file")
    lines = []
    told = colab.execute("nbkit-x", "print(1)\nprint(open('file').read())", lines.append, lambda: True)
    assert told.splitlines() == ["1", "secret content"] == lines
    with standin.state(folder) as known:
        assert "secret content" not in str(known["calls"]) and "print(1)" not in str(known["calls"])
    assert known["calls"][-1] == ["exec", "-s", "nbkit-x", "--timeout", "86400"], "a silent cell may last"


def test_execution_is_ended_when_nobody_waits_for_it(folder):
    colab = connect()
    colab.new("nbkit-x", None)
    looks = iter([True, False])
    assert colab.execute("nbkit-x", "import time; time.sleep(60)", print, lambda: next(looks)) == ""
    colab.stop("nbkit-x")


def test_missing_client_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no program 'colab'.*uv tool install google-colab-cli.*log in.*Nothing was"):
        connect()
    monkeypatch.setenv("NBKIT_COLAB", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="does not exist.*uv tool install"):
        connect()


def test_old_client_says_how_to_renew_it(folder):
    standin.told(folder, version="0.6.9")
    with pytest.raises(UsageError, match="version 0.6.9; 0.7 or newer.*uv tool upgrade"):
        connect()


def test_client_without_a_login_says_how_to_log_in(folder):
    standin.told(folder, logged_in=False)
    with pytest.raises(UsageError, match="not logged in.*'colab usage' once.*paste the code") as caught:
        connect().runtimes()
    assert "plantedState" not in str(caught.value)


def test_no_gpu_to_be_had_is_waited_for_and_then_said(folder):
    colab = connect()
    colab.new("other", None)
    now, said = [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(ColabError, match="no runtime for this account now.*'colab stop'") as caught:
        wait_for(lambda: colab.new("nbkit-x", "T4"), said.append, 900.0, 300.0, lambda: now[0], sleep)
    assert caught.value.kind == "none to be had" and now[0] == 900.0 and len(said) == 1
    colab.stop("other")
    wait_for(lambda: colab.new("nbkit-x", "T4"), said.append, 900.0, 300.0, lambda: now[0], sleep)


def test_accelerator_that_the_account_has_not_is_said(folder):
    with pytest.raises(UsageError, match="does not give this account.*'H100'.*a free account has the T4"):
        connect().new("nbkit-x", "H100")


@pytest.mark.parametrize("name", ["T5", "", "a 100", "V100"])
def test_accelerator_that_colab_has_not_never_reaches_the_client(folder, name):
    """The client would take any unknown name for an A100, which costs most."""
    with pytest.raises(UsageError, match="GPU"):
        check_gpu(name)
    with standin.state(folder) as known:
        assert known["calls"] == []


def test_fault_of_the_connection_is_told_without_tokens(folder):
    standin.told(folder, faults={"sessions": ["broken"]})
    with pytest.raises(ColabError, match="'colab sessions' failed: ConnectionError") as caught:
        connect().runtimes()
    assert (
        caught.value.kind == "failed" and "plantedProxyToken" not in str(caught.value) and "│" not in str(caught.value)
    )
    words = "https://x/?a=1&colab-runtime-proxy-token=abc&b=2 ya29.secret refresh_token=1//deep"
    assert clean(words) == "https://x/?a=1&colab-runtime-proxy-token=***&b=2 *** refresh_token=***"


def test_runtime_that_is_gone_is_told_from_other_faults(folder):
    with pytest.raises(ColabError) as caught:
        connect().execute("nbkit-none", "print(1)", print, lambda: True)
    assert caught.value.kind == "lost"
