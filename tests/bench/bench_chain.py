"""From a raw film to the map: the student and its backbones in torch, and as ONNX files

A film of 20 s goes through decoding, MiniLM, Whisper-tiny, MobileViT-S and the student of 1000 parcels, in this
process's CPU time. Weights are random: they take as long as trained ones.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.rows import Row


def run(quick: bool) -> list[Row]:
    """Measure on one CPU thread."""
    import torch

    from nbkit.neuro.tribe.scoring.chain import compare_chain
    from nbkit.neuro.tribe.stimuli.encoders import EncoderSettings
    from nbkit.neuro.tribe.stimuli.extract import Extractor
    from nbkit.neuro.tribe.stimuli.stimuli import clip_rows, write_clip
    from nbkit.neuro.tribe.student.student import StudentSettings, TinyTribe

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encoders = EncoderSettings(text="random", audio="random", video="random")
    with tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder, "films", "film.mpg"), 20.0 if quick else 60.0, 256)
        (row,) = clip_rows(Path(folder, "films"))
        row |= {"transcript": "a bright square goes round and round"}
        student = TinyTribe(StudentSettings.free()).eval()
        found = compare_chain(Extractor(encoders, "cpu"), student, row, Path(folder, "onnx"), student.hrf.tr)
    torch.set_num_threads(threads)
    note = f"CPU time, 1 thread; r {found.r:.6f}, largest difference {found.largest:.2g} z, {found.bytes / 1e6:.0f} MB"
    return [
        Row("from a raw film to the map, a second of film", found.torch_ms, "ms", "ONNX files", found.onnx_ms,
            "<= 1000 ms (real time)", found.torch_ms <= 1000, note)
    ]  # fmt: skip
