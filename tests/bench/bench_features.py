"""Feature extraction: decoding and encoding together, against the slower of the two alone

One clip with sound and pictures is decoded alone, encoded alone from pieces that lie ready, both one after the other,
and together as the phase does it. Weights are random: they take as long as trained ones.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.bench.rows import Row


def run(quick: bool) -> list[Row]:
    """Measure on CUDA where there is one, else on a CPU thread, at sizes that take seconds."""
    import torch

    from nbkit.neuro.tribe.stimuli.decode import ahead, decode
    from nbkit.neuro.tribe.stimuli.encoders import EncoderSettings
    from nbkit.neuro.tribe.stimuli.extract import Extractor
    from nbkit.neuro.tribe.stimuli.stimuli import media_seconds, write_clip

    cuda = torch.cuda.is_available()
    threads = torch.get_num_threads()
    if not cuda:
        torch.set_num_threads(1)  # the other core decodes
    rows = []
    for size, image in ((64, 64), (720, 64)) if not cuda else ((720, 256), (1080, 256)):
        settings = EncoderSettings(text="random", audio="random", video="random", image_size=image)
        extract = Extractor(settings, "cuda" if cuda else "cpu")
        with tempfile.TemporaryDirectory() as folder:
            clip = write_clip(Path(folder, "clip.mpg"), 60.0 if quick else 120.0, size)
            seconds = media_seconds(clip)

            def pieces(clip=clip, seconds=seconds, settings=settings):
                return decode(clip, ("audio", "video"), seconds, settings.image_size, settings.frames_at_once)

            def encode(found, extract=extract):
                for piece in found:
                    extract.encoder(piece.kind)(piece.values)

            encode(pieces())  # once before the clock: kernels, caches
            best = {"decode": 1e9, "encode": 1e9, "serial": 1e9, "together": 1e9}
            for _ in range(3):
                ready, best["decode"] = _timed(lambda: list(pieces()), best["decode"])
                _, best["encode"] = _timed(lambda ready=ready: encode(ready), best["encode"])
                _, best["serial"] = _timed(lambda: encode(list(pieces())), best["serial"])
                _, best["together"] = _timed(lambda: encode(ahead(pieces(), 4)), best["together"])
            slower = max(best["decode"], best["encode"])
            share = slower / best["together"]
            where = "CUDA" if cuda else "CPU, 1 thread"
            note = (
                f"{where}; {seconds:.0f} s of {size} px; decode {best['decode']:.2f} s, encode {best['encode']:.2f} s, "
                f"together {best['together']:.2f} s; {seconds / best['together']:.0f} x real time"
            )
            which = "decoding" if best["decode"] > best["encode"] else "encoding"
            rows.append(
                Row(f"extraction, {which} the slower", share, "of the slower alone", "one after the other",
                    slower / best["serial"], ">= 0.9", share >= 0.9, note)
            )  # fmt: skip
    torch.set_num_threads(threads)
    return rows


def _timed(work, best: float):
    began = time.perf_counter()
    found = work()
    return found, min(best, time.perf_counter() - began)
