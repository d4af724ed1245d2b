"""The exported file beside torch, and the 8-bit one beside both."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.neuro.nn.moe import MoE
from nbkit.neuro.tribe.export import compare, export_onnx, quantize, run_onnx, sample_inputs
from nbkit.neuro.tribe.student.student import StudentSettings, TinyTribe

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    student = TinyTribe(StudentSettings.smoke().of(n_vertices=60)).eval()
    with torch.no_grad():
        student.film.gamma.normal_(1.0, 0.2)
    folder = tmp_path_factory.mktemp("onnx")
    path = export_onnx(student, folder / "student.onnx", 20)
    return student, path, quantize(path, folder / "student-int8.onnx")


@pytest.mark.parametrize("batch", [1, 3])
def test_the_file_gives_torchs_numbers_at_any_batch(exported, batch):
    student, path, _ = exported
    found = compare(student, path, sample_inputs(student, 20, batch, seed=batch))
    assert found.largest < 1e-4 and found.r > 0.99999


def test_eight_bits_are_smaller_and_near(exported):
    student, path, small = exported
    found = compare(student, small, sample_inputs(student, 20, 3, seed=5))
    assert found.bytes < 0.5 * path.stat().st_size and 0.999 < found.r < 1.0
    weights = [one for one in onnx.load(small).graph.initializer if one.name.endswith("_quantized")]
    assert len(weights) > 10 and {one.data_type for one in weights} == {onnx.TensorProto.UINT8}, "signed ones overflow"


def test_subjects_are_in_the_file(exported):
    student, path, _ = exported
    inputs = sample_inputs(student, 20, 2)
    inputs = {name: value[:1].expand(2, *value.shape[1:]).contiguous() for name, value in inputs.items()}
    inputs["subject"] = torch.tensor([0, 1])
    first, second = run_onnx(path, inputs)
    assert np.abs(first - second).max() > 1e-3


def test_the_students_own_experts_are_left_as_they_were(exported):
    student, _, _ = exported
    assert all(module.way is None for module in student.modules() if isinstance(module, MoE))
