"""Trials: one training as a function of one manifest row, for search and scaling.

The row, the shared settings and the files determine the result, on a CPU bit for bit. A killed trial is repeated from
its start, on this machine or another, by one process or by several. A training that is too long for one session is not
suitable as a trial: run it in `50_neurofm_validate` with the same settings, where each session continues the last one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from nbkit.neuro.neurofm.data.batches import SpikeData
from nbkit.neuro.neurofm.masked_units import UnitSums
from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.neurofm.pretrain import Pretrainer, observed_in, rotating_mask
from nbkit.neuro.neurofm.search import UNIT
from nbkit.neuro.signals.spikes.binned import TRACE
from nbkit.neuro.training.brief import fit_once

FRACTIONS = (0.75, 0.0, 0.25)  # of the time of each recording: training, validation (not needed), scoring
_TEXTS = ("key", "experiment")
_WHOLE = ("dim", "blocks", "latents", "recordings", "judged", "seed", "epochs")


@dataclass(frozen=True)
class Trial:
    """Train a network on some recordings and compute its scores on held-out minutes of the first of them.

    Attributes
    ----------
    settings : NeuroFMSettings
        Settings shared by all trials; dim, heads, blocks, latents and epochs are replaced by those of the row.
    paths : tuple of str
        Files of windows, one for each recording. Every trial trains on the first ``judged`` (see the row).
    accelerator, precision : str
        Arguments of Lightning's Trainer.
    threads : int
        CPU threads. Another number changes the order of additions and so the last digits of the result.
    """

    settings: NeuroFMSettings
    paths: tuple[str, ...]
    accelerator: str = "cpu"
    precision: str = "32-true"
    threads: int = 1

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Train and return the scores and costs of one trial.

        Parameters
        ----------
        row : mapping
            See `nbkit.neuro.neurofm.search.trial_row`.

        Returns
        -------
        result : dict
            The values of the row; ``loss`` and ``mean_rate_loss``, Poisson deviances of masked units in bit/spike;
            ``bits_per_spike``, their difference, and ``bits_per_spike_nlb``, against the means of the evaluated
            spikes; ``r2`` of behaviour; ``weights`` and ``steps``; ``compute`` in PFLOP
            (matrix products and convolutions); ``unit`` of the scores; ``windows``, the number of training windows;
            ``seconds``, the only value that differs between repetitions.

        Raises
        ------
        ValueError
            If the row requests more recordings than exist.
        """
        seed = int(row["seed"])
        chosen = chosen_recordings(len(self.paths), int(row["judged"]), int(row["recordings"]), seed)
        settings = replace(
            self.settings, **{name: int(row[name]) for name in ("dim", "heads", "blocks", "latents", "epochs")},
            steps=0, warmup_steps=0, patience_steps=0, patience_epochs=0,
        )  # fmt: skip
        with one_draw(seed, self.threads):
            data = SpikeData(
                [self.paths[i] for i in chosen], settings.batch_size, fractions=FRACTIONS,
                max_units=settings.max_units, seed=seed,
            )  # fmt: skip
            module = Pretrainer.for_data(settings, data)
            began = time.perf_counter()
            train(module, data.train_dataloader(), self.accelerator, self.precision)
            seconds = time.perf_counter() - began
            judged = SpikeData(
                [self.paths[i] for i in chosen[: int(row["judged"])]], settings.batch_size, fractions=FRACTIONS,
                table=data.table,
            )  # fmt: skip
            scores = score(module, judged.test_dataloader())
            compute = module.settings.steps * settings.accumulate * step_flops(module, data.train_dataloader()) / 1e15
        return {
            **{name: row[name] for name in _TEXTS},
            **{name: int(row[name]) for name in _WHOLE},
            **scores,
            "steps": module.settings.steps,
            "unit": " and ".join(dict.fromkeys("bit/sample" if s.activity == TRACE else UNIT for s in judged.shards)),
            "windows": len(data.side("train")),
            "weights": sum(part.numel() for part in module.model.shared().values()),
            "compute": compute,
            "seconds": seconds,
        }


def chosen_recordings(there: int, judged: int, count: int, seed: int) -> list[int]:
    """Return the numbers of the recordings for training: the scored ones, and others drawn at random.

    Parameters
    ----------
    there : int
        Number of existing recordings.
    judged : int
        Number of scored recordings, which are the first ones.
    count : int
        Number of training recordings.
    seed : int

    Raises
    ------
    ValueError
        Unless ``judged <= count <= there``.
    """
    if not judged <= count <= there:
        raise ValueError(
            f"A trial needs {count} recordings with {judged} of them scored, but there are {there}. Provide more "
            "recordings, or request fewer (sizes, recordings, judged in the settings)."
        )
    drawn = np.random.default_rng([seed, count]).permutation(np.arange(judged, there))
    return [*range(judged), *sorted(drawn[: count - judged].tolist())]


@contextlib.contextmanager
def one_draw(seed: int, threads: int = 1) -> Iterator[None]:
    """Seed torch's random generator and set the number of threads; restore both at the end."""
    before = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def train(module: lightning.LightningModule, batches: Any, accelerator: str, precision: str) -> None:
    """Train a module for ``module.settings.steps`` steps without writing files."""
    settings: Any = module.settings
    fit_once(
        module, batches, steps=settings.steps, accumulate_grad_batches=settings.accumulate, accelerator=accelerator,
        precision=precision,
    )  # fmt: skip
    if accelerator in ("gpu", "cuda"):
        module.to("cuda")  # Lightning moves it to the CPU at the end, where scoring would be slower than training


@torch.no_grad()
def score(module: Pretrainer, batches: Any) -> dict[str, float]:
    """Return the scores of a network, with every unit masked in turn.

    Parameters
    ----------
    module : Pretrainer
    batches : iterable of mapping
        Batches of a `SpikeData`.

    Returns
    -------
    scores : dict
        ``loss``, ``mean_rate_loss``, ``bits_per_spike`` and ``bits_per_spike_nlb`` (see `Bits`) in bit/spike; ``r2``.
    """
    training = module.training
    module.eval()
    turns = max(2, round(1 / module.settings.mask_ratio))
    sums, saturated, units = torch.zeros(()), 0.0, UnitSums(module.table.n_units)
    for batch in batches:
        batch = {name: value.to(module.device) for name, value in batch.items()}
        for turn in range(turns):
            sums = sums + module.sums(batch, turn).cpu()
        counts = batch["counts"].double()
        there = (batch["present"][:, None] & observed_in(batch)).expand_as(counts)
        units.add(batch, there)
        least = saturated_nll(counts.clamp(min=0))  # 0 for a Gaussian: a trace is predicted by itself without error
        least = least if "trace" not in batch else torch.where(batch["trace"][:, None, None], 0.0, least)
        saturated += float((least * there).sum())
    module.train(training)  # restore the mode: Lightning does not set it before a later training
    nll, by_mean, *_, spikes, _ = sums[:6].tolist()
    null = float(sum(units.null(module, recording.name) for recording in module.table.recordings))
    bits = max(1.0, spikes) * math.log(2)
    found = module.scores(sums)
    return {
        "loss": (nll - saturated) / bits, "mean_rate_loss": (by_mean - saturated) / bits,
        "bits_per_spike": (by_mean - nll) / bits, "bits_per_spike_nlb": (null - nll) / bits, "r2": float(found["r2"]),
    }  # fmt: skip


def saturated_nll(counts: Tensor) -> Tensor:
    """Return the lowest possible Poisson NLL of each count: that of predicting the count itself."""
    return counts - torch.xlogy(counts, counts)


class _Flops(TorchDispatchMode):
    """Count the operations of matrix products and convolutions with the formulas of torch.

    torch's FlopCounterMode counts the same but fails on a module that is called without gradients.
    """

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def step_flops(module: Pretrainer, batches: Any) -> float:
    """Return the number of floating-point operations of one training batch, forward and backward."""
    batch = {name: value.to(module.device) for name, value in next(iter(batches)).items()}
    module.train()
    with _Flops() as counter:
        hidden = rotating_mask(batch["slot"], batch["present"], module.settings.mask_ratio, 0)
        module.total(module.losses(batch, hidden, torch.ones(len(hidden), device=module.device))).backward()
    module.zero_grad(set_to_none=True)
    return counter.total


@contextlib.contextmanager
def workers(count: int) -> Iterator[Executor | None]:
    """Yield an executor with ``count`` processes of one thread each, or None if ``count`` is 1 or less.

    Processes are spawned, because a fork hangs after torch has started threads or CUDA.
    """
    if count <= 1:
        yield None
        return
    import multiprocessing

    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as executor:
        yield executor


def read_trials(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return the saved results of trials as dicts of plain values, sorted by key."""
    found = []
    for path in paths:
        with np.load(path) as file:
            found.append({name: file[name].item() for name in file.files})
    return sorted(found, key=lambda trial: trial["key"])
