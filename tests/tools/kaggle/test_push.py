"""Pushes through the real client: what goes up, what is refused, and that a lost answer costs no second run."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.kaggle import push as kaggle_push
from nbkit.tools.kaggle.client import KaggleError, connect
from nbkit.tools.kaggle.datasets import DRIVE_LOGIN, HUB_LOGIN, WHEEL, build_wheel, ensure_dataset
from nbkit.tools.kaggle.push import PushRefused, push_phase
from nbkit.tools.kaggle.runs import read_pushes, read_run
from nbkit.tools.parameters import replace_values
from nbkit.tools.phases import load_phases
from tests.tools.kaggle.kaggle_loopback import NO_QUOTA, TOO_MANY, Dataset, Loopback, need_client, without_checkout

need_client()

REF = "mary/nbkit-bandvar-train"
CREDENTIAL = json.dumps({"client_id": "c", "client_secret": "planted-secret", "refresh_token": "1//planted-refresh"})


@pytest.fixture
def server(monkeypatch, tmp_path):
    with Loopback() as loopback, loopback.point(monkeypatch, tmp_path / "home"):
        yield loopback


@pytest.fixture
def kaggle(server):
    return connect(first_wait=0.01)


@pytest.fixture
def store(tmp_path) -> FolderStore:
    """Return a store with an address that Kaggle could reach."""
    store = FolderStore(tmp_path / "store")
    store.url = "s3://bucket/mary"
    return store


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Return nbkit's own wheel."""
    pytest.importorskip("hatchling")
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(autouse=True)
def built_once(monkeypatch, wheel):
    monkeypatch.setattr("nbkit.tools.kaggle.datasets.build_wheel", lambda folder: wheel)
    monkeypatch.setattr("nbkit.tools.kaggle.datasets.POLL", 0.01)


@pytest.fixture
def metadata(monkeypatch):
    """Return a function that changes what a phase's kernel-metadata.json says."""

    def change(**fields):
        read = kaggle_push.read_metadata
        monkeypatch.setattr(kaggle_push, "read_metadata", lambda phase, user: {**read(phase, user), **fields})

    return change


def cells_of(server, ref=REF) -> list[dict]:
    return json.loads(server.kernels[ref].request["text"])["cells"]


def test_a_push_carries_all_that_the_run_needs(kaggle, server, store, wheel):
    pushed = push_phase(kaggle, "bandvar_train", store, {"PRESET": "demo"}, limit="8h", progress=(0, 120))
    request = server.kernels[REF].request
    assert request["isPrivate"] is True and request["machineShape"] == "NvidiaTeslaT4"
    assert request["sessionTimeoutSeconds"] == 8.25 * 3600
    assert request["datasetDataSources"] == [f"mary/{WHEEL}"] == list(pushed.datasets)
    assert server.datasets[f"mary/{WHEEL}"].private
    assert server.datasets[f"mary/{WHEEL}"].files[wheel.name] == wheel.read_bytes()
    code = [cell for cell in cells_of(server) if cell["cell_type"] == "code"]
    names = {
        statement.targets[0].id: ast.literal_eval(statement.value) for statement in ast.parse(code[1]["source"]).body
    }
    assert (names["STORE"], names["LIMIT"], names["PRESET"]) == (store.url, "28800s", "demo")
    assert "nbkit_neuro-*.whl" in code[0]["source"] and "# time between checkpoints" in code[1]["source"]
    (push,) = read_pushes(store, "bandvar_train")
    assert (push.version, push.step, push.gpu, push.hours, push.by) == (1, 120, True, 8.25, "hand")
    assert read_run(kaggle, REF).busy and "version 1, on a GPU" in pushed.words()
    server.advance(9)
    assert read_run(kaggle, REF).state == "complete" and read_run(kaggle, "mary/other") is None


def test_a_push_that_accepts_or_begins_again_says_so_in_the_parameters_cell(kaggle, server, store, tmp_path):
    """A pushed copy may run more than once, so its fresh start has a number: run 2 is the first, run 4 the third."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_bytes(b"x")
    for resume, runs, wanted in (
        ("accept", (), "accept"),
        ("anew", (), "fresh-1"),
        ("anew", ("run-2", "run-3"), "fresh-3"),
    ):
        for run in runs:
            store.put(checkpoint, f"bandvar_train/checkpoints/{run}/step-000000001.ckpt")
        server.kernels.clear()
        push_phase(kaggle, "bandvar_train", store, resume=resume)
        (cell,) = [cell for cell in cells_of(server) if "parameters" in cell["metadata"].get("tags", [])]
        assert f"RESUME = {wanted!r}" in cell["source"]
    with pytest.raises(UsageError, match="has no RESUME.*add the line 'RESUME = \"exact\"'"):
        push_phase(kaggle, "eeg_windows", store, resume="accept")


def test_every_phase_can_be_pushed(kaggle, server, store):
    for phase in load_phases():
        server.kernels.clear()
        push_phase(kaggle, phase.slug, store)
        (kernel,) = server.kernels.values()
        assert (kernel.request.get("machineShape") or "") == ("NvidiaTeslaT4" if phase.accelerator == "gpu" else "")
        for cell in json.loads(kernel.request["text"])["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == []
    assert server.counts["CreateDataset"] <= 2 and server.counts["CreateDatasetVersion"] == 0


def test_the_wheel_is_sent_again_only_when_it_changed(kaggle, server, tmp_path):
    assert ensure_dataset(kaggle, "nbkit-wheel", {"a.whl": b"one"}).change == "created"
    assert ensure_dataset(kaggle, "nbkit-wheel", {"a.whl": b"one"}).change == "unchanged"
    assert ensure_dataset(kaggle, "nbkit-wheel", {"a.whl": b"two"}).change == "new version"
    assert server.datasets["mary/nbkit-wheel"].files["a.whl"] == b"two"
    assert (server.counts["CreateDataset"], server.counts["CreateDatasetVersion"]) == (1, 1)


def test_a_file_that_the_client_silently_leaves_out_is_noticed(kaggle, server):
    server.lose.add("a.whl")
    server.blobs["none"] = ["none", b""]
    with pytest.raises(KaggleError, match=r"without a\.whl"):
        ensure_dataset(kaggle, "nbkit-wheel", {"a.whl": b"one"})


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_third_gpu_session_is_refused_with_kaggles_words(kaggle, server, store):
    push_phase(kaggle, "bandvar_train", store)
    server.kernels[REF].runs *= 2
    with pytest.raises(PushRefused, match=TOO_MANY[:-1] + r".*nbkit status") as caught:
        push_phase(kaggle, "bandvar_train", store)
    assert caught.value.exit_code == 1
    assert len(read_pushes(store, "bandvar_train")) == 1


def test_a_used_up_week_is_refused_with_kaggles_words(kaggle, server, store):
    server.hours = 0.0
    with pytest.raises(PushRefused, match=NO_QUOTA[:-1] + ".*nbkit quota"):
        push_phase(kaggle, "bandvar_train", store)


def test_an_unknown_dataset_is_refused_before_anything_runs(kaggle, server, store, metadata):
    metadata(dataset_sources=["someone/recordings"])
    with pytest.raises(UsageError, match="no dataset someone/recordings"):
        push_phase(kaggle, "bandvar_train", store)
    assert server.counts["SaveKernel"] == 0


def test_a_run_that_begins_without_its_data_is_no_success(kaggle, server, store, metadata):
    server.datasets["someone/recordings"] = Dataset({})
    server.lose.add("someone/recordings")
    metadata(dataset_sources=["someone/recordings"])
    with pytest.raises(PushRefused, match="without its data .*someone/recordings.*Cancel it at https"):
        push_phase(kaggle, "bandvar_train", store)
    assert len(read_pushes(store, "bandvar_train")) == 1


def test_a_folder_of_this_machine_is_no_store_for_kaggle(kaggle, server, tmp_path):
    with pytest.raises(UsageError, match="a folder of this machine"):
        push_phase(kaggle, "bandvar_train", FolderStore(tmp_path))
    assert sum(server.counts.values()) == 0


def test_a_session_longer_than_the_wall_is_refused(kaggle, server, store):
    with pytest.raises(UsageError, match="ends each at 12 h. Use at most --limit 11.75h"):
        push_phase(kaggle, "bandvar_train", store, limit="12h")
    assert sum(server.counts.values()) == 0


# -- credentials -------------------------------------------------------------------------------------------------------


def test_the_drive_login_goes_into_a_private_dataset(kaggle, server, store, monkeypatch):
    monkeypatch.setenv("NBKIT_DRIVE_CREDENTIAL", CREDENTIAL)
    store.url = "gdrive://1AbC"
    pushed = push_phase(kaggle, "bandvar_train", store)
    login = server.datasets[f"mary/{DRIVE_LOGIN}"]
    assert login.private and "planted-refresh" in login.files["nbkit-drive-credential.json"].decode()
    assert f"mary/{DRIVE_LOGIN}" in pushed.datasets
    assert "planted" not in server.kernels[REF].request["text"] + pushed.words() + json.dumps(pushed.row())


def test_the_hubs_token_goes_into_a_private_dataset(kaggle, server, store, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_plantedTokenForKaggle")
    store.url = "hf://datasets/mary/nbkit"
    pushed = push_phase(kaggle, "bandvar_train", store)
    login = server.datasets[f"mary/{HUB_LOGIN}"]
    assert login.private and b"hf_plantedTokenForKaggle" in login.files["nbkit-hub-credential.json"]
    assert "planted" not in server.kernels[REF].request["text"] + pushed.words() + json.dumps(pushed.row())


def test_a_public_notebook_with_a_credential_is_refused(kaggle, server, store, metadata, monkeypatch):
    monkeypatch.setenv("NBKIT_DRIVE_CREDENTIAL", CREDENTIAL)
    metadata(is_private=False)
    store.url = "gdrive://1AbC"
    with pytest.raises(UsageError, match="is_private = false, and a credential"):
        push_phase(kaggle, "bandvar_train", store)
    assert server.counts["SaveKernel"] == 0 and not server.datasets
    store.url = "s3://bucket/mary"
    push_phase(kaggle, "bandvar_train", store)
    assert server.kernels[REF].request["isPrivate"] is False


def test_nothing_is_put_into_a_public_dataset(kaggle, server, store, monkeypatch):
    monkeypatch.setenv("NBKIT_DRIVE_CREDENTIAL", CREDENTIAL)
    store.url = "gdrive://1AbC"
    server.datasets[f"mary/{DRIVE_LOGIN}"] = Dataset({}, private=False)
    with pytest.raises(UsageError, match="nbkit-drive-login is public"):
        push_phase(kaggle, "bandvar_train", store)
    assert server.counts["SaveKernel"] == 0


# -- lost answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["drop", "502", "429"])
def test_a_push_that_did_not_arrive_is_sent_again(kaggle, server, store, fault):
    server.faults["SaveKernel"] = [fault, fault]
    assert push_phase(kaggle, "bandvar_train", store).push.version == 1
    assert server.counts["SaveKernel"] == 1


def test_drop_after_a_push_does_not_start_a_second_run(kaggle, server, store):
    server.faults["SaveKernel"] = ["commitdrop"]
    pushed = push_phase(kaggle, "bandvar_train", store)
    assert server.counts["SaveKernel"] == 1 and len(server.kernels[REF].runs) == 1
    assert pushed.push.version == 1 and len(read_pushes(store, "bandvar_train")) == 1


def test_drops_everywhere_do_not_hurt_a_push(kaggle, server, store):
    methods = ("GetDataset", "StartBlobUpload", "CreateDataset", "GetDatasetStatus", "ListDatasetFiles", "GetKernel")
    server.faults = {method: ["drop", "429", "502"] for method in methods} | {"CreateDataset": ["commitdrop"]}
    push_phase(kaggle, "bandvar_train", store)
    assert len(server.kernels[REF].runs) == 1 and server.datasets[f"mary/{WHEEL}"].private


# -- the pushed copy ---------------------------------------------------------------------------------------------------


def test_values_are_replaced_and_comments_stay():
    source = "A = 1  # µV, one\nB = [1,\n     2]  # two\nC = 'é'; D = 4  # s\nSMOKE = False  # last\n"
    made = replace_values(source, {"A": 2.5, "B": {"k": "ü"}, "D": None})
    assert made == "A = 2.5  # µV, one\nB = {'k': 'ü'}  # two\nC = 'é'; D = None  # s\nSMOKE = False  # last\n"


def test_the_pushed_set_up_installs_the_attached_wheel(server, kaggle, store, wheel, tmp_path):
    """The cell itself, in a Python without nbkit: it installs the wheel from where Kaggle mounts it, nothing else."""
    push_phase(kaggle, "bandvar_train", store)
    source = cells_of(server)[2]["source"].replace("%matplotlib inline\n", "")
    mounted = tmp_path / "kaggle/input/datasets/mary/nbkit-wheel"
    mounted.mkdir(parents=True)
    (mounted / wheel.name).write_bytes(wheel.read_bytes())
    target = tmp_path / "site"
    environment = {**os.environ, "NBKIT_KAGGLE_ROOT": str(tmp_path / "kaggle"), "PIP_TARGET": str(target)}
    environment |= {"PYTHONPATH": without_checkout(target), "PIP_NO_INDEX": "1"}
    check = "from nbkit.tools.phases import load_phases; import nbkit.tools.kaggle.push as p\n"
    check += "print(nbkit.__file__, len(load_phases()), p.read_metadata(load_phases()[0], 'mary')['id'])"
    command = [sys.executable, "-S", "-c", source + check]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(target / "nbkit") in done.stdout and "mary/nbkit-start-here" in done.stdout
    assert [path.name.partition("-")[0] for path in target.glob("*.dist-info")] == ["nbkit_neuro"]
