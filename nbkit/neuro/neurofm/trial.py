"""One training as a plain function of a manifest's row: what search and scaling are made of.

The row, the settings that all share and the files decide the result, down to the bit on a CPU: a trial that is killed
is done again whole, on this machine or another, by one process or several. A training too long for one session is no
trial: give it to `50_neurofm_validate` with the same settings, where a session ends anywhere and the next goes on.
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
from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.neurofm.pretrain import Pretrainer, rotating_mask
from nbkit.neuro.training.brief import fit_once

FRACTIONS = (0.75, 0.0, 0.25)  # of each recording's time: to train on, to choose by (nothing is chosen), to score on
_TEXTS = ("key", "experiment")
_WHOLE = ("dim", "blocks", "latents", "recordings", "judged", "seed", "epochs")


@dataclass(frozen=True)
class Trial:
    """Train a network on some recordings and score it on later minutes of the first of them.

    Attributes
    ----------
    settings : NeuroFMSettings
        What all trials share; a row's dim, heads, blocks, latents and epochs take the place of its own.
    paths : tuple of str
        Files of windows, a recording each; the first ``judged`` of a row are trained on by every trial.
    accelerator, precision : str
        As Lightning names them.
    threads : int
        Of the CPU; another number adds in another order, and gives other last digits.
    """

    settings: NeuroFMSettings
    paths: tuple[str, ...]
    accelerator: str = "cpu"
    precision: str = "32-true"
    threads: int = 1

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return scores and what they took.

        Parameters
        ----------
        row : mapping
            As `nbkit.neuro.neurofm.search.trial_row` makes it.

        Returns
        -------
        result : dict
            The row's own values; ``loss`` and ``mean_rate_loss``, Poisson deviances of hidden units in bit/spike;
            ``bits_per_spike``, their difference; ``r2`` of behaviour; ``weights``, ``steps``, ``compute`` in PFLOP
            (matrix products and convolutions, counted), ``windows`` trained on; ``seconds``, the only value that is
            measured and not the same twice.

        Raises
        ------
        ValueError
            Where the row wants more recordings than there are.
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
            "windows": len(data.side("train")),
            "weights": sum(part.numel() for part in module.model.shared().values()),
            "compute": compute,
            "seconds": seconds,
        }


def chosen_recordings(there: int, judged: int, count: int, seed: int) -> list[int]:
    """Return which recordings a trial trains on: those that are scored, and others drawn by the seed.

    Raises
    ------
    ValueError
        Where there are not so many.
    """
    if not judged <= count <= there:
        raise ValueError(
            f"A trial of {count} recordings, {judged} of them scored, and {there} are there. Make more recordings, or "
            "ask for fewer (sizes, recordings, judged in the settings)."
        )
    drawn = np.random.default_rng([seed, count]).permutation(np.arange(judged, there))
    return [*range(judged), *sorted(drawn[: count - judged].tolist())]


@contextlib.contextmanager
def one_draw(seed: int, threads: int = 1) -> Iterator[None]:
    """Draw from torch's generator by a seed and compute on so many threads; both are as before afterwards."""
    before = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def train(module: lightning.LightningModule, batches: Any, accelerator: str, precision: str) -> None:
    """Train a module for its own steps, in one go, and leave nothing on the disk."""
    settings: Any = module.settings
    fit_once(
        module, batches, steps=settings.steps, accumulate_grad_batches=settings.accumulate, accelerator=accelerator,
        precision=precision,
    )  # fmt: skip
    if accelerator in ("gpu", "cuda"):
        module.to("cuda")  # Lightning moves it to the CPU at the end, where scoring would take longer than training


@torch.no_grad()
def score(module: Pretrainer, batches: Any) -> dict[str, float]:
    """Return a network's scores, every unit hidden in its turn.

    Parameters
    ----------
    module : Pretrainer
    batches : iterable of mapping
        As `SpikeData` gives them.

    Returns
    -------
    scores : dict
        loss, mean_rate_loss, bits_per_spike in bit/spike; r2.
    """
    training = module.training
    module.eval()
    turns, ratio = max(2, round(1 / module.settings.mask_ratio)), module.settings.mask_ratio
    sums, saturated = torch.zeros(()), 0.0
    for batch in batches:
        batch = {name: value.to(module.device) for name, value in batch.items()}
        for turn in range(turns):
            sums = sums + module.sums(batch, turn).cpu()
            hidden = rotating_mask(batch["slot"], batch["present"], ratio, turn)
            saturated += float((saturated_nll(batch["counts"].double()) * hidden[:, None]).sum())
    module.train(training)  # Lightning trains in the mode that it finds
    nll, by_mean, *_, spikes, _ = sums[:6].tolist()
    bits = max(1.0, spikes) * math.log(2)
    found = module.scores(sums)
    return {
        "loss": (nll - saturated) / bits, "mean_rate_loss": (by_mean - saturated) / bits,
        "bits_per_spike": (by_mean - nll) / bits, "r2": float(found["r2"]),
    }  # fmt: skip


def saturated_nll(counts: Tensor) -> Tensor:
    """Return the lowest Poisson NLL that any prediction of a count can have: that of the count itself."""
    return counts - torch.xlogy(counts, counts)


class _Flops(TorchDispatchMode):
    """Count matrix products and convolutions by torch's own formulas.

    torch's FlopCounterMode counts the same, and fails on a module that is called without gradients.
    """

    total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def step_flops(module: Pretrainer, batches: Any) -> float:
    """Count the floating-point operations of one training batch, forward and backward."""
    batch = {name: value.to(module.device) for name, value in next(iter(batches)).items()}
    module.train()
    with _Flops() as counter:
        hidden = rotating_mask(batch["slot"], batch["present"], module.settings.mask_ratio, 0)
        module.total(module.losses(batch, hidden, torch.ones(len(hidden), device=module.device))).backward()
    module.zero_grad(set_to_none=True)
    return counter.total


@contextlib.contextmanager
def workers(count: int) -> Iterator[Executor | None]:
    """Return an executor of so many processes, each on one thread; None for one, which needs no executor.

    Processes are spawned, not forked: a fork after torch has started its threads, or CUDA, hangs.
    """
    if count <= 1:
        yield None
        return
    import multiprocessing

    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as executor:
        yield executor


def read_trials(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Read what trials left, in plain values, by key."""
    found = []
    for path in paths:
        with np.load(path) as file:
            found.append({name: file[name].item() for name in file.files})
    return sorted(found, key=lambda trial: trial["key"])
