"""The whole chain as ONNX files: the three backbones and the student, from a raw film to the map.

Decoding, the tokenizer and the log-mel spectrogram stay in Python; every network is a file. `compare_chain` runs a film
through torch and through the files and compares the maps.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nbkit.neuro.tribe.export import export_onnx
from nbkit.neuro.tribe.runs.runs import StimulusRun, make_stimulus_run
from nbkit.neuro.tribe.scoring.evaluate import predict_run
from nbkit.neuro.tribe.stimuli.encoders import EncoderSettings
from nbkit.neuro.tribe.stimuli.extract import Extractor
from nbkit.neuro.tribe.stimuli.stimuli import clip_rows
from nbkit.neuro.tribe.student.fusion import MODALITIES
from nbkit.neuro.tribe.student.student import TinyTribe


@dataclass(frozen=True)
class Chain:
    """A film through torch and through ONNX files.

    Attributes
    ----------
    r, largest : float
        Correlation of the two maps over all values, and their largest difference in z.
    torch_ms, onnx_ms : float
        Time for a second of film, decoding included, in ms of this process's CPU time.
    bytes : int
        Size of all files.
    """

    r: float
    largest: float
    torch_ms: float
    onnx_ms: float
    bytes: int


class _Text(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class _Audio(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor) -> Tensor:
        return self.model(mel).last_hidden_state


class _Video(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).pooler_output


class _Session:
    """An ONNX file that is called as the model it was made from."""

    def __init__(self, path: Path, output: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._run = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names, self._output = [one.name for one in self._run.get_inputs()], output

    def __call__(self, *values: Tensor, **named: Tensor) -> Any:
        given = dict(zip(self._names, values, strict=False)) | named
        made = self._run.run(None, {name: given[name].numpy() for name in self._names})[0]
        return type("Made", (), {self._output: torch.from_numpy(made)})


def export_chain(extract: Extractor, student: TinyTribe, folder: str | Path, times: int) -> dict[str, Path]:
    """Write the three backbones and the student as ONNX files.

    Parameters
    ----------
    extract : Extractor
        On the CPU.
    student : TinyTribe
    folder : str or Path
    times : int
        Steps of the student's window.

    Returns
    -------
    files : dict of Path
        Keys text, audio, video and student.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    size = extract.settings.image_size
    ids = torch.randint(1000, 2000, (2, 9))
    parts: dict[str, tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]] = {
        "text": (_Text(extract.encoder("text").model), (ids, torch.ones_like(ids)),
                 {"input_ids": {0: "n", 1: "tokens"}, "attention_mask": {0: "n", 1: "tokens"}}),
        "audio": (_Audio(extract.encoder("audio").model), (torch.randn(1, 80, 3000),), {"mel": {0: "n"}}),
        "video": (_Video(extract.encoder("video").model), (torch.rand(2, 3, size, size),), {"pixels": {0: "n"}}),
    }  # fmt: skip
    files = {}
    for name, (module, inputs, axes) in parts.items():
        files[name] = folder / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of every shape that it takes as fixed
            torch.onnx.export(
                module.eval(), inputs, str(files[name]), input_names=list(axes), output_names=["made"],
                dynamic_axes={**axes, "made": {0: "n"}}, opset_version=17, dynamo=False,
            )  # fmt: skip
    files["student"] = export_onnx(student, folder / "student.onnx", times)
    return files


def compare_chain(
    extract: Extractor, student: TinyTribe, row: Mapping[str, Any], folder: str | Path, step_s: float
) -> Chain:
    """Run a film through torch and through ONNX files, decoding included, and compare the maps.

    Parameters
    ----------
    extract : Extractor
        On the CPU.
    student : TinyTribe
    row : mapping
        Manifest row of the film.
    folder : str or Path
        Where to write the files.
    step_s : float
        Step of the student, in s.

    Returns
    -------
    chain : Chain
    """
    import onnxruntime

    run, torch_s = _clocked(lambda: make_stimulus_run(extract(row), step_s))  # also loads the backbones
    run, torch_s = _clocked(lambda: make_stimulus_run(extract(row), step_s))
    true, more = _clocked(lambda: predict_run(student, run, len(run), lead=0))
    files = export_chain(extract, student, folder, len(run))
    others = Extractor(extract.settings, "cpu", extract.synthetic)
    for name, output in (("text", "last_hidden_state"), ("audio", "last_hidden_state"), ("video", "pooler_output")):
        others.encoder(name).model = _Session(files[name], output)
    net = onnxruntime.InferenceSession(str(files["student"]), providers=["CPUExecutionProvider"])

    def through_onnx() -> np.ndarray:
        made: StimulusRun = make_stimulus_run(others(row), step_s)
        given = {name: made.features[name][None].astype(np.float32) for name in MODALITIES}
        return net.run(["bold"], {**given, "subject": np.array([-1])})[0][0]

    through_onnx()
    said, onnx_s = _clocked(through_onnx)
    length = len(run) * step_s
    r = float(np.corrcoef(true.ravel(), said.ravel())[0, 1])
    total = sum(path.stat().st_size for path in files.values())
    return Chain(r, float(np.abs(true - said).max()), 1e3 * (torch_s + more) / length, 1e3 * onnx_s / length, total)


def _clocked(work: Any) -> tuple[Any, float]:
    began = time.process_time()
    return work(), time.process_time() - began


def chain_rows(
    film: str | Path | None, encoders: EncoderSettings, student: TinyTribe, folder: str | Path
) -> list[dict[str, Any]]:
    """Return result rows of a film's way through the whole chain; none without a film.

    Parameters
    ----------
    film : path or None
    encoders : EncoderSettings
        The backbones of 61_tribe_features.
    student : TinyTribe
    folder : str or Path
        Where to write the ONNX files.
    """
    if film is None:
        return []
    path = Path(film)
    rows = [row for row in clip_rows(path.parent) if Path(row["path"]) == path]
    if not rows:
        raise FileNotFoundError(f"FILM is {film}, which is no video or sound file here. Give the path of one.")
    found = compare_chain(Extractor(encoders, "cpu"), student, rows[0], folder, student.hrf.tr)
    print(f"ONNX files of the whole chain in {folder}: {found.bytes / 1e6:.0f} MB, at most {found.largest:.2g} z off")
    names = ("ms_from_film", "ms_from_film_onnx", "r_chain_onnx")
    values = ((found.torch_ms, 1000.0, "real time"), (found.onnx_ms, found.torch_ms, "torch"),
              (found.r, 1.0, "the same map"))  # fmt: skip
    return [
        {"name": name, "value": value, "unit": unit, "baseline": baseline, "baseline_is": what}
        for name, unit, (value, baseline, what) in zip(names, ("ms", "ms", "1"), values, strict=True)
    ]
