"""What the challenge instantiates: the contract's shapes and units, and the right weights or none."""

from __future__ import annotations

import hashlib
import io

import pytest
import torch

from nbkit.neuro.challenge import entry as challenge_entry
from nbkit.neuro.challenge.entry import ChallengeModel, Submission
from tests.neuro.challenge.toy_network import Toy


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two toys' weights in a folder that scoring would look into."""
    parts = {}
    for number in (1, 2):
        torch.manual_seed(number)
        content = io.BytesIO()
        torch.save(Toy(129).state_dict(), content)
        (tmp_path / f"weights_challenge_{number}.pt").write_bytes(content.getvalue())
        parts[number] = ((Toy,), ({"channels": 129},), hashlib.sha256(content.getvalue()).hexdigest())
    monkeypatch.setattr(challenge_entry, "PARTS", parts)
    monkeypatch.setattr(challenge_entry, "FOLDERS", (str(tmp_path / "none"), str(tmp_path)))
    return tmp_path


def test_each_challenge_gets_its_model(folder):
    windows = 20 * torch.randn(3, 129, 200)
    for number in (1, 2):
        model = getattr(Submission(100, "cpu"), f"get_model_challenge_{number}")()
        assert not model.training
        torch.manual_seed(number)
        torch.testing.assert_close(model(windows), Toy(129)(windows))


def test_volts_and_microvolts_are_told_apart(folder):
    model, windows = Submission(100.0, "cpu").get_model_challenge_1(), 20 * torch.randn(4, 129, 200)
    windows[3] = 0
    torch.testing.assert_close(model(1e-6 * windows), model(windows), rtol=1e-5, atol=1e-5)
    mixed = windows.clone()
    mixed[0] *= 1e-6
    torch.testing.assert_close(model(mixed.double()), model(windows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 129, 400), (1, 128, 200), (129, 200), (1, 1, 129, 200), (1, 200, 129)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"takes \(batch, 129, 200\)"):
        ChallengeModel(Toy(129))(torch.zeros(shape))


def test_another_rate_is_refused():
    with pytest.raises(ValueError, match="SFREQ=250"):
        Submission(250, "cpu")


def test_missing_damaged_and_swapped_weights_are_named(folder):
    first, second = (folder / f"weights_challenge_{number}.pt" for number in (1, 2))
    whole = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(ValueError, match="weights_challenge_1.pt holds the weights of challenge 2: .* swapped"):
        Submission(100, "cpu").get_model_challenge_1()
    first.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(ValueError, match="weights_challenge_1.pt is damaged"):
        Submission(100, "cpu").get_model_challenge_1()
    Submission(100, "cpu").get_model_challenge_2()
    first.unlink()
    with pytest.raises(FileNotFoundError, match="There is no weights_challenge_1.pt in"):
        Submission(100, "cpu").get_model_challenge_1()
    (folder / "none").mkdir()
    (folder / "none" / first.name).write_bytes(b"of an older submission")
    first.write_bytes(whole)
    Submission(100, "cpu").get_model_challenge_1()
