"""Export the student to ONNX, in fp32 and with 8-bit weights.

The experts that a token uses depend on the data, which an exported graph cannot express. In the file, every expert is
computed and weighted, which gives the same result. `compare` checks a file against torch.
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
    """An exported file and its difference from torch.

    Attributes
    ----------
    path : Path
    bytes : int
        Size of the file.
    largest : float
        Largest absolute difference from torch's prediction, in z units.
    r : float
        Correlation with torch's prediction over all values.
    """

    path: Path
    bytes: int
    largest: float
    r: float


class _Flat(nn.Module):
    """The student with tensors as inputs and output, as ONNX requires."""

    def __init__(self, student: TinyTribe) -> None:
        super().__init__()
        self.student = student

    def forward(self, text: Tensor, audio: Tensor, video: Tensor, subject: Tensor) -> Tensor:
        return self.student({"text": text, "audio": audio, "video": video}, subject).bold


def export_onnx(student: TinyTribe, path: str | Path, times: int) -> Path:
    """Write the student as ONNX.

    Inputs are text, audio and video, (batch, times, dim), and subject, (batch,). The output is bold, (batch, times,
    outputs).

    Parameters
    ----------
    student : TinyTribe
    path : str or Path
    times : int
        Steps of a window. They are fixed in the file; the batch size is not.

    Returns
    -------
    path : Path
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
    """Write a copy of an ONNX file with 8-bit weights, and return its path.

    Each output channel has a scale; activations are quantised at run time. The weights are unsigned: onnxruntime
    multiplies signed ones on a processor without VNNI in 16 bits that overflow, and the correlation with the student
    fell to 0.97 there.
    """
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(max(logging.getLogger().level, logging.ERROR))
    quantize_dynamic(str(path), str(target), weight_type=QuantType.QUInt8, per_channel=True)
    return Path(target)


def compare(student: TinyTribe, path: str | Path, inputs: dict[str, Tensor]) -> Exported:
    """Run an ONNX file and the student on the same inputs and return the difference."""
    path = Path(path)
    with torch.no_grad():
        true = _Flat(copy.deepcopy(student).cpu().eval())(**inputs).numpy()
    said = run_onnx(path, inputs)
    r = float(np.corrcoef(true.ravel(), said.ravel())[0, 1])
    return Exported(path, path.stat().st_size, float(np.abs(true - said).max()), r)


def run_onnx(path: str | Path, inputs: dict[str, Tensor]) -> np.ndarray:
    """Return the prediction of an ONNX file, shape (batch, times, outputs)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["bold"], {name: value.numpy() for name, value in inputs.items()})[0]


def sample_inputs(student: TinyTribe, times: int, batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Return random inputs of the right shapes, for the mean subject and subjects from 0 on."""
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
