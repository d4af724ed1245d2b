"""Convert LaBraM's published weights to our names, and ours to braindecode's.

The names differ in a few words only, all of which are listed here. The strict load that follows raises if a rule leaves
any weight over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nbkit.neuro.labram.pretrain import MaskedEEG
from nbkit.neuro.labram.tokenizer import VQNSP
from nbkit.neuro.training.weights import LoadReport, load_strictly

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
