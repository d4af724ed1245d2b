"""Check: each fault is found, and says what to do."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from nbkit.runtime.hosts import detect
from nbkit.tools.commands import check as checking
from nbkit.tools.commands.check import check_all, check_disk, check_host, check_packages, check_store, words


def test_this_machine_has_nothing_to_mend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    findings = check_all(str(tmp_path / "store"))
    assert {finding.what for finding in findings} == {"host", "packages", "device", "store", "disk"}
    assert not [finding for finding in findings if finding.state == "fault" and finding.what != "disk"]
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


@pytest.mark.parametrize(("kept", "state"), [(True, "ok"), (False, "note")])
def test_a_machine_that_keeps_no_compiled_libraries_is_noted(monkeypatch, kept, state):
    monkeypatch.setattr("sys.dont_write_bytecode", not kept)
    found = check_host(detect())
    assert found.state == state and ("PYTHONDONTWRITEBYTECODE is set" in found.found) is not kept


def test_a_missing_package_is_named_with_the_command_that_gets_it():
    needs = ["numpy>=1.0", "no-such-package-xyz>=3", "another-xyz; extra == 'tribe'"]
    found, missing = check_packages(needs)
    assert found.state == "ok" and "numpy" in found.found
    assert missing.state == "fault" and missing.do.endswith("-m pip install 'no-such-package-xyz>=3'")


def test_a_version_outside_of_the_range_is_a_note():
    states = [finding.state for finding in check_packages(["numpy>=9999"])]
    assert states == ["ok", "note"]


def test_a_lightning_that_nothing_is_trained_with_is_a_fault():
    found, untested = check_packages(["lightning>=2.5,<2.5.0.1"])
    version = importlib.metadata.version("lightning")
    assert found.state == "ok" and untested.state == "fault" and f"lightning {version} is outside of" in untested.found
    assert untested.do.endswith("-m pip install 'lightning<2.5.0.1,>=2.5'")


def test_a_store_that_cannot_be_written_says_where_and_what_to_do(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file/below"):
        finding = check_store(str(place))
        assert finding.state == "fault" and str(place) in finding.found and "NBKIT_STORE" in finding.do


def test_a_store_of_an_unknown_kind_is_a_fault(tmp_path):
    finding = check_store("nosuch://bucket")
    assert finding.state == "fault" and "nosuch" in finding.found


def test_a_store_that_gives_back_other_bytes_is_a_fault(tmp_path, monkeypatch):
    from nbkit.runtime.store.folder import FolderStore

    whole = FolderStore.put

    def hurt(self, path, name):
        stat = whole(self, path, name)
        content = bytearray(Path(self.path(name)).read_bytes())
        content[0] ^= 1
        Path(self.path(name)).write_bytes(content)
        return stat

    monkeypatch.setattr(FolderStore, "put", hurt)
    assert check_store(str(tmp_path / "store")).state == "fault"


def test_a_full_disk_is_a_fault(tmp_path, monkeypatch):
    usage = type(checking.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(checking.shutil, "disk_usage", lambda path: usage(10**10, 10**10 - 1000, 1000))
    finding = check_disk(tmp_path / "not/there/yet")
    assert finding.state == "fault" and str(tmp_path) in finding.found and finding.do


def test_a_gpu_whose_kernels_torch_does_not_carry_is_a_fault(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Tesla P100-PCIE-16GB")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (6, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    finding = checking.check_device()
    assert finding.state == "fault" and "Tesla P100" in finding.found and finding.do


def test_faults_are_shown_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("x")
    text = words([check_store(str(tmp_path / "file"))])
    assert text.startswith("fault  store: ") and "\n       -> " in text and text.endswith("1 fault")


def test_a_drive_without_credential_is_a_fault_with_its_next_step(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("NBKIT_DRIVE_CREDENTIAL", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (finding,) = checking.check_drive("gdrive://some-folder-id-of-a-drive")
    assert finding.state == "fault" and "login drive" in finding.do
    assert checking.check_drive("a-folder") == []


def test_kaggle_is_passed_over_without_a_credential(monkeypatch) -> None:
    from nbkit.tools.kaggle import client as kaggle_client

    monkeypatch.setattr(kaggle_client, "has_credentials", lambda: False)
    assert checking.check_kaggle() == []


def test_kaggles_quota_is_told_and_a_refused_key_is_a_fault(monkeypatch, tmp_path: Path) -> None:
    from tests.tools.kaggle.kaggle_loopback import Loopback, need_client

    need_client()
    with Loopback() as server, server.point(monkeypatch, tmp_path):
        (finding,) = checking.check_kaggle()
        assert finding.state == "ok" and "of 30.0 h left this week" in finding.found
        monkeypatch.setenv("KAGGLE_KEY", "another-key")
        (finding,) = checking.check_kaggle()
        assert finding.state == "fault" and "another-key" not in finding.found


def test_the_needs_of_the_free_presets_are_shown_as_a_table():
    rows = checking.memory_rows()
    said = checking.memory_words(rows)
    assert any(row["found"] == "bandvar_train: 10.3 GB in 2 pieces" for row in rows)
    assert any(row["found"] == "decoding_finetune reve, lora: 3.5 GB in 1 piece" for row in rows)
    (line,) = (line for line in said.splitlines() if line.startswith("labram_codebook"))
    assert line.split() == ["labram_codebook", "5.1", "1"] and "room for 14" in said
