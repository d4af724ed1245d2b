"""A GPU that cannot do the work is refused with the reason, before hours are lost."""

from __future__ import annotations

import pytest

from nbkit.runtime.device import choose_device, kernel_fault
from nbkit.runtime.errors import UsageError

OLD = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
NEW = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("card", "built_for", "runs"),
    [
        ((6, 0), OLD, True),  # P100 on a build that still carries it
        ((6, 0), NEW, False),  # and on one that does not
        ((6, 1), ["sm_60"], True),  # machine code runs within its major version
        ((6, 0), ["sm_61"], False),
        ((7, 5), NEW, True),
        ((7, 5), ["sm_70"], True),
        ((7, 0), ["sm_75"], False),
        ((8, 9), NEW, True),
        ((9, 0), ["sm_90a"], True),
        ((12, 0), NEW, True),
        ((12, 0), OLD, False),
        ((12, 0), [*OLD, "compute_90"], True),  # PTX is compiled for what is newer
        ((6, 0), ["compute_75"], False),
        ((6, 0), ["compute_60"], True),
        ((10, 3), ["sm_100"], True),
        ((7, 5), [], False),
        ((7, 5), ["gfx90a", "nonsense", ""], False),
    ],
)
def test_kernels(card, built_for, runs):
    fault = kernel_fault(*card, built_for)
    assert (fault is None) == runs
    if not runs:
        assert f"sm_{card[0]}{card[1]}" in fault


@pytest.fixture
def card(monkeypatch):
    """Make torch believe in a GPU."""
    import torch

    def install(name: str, capability: tuple[int, int], built_for: list[str], count: int = 1, dies: bool = False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i=0: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i=0: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

        def ones(*shape, device=None):
            if dies:
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")
            return torch.zeros(*shape) + 1

        monkeypatch.setattr(torch, "ones", ones)

    return install


def test_p100_is_refused_where_the_build_has_no_kernels_for_it(card):
    card("Tesla P100-PCIE-16GB", (6, 0), NEW)
    for wanted in ("gpu", "any"):
        with pytest.raises(UsageError, match="(?s)Tesla P100.*6.0.*none for sm_60.*T4 x2.*Nothing was begun"):
            choose_device(wanted)
    assert choose_device("cpu").accelerator == "cpu"


def test_p100_is_used_where_the_build_has_its_kernels(card):
    card("Tesla P100-PCIE-16GB", (6, 0), OLD)
    device = choose_device("gpu")
    assert (device.accelerator, device.count, device.precision) == ("cuda", 1, "16-mixed")


def test_a_card_whose_first_kernel_dies_is_refused(card):
    card("Some GPU", (7, 5), NEW, dies=True)
    with pytest.raises(UsageError, match="first kernel failed: CUDA error: no kernel image"):
        choose_device("gpu")


def test_t4_trains_in_fp16_and_a_card_with_bf16_in_bf16(card):
    card("Tesla T4", (7, 5), NEW, count=2)
    t4 = choose_device("any")
    assert (t4.precision, t4.count) == ("16-mixed", 2) and "only emulates bf16" in t4.reason
    assert str(t4).startswith("2 x Tesla T4, 16-mixed (")
    card("NVIDIA L4", (8, 9), NEW)
    assert choose_device("gpu").precision == "bf16-mixed"


def test_no_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="(?s)finds none.*Accelerator.*='cpu'.*SMOKE=True.*Nothing was begun"):
        choose_device("gpu")
    assert choose_device("any").precision == "32-true"


@pytest.mark.parametrize("wanted", ["GPU", "cuda", "", None, "tpu"])
def test_unknown_words_are_refused(wanted):
    with pytest.raises(UsageError, match="Allowed: gpu, cpu, any"):
        choose_device(wanted)
