"""Published files of their true layout and size, end to end: from a path or a URL to each phase that takes them."""

from __future__ import annotations

import functools
import http.server
import threading
from types import SimpleNamespace

import pytest
import torch

from nbkit.neuro.labram.codebook import Codebook, CodebookSettings
from nbkit.neuro.labram.decoding_encoder import encoder_for_decoding
from nbkit.neuro.labram.finetune import FinetuneSettings, Regressor
from nbkit.neuro.labram.hub import begin_at_published, published_codebook, published_student
from nbkit.neuro.labram.pretrain import MaskedEEG, PretrainSettings
from tests.neuro.labram.test_hub import student_file, tokenizer_file, written

NAMES = ("Fp1", "Fp2", "C3", "Cz", "C4", "O1", "O2")


def data(sfreq=200.0):
    return SimpleNamespace(ch_names=NAMES, sfreq=sfreq, target=None, target_scale=lambda *_: (0.0, 1.0))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Both files, twelve blocks deep, and their weights; and the address of a server that has them."""
    folder = tmp_path_factory.mktemp("published")
    weights = {
        "labram-base.pth": written(folder / "labram-base.pth", student_file(12)),
        "vqnsp.pth": written(folder / "vqnsp.pth", tokenizer_file(12)),
    }
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, weights, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)


def test_the_student_from_a_url_is_finetuned_and_decoded_with(files, tmp_path, capsys):
    _, weights, address = files
    path = published_student(f"{address}/labram-base.pth", data(), tmp_path)
    total = sum(name.startswith("student.") for name in weights["labram-base.pth"]) - 3  # mask token and inner head
    assert f"{total} of {total} weights from" in capsys.readouterr().out
    module = Regressor.for_data(FinetuneSettings.labram_hub(), data(), path)
    assert module.loaded.matched == module.loaded.total == len(module.backbone.state_dict())
    kept = module.backbone.blocks[11].mlp.fc2.weight.data
    torch.testing.assert_close(kept, weights["labram-base.pth"]["student.blocks.11.mlp.fc2.weight"])
    encoder = encoder_for_decoding(path, 2.0)
    assert encoder(torch.randn(1, len(NAMES), 400)).shape == (1, 200) and encoder.seen is None


def test_the_tokenizer_from_a_path_gives_the_codes_of_a_pretraining(files, tmp_path):
    folder, weights, _ = files
    path = published_codebook(folder / "vqnsp.pth", data(), tmp_path)
    module = MaskedEEG.for_data(PretrainSettings.labram_hub(), data(), path)
    book = module.tokenizer.quantize
    torch.testing.assert_close(book.weight, weights["vqnsp.pth"]["quantize.embedding.weight"])
    labels = module.labels(torch.randn(1, len(NAMES), 400) * 20)
    assert labels.shape == (1, 2 * len(NAMES)) and int(labels.max()) < 8192
    said = begin_at_published(module, folder / "labram-base.pth")
    assert (
        said
        == f"{len(module.state_dict())} of {len(module.state_dict())} weights from labram-base.pth, trained on here"
    )
    torch.testing.assert_close(module.lm_head.weight.data, weights["labram-base.pth"]["lm_head.weight"])


def test_a_codebook_goes_on_from_the_published_one(files):
    folder, weights, _ = files
    module = Codebook(CodebookSettings.labram_hub(), NAMES, 200.0)
    assert begin_at_published(module, None) == "trained here"
    assert "from vqnsp.pth, trained on here" in begin_at_published(module, folder / "vqnsp.pth")
    torch.testing.assert_close(module.tokenizer.quantize.weight, weights["vqnsp.pth"]["quantize.embedding.weight"])


def test_what_cannot_be_is_refused(files, tmp_path):
    folder, _, address = files
    with pytest.raises(ValueError, match="windows have 100 Hz.*SFREQ = 200"):
        published_student(folder / "labram-base.pth", data(100.0), tmp_path)
    with pytest.raises(ValueError, match="could not be downloaded: HTTPError: 404"):
        published_codebook(f"{address}/none.pth", data(), tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        published_codebook(tmp_path / "none.pth", data(), tmp_path)
    with pytest.raises(ValueError, match="matches 0 of"):  # the other file
        published_student(folder / "vqnsp.pth", data(), tmp_path)
    assert not list(tmp_path.glob("*.ckpt"))
