"""Convert LaBraM's published weights to our names, and ours to braindecode's.

The names differ in a few words only, all of which are listed here. The strict load that follows raises if a rule leaves
any weight over.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nbkit.ground.download import local_file
from nbkit.ground.files import write_atomically
from nbkit.neuro.labram.codebook import Codebook, CodebookSettings
from nbkit.neuro.labram.pretrain import MaskedEEG, PretrainSettings, make_backbone
from nbkit.neuro.labram.tokenizer import VQNSP
from nbkit.neuro.training.weights import LoadReport, load_strictly, part_of

SFREQ = 200.0  # of the published weights, in Hz

# labram-base.pth (in "model"): the student with its outer lm_head; the inner one was never trained.
_STUDENT = ((r"^student\.mask_token$", "mask_token"),)
_STUDENT_UNUSED = ("student.lm_head.", "projection_head.", "logit_scale")

# vqnsp.pth (in "model"): its transformers end in fc_norm, the norm after the pooling of finetuning.
_TOKENIZER = (
    (r"\.fc_norm\.", ".norm."),
    (r"^quantize\.embedding\.weight$", "quantize.weight"),
    (r"^quantize\.embedding\.embed_avg$", "quantize.running_sum"),
    (r"^quantize\.embedding\.cluster_size$", "quantize.running_use"),
)
_TOKENIZER_UNUSED = ("quantize.cluster_size", "quantize.embedding.initted", "loss", "teacher", "scaling")

_BRAINDECODE = (
    (r"^pos_embed$", "position_embedding"),
    (r"^time_embed$", "temporal_embedding"),
    (r"^patch_embed\.", "patch_embed.temporal_conv."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
)


def load_published_student(module: MaskedEEG, path: str | Path) -> LoadReport:
    """Load ``labram-base.pth`` into a `MaskedEEG` of ``PretrainSettings.labram_hub()`` with the ten_twenty table.

    Returns
    -------
    report : LoadReport

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a weight is missing, left over or of another shape.
    """
    return load_strictly(module, student_weights(_model_of(path)), path)


def load_published_tokenizer(tokenizer: VQNSP, path: str | Path) -> LoadReport:
    """Load ``vqnsp.pth`` into the tokenizer of ``CodebookSettings.labram_hub()`` with the ten_twenty table.

    Returns
    -------
    report : LoadReport

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a weight is missing, left over or of another shape.
    """
    weights = tokenizer_weights(_model_of(path))
    own = tokenizer.state_dict()
    # State of a training that the file does not hold: no uses counted, and k-means is done.
    for name in ("counts", "pool", "pooled"):
        weights[f"quantize.{name}"] = torch.zeros_like(own[f"quantize.{name}"])
    weights["quantize.pooled"] += len(own["quantize.pool"])
    return load_strictly(tokenizer, weights, path)


def published_codebook(source: str | Path, data: Any, folder: str | Path) -> Path:
    """Return a codebook's checkpoint with the tokenizer of ``vqnsp.pth``, for windows of data.

    Parameters
    ----------
    source : path or URL
        See `local_file`.
    data : WindowData or MontageData
        With ``ch_names``, and ``sfreq`` of 200 Hz.
    folder : path
        Where to write the checkpoint.

    Raises
    ------
    ValueError
        If the windows are not at 200 Hz, or a weight does not match.
    """
    _check_rate(data.sfreq)
    module = Codebook(CodebookSettings.labram_hub(), data.ch_names, data.sfreq, "ten_twenty")
    print(load_published_tokenizer(module.tokenizer, local_file(source)))
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    del checkpoint["labram_codebook"]["seen"]  # its authors' people are not named
    return _saved(checkpoint, Path(folder, "published_codebook.ckpt"))


def published_student(source: str | Path, data: Any, folder: str | Path) -> Path:
    """Return a pretraining's checkpoint with the student of ``labram-base.pth``, for windows of data.

    Parameters and errors are those of `published_codebook`.
    """
    _check_rate(data.sfreq)
    settings, weights = PretrainSettings.labram_hub(), student_weights(_model_of(local_file(source)))
    print(load_strictly(make_backbone(settings, "ten_twenty"), part_of(weights, "student."), source))
    made = {
        "settings": asdict(settings), "ch_names": list(data.ch_names), "sfreq": data.sfreq, "table": "ten_twenty",
        "codes": len(weights["lm_head.weight"]), "tokenizer": "published",
    }  # fmt: skip
    return _saved({"state_dict": weights, "labram_pretrain": made}, Path(folder, "published_student.ckpt"))


def begin_at_published(module: Codebook | MaskedEEG, source: str | Path | None) -> str:
    """Load published weights into a module before its training, if a source is given, and say what it begins with."""
    if source is None:
        return "trained here"
    _check_rate(module.sfreq)
    path = local_file(source)
    if isinstance(module, Codebook):
        report = load_published_tokenizer(module.tokenizer, path)
    else:
        report = load_published_student(module, path)
    return f"{report}, trained on here"


def student_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of ``labram-base.pth`` under our names."""
    return _renamed(published, _STUDENT, _STUDENT_UNUSED)


def tokenizer_weights(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of ``vqnsp.pth`` under our names.

    The biases of queries and values become one bias, with zeros for the keys, whose bias does not change attention. The
    1 x 1 convolution of the decoder becomes a matrix.
    """
    weights = _renamed(published, _TOKENIZER, _TOKENIZER_UNUSED)
    for name in [name for name in weights if name.endswith(".q_bias")]:
        stem = name.removesuffix("q_bias")
        query, value = weights.pop(name), weights.pop(stem + "v_bias")
        weights[stem + "qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    name = "decoder.patch_embed.proj.weight"
    if name in weights:
        weights[name] = weights[name].flatten(1)
    return weights


def braindecode_weights(backbone: Mapping[str, Tensor], patches: int) -> dict[str, Tensor]:
    """Return a backbone's weights under the names of braindecode's Labram.

    Parameters
    ----------
    backbone : mapping of str to Tensor
        State dict of a `NeuralTransformer`.
    patches : int
        Patches of a window; braindecode's table has one more time embedding than that.
    """
    weights = _renamed(backbone, _BRAINDECODE, ())
    weights["temporal_embedding"] = weights["temporal_embedding"][:, : patches + 1]
    return weights


def _check_rate(sfreq: float) -> None:
    if sfreq != SFREQ:
        raise ValueError(
            f"The windows have {sfreq:g} Hz; LaBraM's published weights are for patches of 200 samples at 200 Hz. Cut "
            "the windows with SFREQ = 200 and its authors' cleaning, CLEANING = {'l_freq': 0.1, 'h_freq': 75.0, "
            "'notch': 50.0}, in 10_eeg_windows."
        )


def _saved(checkpoint: dict[str, Any], path: Path) -> Path:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))
    return path


def _renamed(
    weights: Mapping[str, Tensor], rules: tuple[tuple[str, str], ...], unused: tuple[str, ...]
) -> dict[str, Tensor]:
    renamed = {}
    for name, value in weights.items():
        if not name.startswith(unused or ("\0",)):
            for pattern, new in rules:
                name = re.sub(pattern, new, name)
            renamed[name] = value
    return renamed


def _model_of(path: str | Path) -> Mapping[str, Tensor]:
    """Return the weights of a published file; the pickled settings in it are not used."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"There is no {path}. The published files are labram-base.pth and vqnsp.pth of the LaBraM repository "
            "(github.com/935963004/LaBraM, checkpoints/)."
        )
    import argparse

    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint.get("model", checkpoint)
