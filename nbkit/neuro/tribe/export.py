"""The student as an ONNX file, in fp32 and with 8-bit weights.

Which expert a token takes depends on data, and an exported graph may not: in the file every expert is computed and
weighted, which gives the same numbers. A file is not called good before it was run beside torch.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nbkit.neuro.nn.moe import MoE
from nbkit.neuro.tribe.student.fusion import MODALITIES
from nbkit.neuro.tribe.student.student import TinyTribe


@dataclass(frozen=True)
class Exported:
    """Hold what was exported and how near to torch it is.

    Attributes
    ----------
    path : Path
    bytes : int
    largest : float
        Largest difference to torch's prediction, in z units.
    r : float
        Correlation over all values with torch's prediction.
    """

    path: Path
    bytes: int
    largest: float
    r: float


class _Flat(nn.Module):
    """The student with tensors in and out: what ONNX can say."""

    def __init__(self, student: TinyTribe) -> None:
        super().__init__()
        self.student = student

    def forward(self, text: Tensor, audio: Tensor, video: Tensor, subject: Tensor) -> Tensor:
        return self.student({"text": text, "audio": audio, "video": video}, subject).bold


def export_onnx(student: TinyTribe, path: str | Path, times: int) -> Path:
    """Write the student as ONNX: text, audio, video (batch, times, dim) and subject (batch,) in, bold out.

    Parameters
    ----------
    times : int
        Steps of a window; fixed in the file, the batch is not.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    dense = _dense(student)
    names = [*MODALITIES, "subject"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        torch.onnx.export(
            _Flat(dense), tuple(sample_inputs(student, times).values()), str(path), input_names=names,
            output_names=["bold"], dynamic_axes={name: {0: "batch"} for name in (*names, "bold")}, opset_version=17,
            dynamo=False,
        )  # fmt: skip
    return path


def quantize(path: str | Path, target: str | Path) -> Path:
    """Write an ONNX file with weights in 8 bits, a scale an output channel; activations are quantized as they come."""
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(max(logging.getLogger().level, logging.ERROR))
    quantize_dynamic(str(path), str(target), weight_type=QuantType.QInt8, per_channel=True)
    return Path(target)


def compare(student: TinyTribe, path: str | Path, inputs: dict[str, Tensor]) -> Exported:
    """Run a file beside torch on the same inputs."""
    path = Path(path)
    with torch.no_grad():
        true = _Flat(copy.deepcopy(student).eval())(**inputs).numpy()
    said = run_onnx(path, inputs)
    r = float(np.corrcoef(true.ravel(), said.ravel())[0, 1])
    return Exported(path, path.stat().st_size, float(np.abs(true - said).max()), r)


def run_onnx(path: str | Path, inputs: dict[str, Tensor]) -> np.ndarray:
    """Return a file's prediction, shape (batch, times, outputs)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["bold"], {name: value.numpy() for name, value in inputs.items()})[0]


def sample_inputs(student: TinyTribe, times: int, batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Return random inputs of the right shapes, subject 0 and the mean subject among them."""
    draws, s = torch.Generator().manual_seed(seed), student.settings
    sizes = {"text": s.text_dim, "audio": s.audio_dim, "video": s.video_dim}
    made = {name: torch.randn(batch, times, size, generator=draws) for name, size in sizes.items()}
    return made | {"subject": torch.arange(batch) - 1}


def _dense(student: TinyTribe) -> TinyTribe:
    dense = copy.deepcopy(student).cpu().float().eval()
    for module in dense.modules():
        if isinstance(module, MoE):
            module.way = "dense"
    return dense
