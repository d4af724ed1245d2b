"""The item loop over containers, by a stand-in with the calls of modal 1.6: no account, no network."""

from __future__ import annotations

import inspect
import pickle
import sys
import threading
import time
import types

import numpy as np
import pytest

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.items.containers import ContainerExecutor, modal_function
from nbkit.runtime.items.spread import workers_of


class RemoteError(Exception):
    """What Modal raises for a container that died."""


class FunctionCall:
    """A call in a thread; arguments and result are pickled, as on their way to a container and back."""

    object_id = "fc-1"

    def __init__(self, sent: bytes, dies: bool, gate: threading.Event) -> None:
        self.made, self.dies, self.gate, self.ended = b"", dies, gate, threading.Event()
        self.cancelled = False
        threading.Thread(target=self._work, args=(sent,), daemon=True).start()

    def _work(self, sent: bytes) -> None:
        self.gate.wait()
        work, args, kwargs = pickle.loads(sent)
        self.made = b"" if self.dies else pickle.dumps(work(*args, **kwargs))
        self.ended.set()

    def get(self, timeout: float | None = None, *, index: int = 0):
        if not self.ended.wait(timeout):
            raise TimeoutError
        if self.dies:
            raise RemoteError("the container was lost")
        return pickle.loads(self.made)

    def cancel(self, terminate_containers: bool = False) -> None:
        self.cancelled = True


class Function:
    """A deployed function; `dies` is the number of the call whose container is lost."""

    def __init__(self, dies: int = -1) -> None:
        self.calls, self.dies, self.gate, self.lock = [], dies, threading.Event(), threading.Lock()
        self.gate.set()

    @classmethod
    def from_name(cls, app_name: str, name: str):
        made = cls()
        made.names = (app_name, name)
        return made

    def hydrate(self):
        if self.names != ("burst", "call"):
            raise LookupError("App not found in environment main")
        return self

    def spawn(self, *args, **kwargs) -> FunctionCall:
        with self.lock:
            work, *rest = args
            self.calls.append(FunctionCall(pickle.dumps((work, rest, kwargs)), len(self.calls) == self.dies, self.gate))
            return self.calls[-1]


def process(row: dict) -> dict:
    if row["key"] == row["bad"]:
        raise TimeoutError
    return {"x": np.arange(8) + int(row["key"][1:])}


def rows_in(bad: str = "") -> list[dict]:
    return [{"key": f"k{number:02d}", "bad": bad} for number in range(4)]


def test_a_lost_container_costs_its_item_only(tmp_path):
    function = Function(dies=1)
    with ContainerExecutor(function, at_once=2, look=0.02) as executor:
        assert workers_of(executor) == 2
        session = nbkit.open_session("toy", tmp_path / "store", folder=tmp_path / "machine")
        session.map(process, rows_in(), executor=executor, at_once=2)
        summary = session.close()
    assert (summary["done"], summary["left"], len(function.calls)) == (3, 1, 4)
    assert "container was lost" in str(session.ledger.state.errors)
    session = nbkit.open_session("toy", tmp_path / "store", folder=tmp_path / "machine")
    again = Function()
    with ContainerExecutor(again, look=0.02) as executor:
        session.map(process, rows_in(), executor=executor)
    assert session.close()["complete"] and len(again.calls) == 1
    values = {path.stem: np.load(path)["x"][0] for path in (tmp_path / "store/toy/items").rglob("*.npz")}
    assert values == {"k00": 0, "k01": 1, "k02": 2, "k03": 3}


def test_a_timeout_of_the_function_is_not_that_of_the_waiting():
    with ContainerExecutor(Function(), look=0.02) as executor:
        with pytest.raises(TimeoutError):
            executor.submit(process, rows_in("k00")[0]).result(5)


def test_a_call_in_work_is_waited_for_and_shutdown_cancels_it():
    function = Function()
    function.gate.clear()
    executor = ContainerExecutor(function, look=0.02)
    first = executor.submit(pow, 2, 3)
    time.sleep(0.1)  # some looks without a result
    assert not first.done()
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="fc-1 was cancelled"):
        first.result(5)
    assert function.calls[0].cancelled
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 2, 3)
    function.gate.set()


def test_a_deployed_function_by_name_and_refusals_in_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "modal", None)
    with pytest.raises(UsageError, match="needs the package modal, which is not installed here"):
        modal_function("burst", "call")
    monkeypatch.setitem(sys.modules, "modal", types.SimpleNamespace(Function=Function))
    assert modal_function("burst", "call").names == ("burst", "call")
    with pytest.raises(UsageError, match="no function 'other' in an app 'burst'.*modal deploy"):
        modal_function("burst", "other")


def test_the_stand_in_has_the_calls_of_modal():
    modal = pytest.importorskip("modal", reason="modal is not installed")
    for own, theirs, names in (
        (FunctionCall, modal.FunctionCall, ("get", "cancel")),
        (Function, modal.Function, ("from_name", "spawn", "hydrate")),
    ):
        for name in names:
            wanted = inspect.signature(getattr(theirs, name)).parameters
            given = inspect.signature(getattr(own, name)).parameters
            assert set(given) <= set(wanted), (name, list(given), list(wanted))
    assert not issubclass(modal.exception.FunctionTimeoutError, TimeoutError), "Modal's own is no builtin TimeoutError"
