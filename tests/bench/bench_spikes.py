"""NeuroFM: cost by units and by bins, up to 2,000 units and 1,000 bins, and windows a second of a probe's many units

Linear means that doubling what is read doubles the time, not more. The alternative of the tokenizer makes a token for
every unit of every bin before it attends, as the words of the method have it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from nbkit.neuro.neurofm.network.model import NeuroFM, NeuroFMSettings
from nbkit.neuro.neurofm.network.tokenizer import SpikeTokenizer
from nbkit.neuro.neurofm.network.units import RecordingUnits, Task, UnitTable
from tests.bench.rows import Row


def run(quick: bool) -> list[Row]:
    """Measure on the accelerator where there is one, else on the CPU at a size of seconds."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    settings = NeuroFMSettings.quick_test() if device == "cuda" else NeuroFMSettings.smoke()
    scale = 1 if device == "cuda" or not quick else 4
    return [
        _growth("units", [(100, n // scale) for n in (250, 500, 1000, 2000)], settings, device, quick),
        _growth("bins", [(n // scale, 100) for n in (125, 250, 500, 1000)], settings, device, quick),
        _tokens(device, quick),
        _throughput(settings, device, quick),
    ]


def _growth(what: str, sizes: list[tuple[int, int]], settings: NeuroFMSettings, device: str, quick: bool) -> Row:
    """Time a training pass at the largest size, beside twice that at half of it."""
    steps = [_pass(settings, *size, device, batch=4 if device == "cuda" else 1) for size in sizes]
    seconds = _side_by_side(steps, 3 if quick else 7, device)
    grown = seconds[-1] / seconds[-2]
    each = ", ".join(
        f"{size[what == 'units']}: {1e3 * taken:.0f} ms" for size, taken in zip(sizes, seconds, strict=True)
    )
    return Row(
        f"forward and backward, {sizes[-1][1]} units x {sizes[-1][0]} bins", 1e3 * seconds[-1], "ms",
        f"twice that of half the {what}", 2e3 * seconds[-2], "<= 2.3 x for twice as many", grown <= 2.3,
        f"{device}, width {settings.dim}; {what} {each}; {grown:.2f} x for the last doubling",
    )  # fmt: skip


def _tokens(device: str, quick: bool) -> Row:
    batch, bins, units, dim = (8, 100, 384, 128) if device == "cuda" else (2, 50, 384, 64)
    tokenizer = SpikeTokenizer(dim, 4, kinds=1).to(device)
    counts = torch.poisson(torch.full((batch, bins, units), 0.2, device=device))
    vectors = torch.randn(batch, units, dim, device=device, requires_grad=True)
    seen, kind = (
        torch.ones(batch, units, dtype=torch.bool, device=device),
        torch.zeros(batch, dtype=torch.long, device=device),
    )

    def ours() -> None:
        tokenizer(counts, vectors, seen, kind).sum().backward()

    def spelt_out() -> None:
        tokens = vectors[:, None] * counts.sqrt()[..., None]
        keys, values = (
            layer(tokens).unflatten(-1, (4, -1)).transpose(2, 3) for layer in (tokenizer.key, tokenizer.value)
        )
        queries = tokenizer.query_embed.unflatten(-1, (4, -1)).transpose(0, 1)
        weight = (queries @ keys.mT / keys.shape[-1] ** 0.5).softmax(-1)
        pooled = (weight @ values).permute(0, 1, 3, 2, 4).flatten(2) * units**0.5
        tokenizer.norm(tokenizer.join(pooled)).sum().backward()

    fast, slow = _side_by_side([ours, spelt_out], 3 if quick else 10, device)
    note = f"{device}, {batch} windows of {bins} bins, width {dim}, forward and backward; {slow / fast:.1f} x as fast"
    return Row(
        f"tokens of bins, {units} units",
        1e3 * fast,
        "ms",
        "a token a unit and bin",
        1e3 * slow,
        "faster",
        fast < slow,
        note,
    )


def _throughput(settings: NeuroFMSettings, device: str, quick: bool) -> Row:
    batch, units = (32, 289) if device == "cuda" else (4, 289)  # as many units as the probe of spikes_ibl
    model, inputs = _model(replace(settings, n_bins=100), units, device), _batch(batch, 100, units, device)

    @torch.no_grad()
    def read() -> None:
        model(inputs)

    (seconds,) = _side_by_side([read], 3 if quick else 10, device)
    return Row(
        "reading windows of 289 units x 100 bins", batch / seconds, "windows/s",
        note=f"{device}, width {settings.dim}, {settings.blocks} blocks, {batch} at once, all heads",
    )  # fmt: skip


def _pass(settings: NeuroFMSettings, bins: int, units: int, device: str, batch: int) -> Callable[[], None]:
    model, inputs = _model(settings, units, device), _batch(batch, bins, units, device)

    def step() -> None:
        answer = model(inputs)
        (answer.log_counts.mean() + answer.behaviour.mean()).backward()

    return step


def _model(settings: NeuroFMSettings, units: int, device: str) -> NeuroFM:
    recording = RecordingUnits("r", tuple(map(str, range(units))), (0.1,) * units, "mouse/neuropixels", "velocity")
    return NeuroFM(settings, UnitTable([recording], [Task("velocity", "cm/s", (0.0, 0.0), (1.0, 1.0))])).to(device)


def _batch(batch: int, bins: int, units: int, device: str) -> dict[str, torch.Tensor]:
    made = {
        "counts": torch.poisson(torch.full((batch, bins, units), 0.1)),
        "unit": torch.arange(units).expand(batch, -1),
        "present": torch.ones(batch, units, dtype=torch.bool),
        "kind": torch.ones(batch, dtype=torch.long), "task": torch.ones(batch, dtype=torch.long),
        "recording": torch.zeros(batch, dtype=torch.long),
    }  # fmt: skip
    return {name: value.to(device) for name, value in made.items()}


def _side_by_side(ways: list[Callable[[], object]], repeats: int, device: str) -> list[float]:
    """Return the least seconds of each, taken in turns: a load that comes and goes falls on all."""
    taken: list[list[float]] = [[] for _ in ways]
    for round_ in range(repeats + 1):
        for way, seconds in zip(ways, taken, strict=True):
            began = time.perf_counter()
            way()
            if device == "cuda":
                torch.cuda.synchronize()
            if round_:
                seconds.append(time.perf_counter() - began)
    return [min(seconds) for seconds in taken]
