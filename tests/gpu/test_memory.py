"""Memory of the free presets, estimated without a GPU; the estimate beside what a real step allocates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nbkit.neuro.nn.moe import grouped_linear
from nbkit.neuro.training.steps import memory
from nbkit.neuro.training.steps.memory import LiveBytes, step_memory
from nbkit.tools.phases import find_phase, load_phases
from tests.gpu.memory import MOST_GB, need_of
from tests.gpu.presets import HAS_BRAINDECODE, PRESETS, decoding_presets

pytestmark = pytest.mark.filterwarnings("ignore")


# the others are the same network on other targets, or a smaller one of the same kind
AS_OTHERS = ("labram_challenge2", "jepa_challenge2", "neurofm_validate", "neurofm_search", "neurofm_transfer")
ONCE = [preset for preset in PRESETS if preset.slug not in AS_OTHERS]


@pytest.mark.train
@pytest.mark.parametrize("preset", ONCE, ids=lambda preset: preset.slug)
def test_a_free_preset_fits_a_card_with_16_gb_and_is_what_the_map_of_phases_says(preset) -> None:
    need, phase = need_of(preset), find_phase(preset.slug)
    assert need.gb < MOST_GB
    assert need.gb == pytest.approx(phase.gpu_gb, rel=0.03, abs=0.06) and need.pieces == phase.gpu_pieces, need


@pytest.mark.train
@pytest.mark.skipif(not HAS_BRAINDECODE, reason="braindecode is not installed")
@pytest.mark.parametrize("model", find_phase("decoding_finetune").gpu_models)
def test_a_foundation_model_fits_and_is_what_the_map_of_phases_says(model: str) -> None:
    name, _, gb = model.rpartition(" ")
    need = need_of(next(preset for preset in decoding_presets() if preset.of == name))
    assert need.gb < MOST_GB and need.gb == pytest.approx(float(gb), rel=0.03, abs=0.06)
    assert need.gb <= 1.03 * find_phase("decoding_finetune").gpu_gb


def test_every_phase_that_trains_on_a_gpu_has_a_figure() -> None:
    known = {phase.slug for phase in load_phases() if phase.gpu_gb}
    assert {preset.slug for preset in PRESETS} | {"decoding_finetune"} == known
    assert all(phase.gpu_gb < MOST_GB for phase in load_phases())
    largest = find_phase("neurofm_scaling").gpu_gb
    assert all(find_phase(slug).gpu_gb <= largest for slug in AS_OTHERS if slug.startswith("neurofm"))
    for system in ("labram", "jepa"):
        assert find_phase(f"{system}_challenge1").gpu_gb == find_phase(f"{system}_challenge2").gpu_gb


class Net(nn.Module):
    """Linear layers, a normalisation, and an attention unless it is left out."""

    def __init__(self, wide: int = 64, attends: bool = True) -> None:
        super().__init__()
        self.attends = attends
        self.first, self.norm, self.last = nn.Linear(wide, wide), nn.LayerNorm(wide), nn.Linear(wide, 1)

    def training_step(self, batch, batch_idx):
        x = self.norm(torch.relu(self.first(batch)))
        if not self.attends:
            return self.last(x).square().mean()
        heads = x.unflatten(-1, (4, -1)).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)
        return self.last(x + mixed).square().mean()


def draw(rows: int) -> torch.Tensor:
    return torch.randn(rows, 50, 64)


def allocated(rows: int, half: torch.dtype | None = None, attends: bool = True) -> int:
    """Return the most bytes that torch's allocator gave out in a real step, as its profiler saw it."""
    net, batch = Net(attends=attends), draw(rows)
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        torch.backends.mkldnn.flags(enabled=False),  # on some processors it copies its inputs first
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile,
    ):
        with torch.autocast("cpu", dtype=half, enabled=half is not None, cache_enabled=False):
            loss = net.training_step(batch, 0)
        loss.backward()
    now = most = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most + batch.nbytes


@pytest.mark.parametrize("rows", [2, 16])
def test_the_estimate_is_what_a_real_step_allocates(rows: int) -> None:
    estimate = step_memory(lambda: (Net(), draw), rows, half=None)
    assert estimate.step == pytest.approx(allocated(rows), rel=0.06)
    weights = sum(weight.nbytes for weight in Net().parameters())
    assert (estimate.weights, estimate.optimizer) == (weights, 2 * weights)
    assert estimate.total == estimate.weights + estimate.optimizer + estimate.step


def test_small_batches_lead_to_the_same_estimate_as_shapes() -> None:
    def make():
        return Net(), draw

    shapes, small = step_memory(make, 40, half=None), step_memory(make, 40, half=None, fake=False)
    assert small.total == pytest.approx(shapes.total, rel=0.02)


def test_the_attention_maps_are_counted() -> None:
    maps = 16 * 4 * 50 * 50 * 4
    assert step_memory(lambda: (Net(), draw), 16, half=None).step > 2 * maps


@pytest.mark.parametrize("attends", [False, True], ids=["layers", "attention"])
def test_half_precision_saves_in_layers_and_not_in_the_composite_attention(attends: bool) -> None:
    rows = 64  # enough that about 70 kB of scratch space of the CPU's own kernels do not count
    whole = step_memory(lambda: (Net(attends=attends), draw), rows, half=None).step
    half = step_memory(lambda: (Net(attends=attends), draw), rows).step
    assert half == pytest.approx(allocated(rows, torch.bfloat16, attends=attends), rel=0.06)
    # torch computes the composite form in float32 and keeps copies of its inputs, so the maps stay as large as they are
    assert half == pytest.approx(whole, rel=0.03) if attends else half < 0.8 * whole


class Experts(nn.Module):
    """Two linear maps, each for half of the rows, as experts have them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(2, 64, 64)), nn.Parameter(torch.zeros(2, 64))

    def training_step(self, batch, batch_idx):
        rows, weight, bias = (value.bfloat16() for value in (batch.flatten(0, 1), self.weight, self.bias))
        return grouped_linear(rows, weight, bias, [len(rows) // 2, len(rows) - len(rows) // 2]).float().square().mean()


@pytest.mark.parametrize("kind", [Net, Experts])
def test_products_that_are_taken_in_float32_change_no_estimate(kind, monkeypatch) -> None:
    torch.manual_seed(0)
    quick = step_memory(lambda: (kind(), draw), 8, fake=False)
    monkeypatch.setattr(memory, "_PRODUCTS", set())
    monkeypatch.setattr(memory, "_INTO", {})
    assert step_memory(lambda: (kind(), draw), 8, fake=False) == quick


def test_what_is_freed_is_not_counted() -> None:
    with LiveBytes() as live:
        first = torch.zeros(1000)
        del first
        second = torch.zeros(500)
        view = second[10:]
    assert live.peak == 4000 and live.now == 2000 and len(view) == 490
