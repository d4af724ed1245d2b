"""Published files: every name maps to one of ours, and what does not is refused."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch

from nbkit.neuro.labram.codebook import CodebookSettings
from nbkit.neuro.labram.hub import load_published_student, load_published_tokenizer
from nbkit.neuro.labram.pretrain import MaskedEEG, PretrainSettings
from nbkit.neuro.labram.tokenizer import VQNSP

DEPTH = 2  # the published files have 12; the names are the same


def block(prefix: str, qk_norm: bool) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a published block."""
    shapes = {
        "norm1.weight": (200,), "norm1.bias": (200,), "attn.qkv.weight": (600, 200), "attn.proj.weight": (200, 200),
        "attn.proj.bias": (200,), "norm2.weight": (200,), "norm2.bias": (200,), "mlp.fc1.weight": (800, 200),
        "mlp.fc1.bias": (800,), "mlp.fc2.weight": (200, 800), "mlp.fc2.bias": (200,),
    }  # fmt: skip
    if qk_norm:
        shapes |= {f"attn.{which}_norm.{part}": (20,) for which in "qk" for part in ("weight", "bias")}
        shapes |= {"gamma_1": (200,), "gamma_2": (200,)}
    else:
        shapes |= {"attn.q_bias": (200,), "attn.v_bias": (200,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def conv(prefix: str) -> dict[str, tuple[int, ...]]:
    shapes = {"conv1.weight": (8, 1, 1, 15), "conv2.weight": (8, 8, 1, 3), "conv3.weight": (8, 8, 1, 3)}
    for number in "123":
        shapes |= {f"conv{number}.bias": (8,), f"norm{number}.weight": (8,), f"norm{number}.bias": (8,)}
    return {prefix + "patch_embed." + name: shape for name, shape in shapes.items()}


def embeddings(prefix: str, norm: str) -> dict[str, tuple[int, ...]]:
    return {
        prefix + "cls_token": (1, 1, 200), prefix + "pos_embed": (1, 129, 200), prefix + "time_embed": (1, 16, 200),
        f"{prefix}{norm}.weight": (200,), f"{prefix}{norm}.bias": (200,),
    }  # fmt: skip


def student_file(depth: int = DEPTH) -> dict[str, tuple[int, ...]]:
    """labram-base.pth's names and shapes, some blocks of it."""
    shapes = embeddings("student.", "norm") | conv("student.")
    for place in range(depth):
        shapes |= block(f"student.blocks.{place}.", qk_norm=True)
    shapes |= {
        "student.mask_token": (1, 1, 200),
        "student.lm_head.weight": (8192, 200),
        "student.lm_head.bias": (8192,),
    }
    shapes |= {"lm_head.weight": (8192, 200), "lm_head.bias": (8192,)}
    return shapes | {"projection_head.0.weight": (200, 200), "projection_head.0.bias": (200,)}


def tokenizer_file(depth: int = DEPTH) -> dict[str, tuple[int, ...]]:
    """vqnsp.pth's names and shapes, some blocks of its encoder."""
    shapes = embeddings("encoder.", "fc_norm") | conv("encoder.") | embeddings("decoder.", "fc_norm")
    for place in range(depth):
        shapes |= block(f"encoder.blocks.{place}.", qk_norm=False)
    for place in range(3):
        shapes |= block(f"decoder.blocks.{place}.", qk_norm=False)
    shapes |= {"decoder.patch_embed.proj.weight": (200, 64, 1, 1), "decoder.patch_embed.proj.bias": (200,)}
    for head, out in (("encode_task_layer", 64), ("decode_task_layer", 200), ("decode_task_layer_angle", 200)):
        shapes |= {f"{head}.0.weight": (200, 200), f"{head}.0.bias": (200,)}
        shapes |= {f"{head}.2.weight": (out, 200), f"{head}.2.bias": (out,)}
    shapes |= {"quantize.cluster_size": (8192,), "quantize.embedding.initted": (1,)}
    book = "quantize.embedding."
    return shapes | {f"{book}weight": (8192, 64), f"{book}cluster_size": (8192,), f"{book}embed_avg": (8192, 64)}


def written(path, shapes):
    torch.manual_seed(0)
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    torch.save({"model": weights, "args": argparse.Namespace(lr=1.0), "epoch": 3}, path)
    return weights


def hub_tokenizer() -> VQNSP:
    s = CodebookSettings.labram_hub()
    return VQNSP(s.patch, DEPTH, s.decoder_depth, s.codebook_size, s.code_dim, table="ten_twenty")


@pytest.fixture(scope="module")
def student() -> MaskedEEG:
    settings = replace(PretrainSettings.labram_hub(), depth=DEPTH)
    return MaskedEEG(settings, hub_tokenizer(), ("Cz", "Oz"), 200.0)


def test_the_published_student_fills_every_weight(tmp_path, student):
    weights = written(tmp_path / "labram-base.pth", student_file())
    report = load_published_student(student, tmp_path / "labram-base.pth")
    assert report.matched == report.total == len(student.state_dict())
    torch.testing.assert_close(student.lm_head.weight.data, weights["lm_head.weight"])
    torch.testing.assert_close(student.student.blocks[1].mlp.fc2.bias.data, weights["student.blocks.1.mlp.fc2.bias"])


def test_the_published_tokenizer_fills_every_weight(tmp_path):
    tokenizer = hub_tokenizer()
    weights = written(tmp_path / "vqnsp.pth", tokenizer_file())
    report = load_published_tokenizer(tokenizer, tmp_path / "vqnsp.pth")
    assert report.matched == report.total == len(tokenizer.state_dict())
    assert tokenizer.quantize.ready  # no k-means over published codes
    torch.testing.assert_close(tokenizer.quantize.weight, weights["quantize.embedding.weight"])
    bias = tokenizer.encoder.blocks[0].attn.qkv.bias.data
    torch.testing.assert_close(bias[:200], weights["encoder.blocks.0.attn.q_bias"])
    torch.testing.assert_close(bias[400:], weights["encoder.blocks.0.attn.v_bias"])
    assert bias[200:400].abs().max() == 0
    proj = tokenizer.decoder.patch_embed.proj.weight.data
    torch.testing.assert_close(proj, weights["decoder.patch_embed.proj.weight"][:, :, 0, 0])


def test_a_name_that_no_rule_knows_is_refused_and_nothing_is_loaded(tmp_path, student):
    written(tmp_path / "odd.pth", student_file() | {"student.extra": (3,)})
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(ValueError, match="1 left over"):
        load_published_student(student, tmp_path / "odd.pth")
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    with pytest.raises(FileNotFoundError, match="The published files are"):
        load_published_student(student, tmp_path / "none.pth")
