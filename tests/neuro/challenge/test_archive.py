"""The zip: three files, one of them code; what is wrong is said by name."""

from __future__ import annotations

import zipfile
from dataclasses import replace

import pytest
import torch

from nbkit.neuro.challenge.archive import SubmissionPart, check_contract, check_source, write_zip
from nbkit.neuro.signals.hbn.synthetic import hbn_ch_names
from tests.neuro.challenge.toy_network import Toy

TOY = "tests.neuro.challenge.toy_network:Toy"


def toy_part(seed: int, network: str = TOY) -> SubmissionPart:
    torch.manual_seed(seed)
    return SubmissionPart(network, {"channels": 129}, Toy(129).state_dict(), f"toy {seed}")


def toy_zip(folder, seeds=(1, 2)):
    return write_zip({number: toy_part(seed) for number, seed in zip((1, 2), seeds, strict=True)}, folder / "sub.zip")


def test_a_zip_has_the_contracts_files_and_says_their_sizes(tmp_path):
    written = toy_zip(tmp_path)
    with zipfile.ZipFile(written.path) as archive:
        assert archive.namelist() == ["submission.py", "weights_challenge_1.pt", "weights_challenge_2.pt"]
        assert {entry.filename: entry.file_size for entry in archive.infolist()} == written.sizes
        text = archive.read("submission.py").decode()
        with archive.open("weights_challenge_1.pt") as file:
            weights = torch.load(file, weights_only=True)
    assert written.packed == written.path.stat().st_size and "sub.zip: 0.0" in str(written)
    assert "Challenge 1: toy 1." in text and "import nbkit" not in text and "from nbkit" not in text
    for name, value in toy_part(1).weights.items():
        assert torch.equal(weights[name], value)


def test_the_same_models_give_the_same_bytes(tmp_path):
    first = toy_zip(tmp_path).path.read_bytes()
    assert toy_zip(tmp_path).path.read_bytes() == first
    digest = toy_zip(tmp_path).digest
    assert toy_zip(tmp_path, (1, 3)).digest != digest and toy_zip(tmp_path).digest == digest and len(digest) == 16


def test_what_scoring_does_not_have_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"would use RMSNorm \(line \d+\), which torch 2.2.2"):
        write_zip({1: toy_part(1), 2: toy_part(2, TOY.replace("Toy", "Newer"))}, tmp_path / "a.zip")
    with pytest.raises(ValueError, match="imports lightning in a function"):
        write_zip({1: toy_part(1), 2: toy_part(2, TOY.replace("Toy", "Unknown"))}, tmp_path / "a.zip")
    with pytest.raises(ValueError, match="would use enable_gqa"):
        check_source("F.scaled_dot_product_attention(q, k, v, enable_gqa=True)")
    check_source("self.accelerator.newaxis")  # another's attribute of that name
    with pytest.raises(ValueError, match=r"challenges \[1\]"):
        write_zip({1: toy_part(1)}, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_the_names_that_came_later_are_not_in_torch_2_2():
    """A name is refused for what it is: each is one that some torch has, or had to be asked for below torch itself."""
    from nbkit.neuro.challenge.archive import _NEWER_NAMES

    places = (torch, torch.nn, torch.nn.functional, torch.Tensor, torch.library, torch.serialization)
    there = {name for place in places for name in dir(place)}
    assert {"RMSNorm", "rms_norm", "custom_op"} <= _NEWER_NAMES & there
    assert not _NEWER_NAMES & {"stft", "einsum", "LayerNorm", "scaled_dot_product_attention", "rfft", "vmap", "compile"}


def test_models_of_other_windows_are_refused():
    check_contract(hbn_ch_names(), 200, 100.0, "a.ckpt")
    for ch_names, n_times, sfreq in (
        (hbn_ch_names(12), 200, 100.0), (hbn_ch_names(), 400, 100.0), (hbn_ch_names(), 200, 200.0),
        (hbn_ch_names()[::-1], 200, 100.0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"a.ckpt was finetuned on \d+ channels.*the challenge gives 129"):
            check_contract(ch_names, n_times, sfreq, "a.ckpt")


def test_parts_are_what_they_are():
    part = toy_part(1)
    assert replace(part, says="").network == TOY and set(part.weights) == set(Toy(129).state_dict())
