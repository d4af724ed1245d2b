"""Scoring from the zip alone: the challenge's numbers, a clean process, and words for a zip that does not run."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
import torch

from nbkit.neuro.challenge.archive import write_zip
from nbkit.neuro.challenge.scoring import CONTRACT_PYTHON, score_zip
from tests.neuro.challenge.test_archive import toy_part, toy_zip
from tests.neuro.challenge.toy_network import Toy


@pytest.fixture(scope="module")
def batches():
    torch.manual_seed(0)
    made = {}
    for number in (1, 2):
        windows, target = 30 * torch.randn(7, 129, 200), torch.randn(7)
        made[number] = [{"window": windows[i : i + 3], "target": target[i : i + 3]} for i in (0, 3, 6)]
    return made


def test_a_zip_is_scored_as_the_challenge_scores(tmp_path, batches):
    from sklearn.metrics import root_mean_squared_error

    found = score_zip(toy_zip(tmp_path).path, batches)
    scores = []
    for number in (1, 2):
        toy = Toy(129)
        toy.load_state_dict(toy_part(number).weights)
        expected = torch.cat([toy(batch["window"])[:, 0] for batch in batches[number]]).detach().numpy()
        np.testing.assert_allclose(found.predictions[number], expected, rtol=1e-5, atol=1e-5)
        true = torch.cat([batch["target"] for batch in batches[number]]).double().numpy()
        scores.append(root_mean_squared_error(true, found.predictions[number]) / true.std())
    assert [found.challenge1, found.challenge2] == pytest.approx(scores)
    assert found.overall == round(0.3 * scores[0] + 0.7 * scores[1], 5)
    assert found.facts["refuses_other_lengths"] == {"1": True, "2": True}
    assert [row["baseline"] for row in found.rows()] == [1.0, 1.0, 1.0]


@pytest.mark.rehearse
def test_the_process_has_no_nbkit(tmp_path, batches, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    found = score_zip(toy_zip(tmp_path).path, batches)
    assert not {"nbkit", "lightning"} & set(found.facts["loaded"]) and found.facts["asked_for_nbkit"] == []
    written = toy_zip(tmp_path).path
    leaning = changed(written, "submission.py", lambda text: text + b"\nimport nbkit.neuro\n")
    with pytest.raises(ValueError, match="No module named 'nbkit'.*a submission stands alone"):
        score_zip(leaning, batches)


def changed(path, name, change):
    """Write a copy in which one file is another; None leaves it out."""
    with zipfile.ZipFile(path) as old:
        files = {entry: old.read(entry) for entry in old.namelist()}
    files[name] = change(files.get(name, b""))
    with zipfile.ZipFile(path.with_name("changed.zip"), "w") as new:
        for entry, content in files.items():
            if content is not None:
                new.writestr(entry, content)
    return path.with_name("changed.zip")


@pytest.mark.rehearse
def test_what_is_wrong_with_a_zip_is_named(tmp_path, batches):
    path = toy_zip(tmp_path).path
    with pytest.raises(ValueError, match="weights_challenge_2.pt is missing"):
        score_zip(changed(path, "weights_challenge_2.pt", lambda _: None), batches)
    with pytest.raises(ValueError, match="notes.txt does not belong there"):
        score_zip(changed(path, "notes.txt", lambda _: b""), batches)
    with pytest.raises(ValueError, match="weights_challenge_1.pt is damaged"):
        score_zip(changed(path, "weights_challenge_1.pt", lambda content: content[:-7]), batches)
    with pytest.raises(ValueError, match=r"answers with \(1, 2\)"):
        wide = "return self.network(torch.where", "return torch.ones(1, 2).to(X) * self.network(torch.where"
        score_zip(changed(path, "submission.py", lambda t: t.decode().replace(*wide).encode()), batches)
    (tmp_path / "torn.zip").write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="is not a complete zip"):
        score_zip(tmp_path / "torn.zip", batches)
    with pytest.raises(FileNotFoundError, match="There is no zip"):
        score_zip(tmp_path / "none.zip", batches)
    with pytest.raises(ValueError, match=r"must be \(batch, 129, 200\)"):
        score_zip(path, {1: [{"window": torch.zeros(1, 12, 200), "target": torch.zeros(1)}], 2: batches[2]})


def test_the_scoring_clusters_own_versions_run_it(tmp_path, batches):
    """``EEG2025_PYTHON=.../bin/python`` of an environment made by ``pip install torch==2.2.2 numpy==2.2.6``."""
    if not os.environ.get(CONTRACT_PYTHON):
        pytest.skip(f"{CONTRACT_PYTHON} names no interpreter with the contract's versions")
    found = score_zip(toy_zip(tmp_path).path, batches)
    assert found.facts["torch"].startswith("2.2.2")


def test_an_ensemble_averages_its_members(tmp_path, batches):
    path = write_zip({1: toy_part(1), 2: [toy_part(2), toy_part(3), toy_part(4)]}, tmp_path / "sub.zip").path
    found, windows = score_zip(path, batches), torch.cat([batch["window"] for batch in batches[2]])
    each = []
    for seed in (2, 3, 4):
        network = Toy(129).eval()
        network.load_state_dict(toy_part(seed).weights)
        each.append(network(windows).detach())
    assert found.predictions[2] == pytest.approx(torch.stack(each).mean(0).flatten().numpy(), rel=1e-4)
    with zipfile.ZipFile(path) as archive:
        assert "Challenge 2: toy 2; toy 3; toy 4." in archive.read("submission.py").decode()
    with pytest.raises(ValueError, match="An ensemble of no models"):
        write_zip({1: toy_part(1), 2: []}, tmp_path / "none.zip")
