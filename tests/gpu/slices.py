"""The slices of ``make gpu``: each is a list of rows, and takes at most eight minutes on a T4."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.bench.rows import Row
from tests.gpu.presets import PRESETS, Preset, decoding_presets

GB = 1 << 30
_SLUGS = ("labram_pretrain", "jepa_pretrain", "bandvar_train", "neurofm_validate", "tribe_distill")
KILLED = [one for one in PRESETS if one.slug in _SLUGS]  # one of each system that has a preset
PROVED = [one for one in KILLED if one.slug == "neurofm_validate"]


@dataclass(frozen=True)
class Slice:
    """A part of ``make gpu``.

    Attributes
    ----------
    name : str
    needs : tuple of str
        Packages without which it is left out, by name.
    rows : callable
        Measures and returns the rows.
    cards : int
        Number of cards that it needs.
    timed : bool
        False if other work on the card does not matter to it.
    """

    name: str
    needs: tuple[str, ...]
    rows: Callable[[], list[Row]]
    cards: int = 1
    timed: bool = True


def _preset(preset: Preset) -> Callable[[], list[Row]]:
    def rows() -> list[Row]:
        from tests.gpu.memory import need_gb
        from tests.gpu.steps import preset_rows

        return preset_rows(preset, need_gb(preset))

    return rows


def _resumed(of: str, preset: Preset, **options: bool) -> Callable[[], list[Row]]:
    def rows() -> list[Row]:
        return getattr(importlib.import_module("tests.gpu.resumed"), f"{of}_rows")(preset, **options)

    return rows


def _bench(name: str) -> Callable[[], list[Row]]:
    def rows() -> list[Row]:
        return importlib.import_module(f"tests.bench.bench_{name}").run(False)

    return rows


def labram_steps() -> list[Row]:
    """Return the rows of LaBraM's pretraining and tokenizer step, without another implementation beside them."""
    from dataclasses import replace

    from nbkit.neuro.labram.channels import TEN_TWENTY
    from nbkit.neuro.labram.codebook import Codebook, CodebookSettings
    from nbkit.neuro.labram.pretrain import MaskedEEG, PretrainSettings
    from tests.bench.bench_labram import _step

    large = any(name in torch.cuda.get_device_name() for name in ("H100", "H200"))
    book = Codebook(replace(CodebookSettings.labram_hub(), steps=1), TEN_TWENTY, 200.0, "ten_twenty")
    book.tokenizer.quantize.take(torch.randn(8192, 64))
    settings = replace(PretrainSettings.labram_hub(), steps=1, compile=True)
    windows = 30 * torch.randn(64, 128, 400, device="cuda")
    student = MaskedEEG(settings, book.tokenizer, TEN_TWENTY, 200.0).cuda()
    ms, gb = _step(student, windows, 20)
    rows = [Row("LaBraM pretraining step, batch 64 x 257 tokens, fp16", ms, "ms", "published, on an H200", 91.0,
                "<= 45 ms and 5 GB on an H100 or H200", ms <= 45 and gb <= 5 if large else None,
                f"{gb:.2f} GB")]  # fmt: skip
    book = Codebook(replace(CodebookSettings.labram_hub(), steps=1), TEN_TWENTY, 200.0, "ten_twenty").cuda()
    book.tokenizer.quantize.take(torch.randn(8192, 64, device="cuda"))
    ms, gb = _step(book, windows, 20)
    rows.append(Row("LaBraM tokenizer step", ms, "ms", "published, on an H200", 48.0, "<= 28 ms on an H100 or H200",
                    ms <= 28 if large else None, f"{gb:.2f} GB"))  # fmt: skip
    return rows


def resumed_scaler() -> list[Row]:
    """Return whether fp16's loss scale and the weights go through a resume."""
    straight, whole = _trained([40])
    resumed, parts = _trained([20, 40])
    apart = max(float((straight[name] - resumed[name]).abs().max()) for name in straight)
    same = whole == parts
    return [
        Row("fp16: scaler after a resume at step 20 of 40", parts["scale"], "", "uninterrupted", whole["scale"],
            "equal", same, f"{parts}"),
        Row("fp16: largest difference of a weight after that resume", apart, "", target="0 (deterministic kernels)",
            met=apart == 0.0),
    ]  # fmt: skip


def _trained(ends: list[int]) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    import lightning
    from torch.utils.data import DataLoader, TensorDataset

    from nbkit.runtime.budget import Budget
    from nbkit.runtime.device import Device
    from nbkit.runtime.training.fit import fit
    from nbkit.runtime.training.proving.trial import TrialSession

    class Net(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 1))

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self.net(batch[0]).float().square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 1e-3)

    values = torch.randn(160, 64, generator=torch.Generator().manual_seed(1))
    device = Device("cuda", 1, torch.cuda.get_device_name(), "16-mixed", "as on a T4")
    found: dict[str, float] = {}

    class Watch(lightning.Callback):
        def on_train_end(self, trainer: Any, module: Any) -> None:
            state = trainer.precision_plugin.scaler.state_dict()
            found.update(scale=float(state["scale"]), steps_without_overflow=float(state["_growth_tracker"]))

    with tempfile.TemporaryDirectory() as folder:
        for end in ends:
            module, data = Net(), DataLoader(TensorDataset(values), 8, shuffle=True)
            session = TrialSession("gpu", Path(folder), 7, device, Budget(None))
            fit(session, module, data, max_steps=end, save_every=None, deterministic=True, callbacks=[Watch()])
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}, found


def pinned_buffers() -> list[Row]:
    """Return how long training waits for a copy of 1 GB, in pinned buffers and in ordinary memory."""
    from nbkit.runtime.training.snapshot import Buffers

    tree = {str(place): torch.randn(GB // 64 // 4, device="cuda") for place in range(64)}
    buffers = Buffers()
    buffers.copy(tree)  # makes the buffers
    ours, plain = [], []
    target = {name: torch.empty(value.shape) for name, value in tree.items()}
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        buffers.copy(tree)
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        for name, value in tree.items():
            target[name].copy_(value)
        torch.cuda.synchronize()
        plain.append(time.perf_counter() - began)
    return [Row("snapshot of 1 GiB from the card", 1000 * min(ours), "ms", "into ordinary memory", 1000 * min(plain),
                "faster", min(ours) < min(plain), f"{1 / min(ours):.1f} GiB/s, pinned")]  # fmt: skip


def four_bits() -> list[Row]:
    """Return the bytes and the error of layers in 4 bits on the card."""
    from nbkit.neuro.nn.lora import quantise_4bit

    torch.manual_seed(0)
    plain = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(8))).cuda()
    x = torch.randn(256, 1024, device="cuda")
    with torch.no_grad():
        truth = plain(x)
        before = torch.cuda.memory_allocated()
        small = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(8))).cuda()
        small.load_state_dict(plain.state_dict())
        report = quantise_4bit(small, compute=torch.float16)
        torch.cuda.empty_cache()
        held = torch.cuda.memory_allocated() - before
        error = float((small(x) - truth).norm() / truth.norm())
    whole = sum(weight.nbytes for weight in plain.parameters())
    return [
        Row("8 linear layers of 1024 in 4 bits", held / 2**20, "MiB", "in 32 bits", whole / 2**20, "<= a sixth",
            held <= whole / 6, str(report)),
        Row("their output's relative error", error, "", target="< 0.5", met=error < 0.5),
    ]  # fmt: skip


def two_devices() -> list[Row]:
    """Return the time of a step on one card and on two, at the same batch for each."""
    from tests.gpu.steps import STEPS

    took = {}
    for count in (1, 2):
        began = time.perf_counter()
        torch.multiprocessing.spawn(_ddp, (count, STEPS), nprocs=count)
        took[count] = time.perf_counter() - began
    return [Row("300 steps of DDP on two cards, start included", took[2], "s", "on one card", took[1],
                "<= 1.5 x", took[2] <= 1.5 * took[1])]  # fmt: skip


def _ddp(rank: int, count: int, steps: int) -> None:
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    torch.distributed.init_process_group("nccl", rank=rank, world_size=count)
    torch.cuda.set_device(rank)
    net = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(8))).cuda()
    model = nn.parallel.DistributedDataParallel(net, device_ids=[rank])
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(steps):
        model(torch.randn(256, 1024, device="cuda")).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.distributed.destroy_process_group()


def all_slices() -> list[Slice]:
    """Return every slice; those of the foundation models are one, named, where braindecode is missing."""
    runtime = ("msgspec", "tenacity")
    decoding = [
        Slice(f"preset {one.name}", ("braindecode", "mne"), _preset(one)) for one in decoding_presets(("lora", "full"))
    ]
    return [
        *(Slice(f"preset {one.name}", (), _preset(one)) for one in PRESETS),
        *(decoding or [Slice("presets decoding_finetune", ("braindecode", "mne"), list)]),
        Slice("LaBraM's steps", (), labram_steps),
        Slice("LaBraM beside braindecode's", ("braindecode", "mne"), _bench("labram")),
        Slice("mixture of experts", (), _bench("moe")),
        Slice("selective scan", ("mambapy",), _bench("scan")),
        Slice("Band-VAR", (), _bench("bandvar")),
        Slice("embeddings", ("braindecode", "mne"), _bench("decoding")),
        Slice("fp16 through a resume", runtime, resumed_scaler, timed=False),
        Slice("pinned buffers", (), pinned_buffers),
        Slice("4 bits", ("bitsandbytes",), four_bits),
        Slice("two devices", (), two_devices, cards=2),
        *(Slice(f"killed {one.name}", runtime, _resumed("killed", one), timed=False) for one in KILLED),
        *(Slice(f"proved {one.name}", runtime, _resumed("proved", one), timed=False) for one in PROVED),
        *(
            Slice(f"stopped {one.name}", runtime, _resumed("stopped", one, twice=one in KILLED), timed=False)
            for one in PRESETS
        ),
    ]
