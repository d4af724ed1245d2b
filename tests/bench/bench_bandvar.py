"""Band-VAR's transformer: generating with and without the cache, and a training step beside torch's own encoder

The window is the sheet's: 105 tokens in scales of 4, 8, 13, 30 and 50. Without the cache means as training computes it,
the whole masked pass for each scale; the note says what recomputing only the tokens so far would take.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from nbkit.neuro.bandvar.tokens.generator import NextScaleTransformer
from nbkit.neuro.bandvar.tokens.quantizer import BandQuantizer
from nbkit.neuro.bandvar.tokens.sampling import generate_tokens
from tests.bench.rows import Row

_LENGTHS = (4, 8, 13, 30, 50)


def run(quick: bool) -> list[Row]:
    """Measure on the accelerator where there is one, else on the CPU at a size of seconds."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    return [_generation(device, quick), _training(device, quick)]


def _generation(device: str, quick: bool) -> Row:
    batch, repeats = (64, 10) if device == "cuda" else (4 if quick else 8, 1 if quick else 3)
    quantizer = BandQuantizer(4096, _LENGTHS, [4] * sum(_LENGTHS)).to(device).eval()
    model = NextScaleTransformer(_LENGTHS, 4096, quantizer.width, (2, 0, 0), depth=12).to(device).eval()
    chosen = torch.tensor([[1, 0, 0]], device=device).repeat(batch, 1)

    def generate(cached: bool) -> torch.Tensor:
        return generate_tokens(
            model, quantizer, chosen, generator=torch.Generator(device).manual_seed(0), cached=cached
        )

    @torch.no_grad()
    def prefixes() -> None:
        both = chosen.repeat(2, 1)
        for place in model.slices:
            model(torch.zeros(2 * batch, place.stop - _LENGTHS[0], quantizer.width, device=device), both)

    same = torch.equal(generate(True), generate(False))
    ours, whole, prefix = _side_by_side([lambda: generate(True), lambda: generate(False), prefixes], repeats, device)
    note = (
        f"{device}, {batch} windows, guided; {whole / ours:.1f} x as fast, and {prefix / ours:.1f} x as fast as "
        f"recomputing only the tokens so far; tokens {'equal' if same else 'DIFFER'}"
    )
    return Row(
        "generate, depth 12, cached", 1e3 * ours / batch, "ms a window", "whole pass a scale", 1e3 * whole / batch,
        ">= 3 x as fast, same tokens", same and whole >= 3 * ours, note,
    )  # fmt: skip


def _training(device: str, quick: bool) -> Row:
    depth = 12 if device == "cuda" else 4
    batch, repeats = (64, 20) if device == "cuda" else (16 if quick else 32, 3)
    model = NextScaleTransformer(_LENGTHS, 4096, 32, (2, 0, 0), depth=depth).to(device).train()
    encoder = _Plain(depth).to(device).train()
    inputs = torch.randn(batch, sum(_LENGTHS) - _LENGTHS[0], 32, device=device)
    chosen = torch.tensor([[1, 0, 0]], device=device).repeat(batch, 1)
    targets = torch.randint(4096, (batch, sum(_LENGTHS)), device=device)
    mask = ~model.mask

    def step_of(module: nn.Module, predict: Callable[[], torch.Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)

        def step() -> None:
            with torch.autocast(device, torch.float16, enabled=device == "cuda"):
                loss = nn.functional.cross_entropy(predict().flatten(0, 1), targets.flatten())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return step

    ours, theirs = _side_by_side(
        [step_of(model, lambda: model(inputs, chosen)), step_of(encoder, lambda: encoder(inputs, mask))],
        repeats,
        device,
    )
    note = f"{device}, depth {depth}, width {64 * depth}, {batch} windows, dropout 0, same embedding and head"
    return Row(
        f"training step, depth {depth}", 1e3 * ours, "ms", "torch.nn.TransformerEncoder", 1e3 * theirs,
        ">= 0.9 of its speed", theirs / ours >= 0.9, f"{note}; {theirs / ours:.2f} of its speed",
    )  # fmt: skip


class _Plain(nn.Module):
    """torch's encoder between the same embedding and head, without a condition."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        width = 64 * depth
        self.word = nn.Linear(32, width)
        self.start = nn.Parameter(torch.zeros(1, _LENGTHS[0], width))
        self.position = nn.Parameter(torch.zeros(1, sum(_LENGTHS), width))
        layer = nn.TransformerEncoderLayer(
            width, depth, 4 * width, dropout=0.0, activation=nn.GELU("tanh"), batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, 4096)

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = torch.cat([self.start.expand(len(inputs), -1, -1), self.word(inputs)], dim=1) + self.position
        return self.head(self.encoder(hidden, mask))


def _side_by_side(ways: list[Callable[[], object]], repeats: int, device: str) -> list[float]:
    """Return the median seconds of each, taken in turns: a load that comes and goes falls on all."""
    taken: list[list[float]] = [[] for _ in ways]
    for round_ in range(repeats + 1):
        for way, seconds in zip(ways, taken, strict=True):
            began = time.perf_counter()
            way()
            if device == "cuda":
                torch.cuda.synchronize()
            if round_:
                seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in taken]
