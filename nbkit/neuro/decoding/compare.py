"""Compare models and training modes, with each (model, mode, fold) as one item of a phase.

Any number of sessions can share the work. An item depends only on the task, the settings and its own key; if it is
killed, it is computed again from its start and leaves the same bytes. An item takes seconds (frozen, head) to about
ten minutes (full, LoRA and QLoRA of a large model on one GPU), so nothing is resumed within an item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.fields import checked
from nbkit.neuro.decoding.artifacts import read_records
from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.decoders import RIVALS, FineTune, FrozenProbe, rival
from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.experiment import run_fold
from nbkit.neuro.decoding.finetune import MODES
from nbkit.neuro.decoding.folds import Fold, outer_folds
from nbkit.neuro.decoding.models.foundation import PREPARATION, FoundationModel
from nbkit.neuro.decoding.models.table import MODELS
from nbkit.neuro.decoding.models.weights import weights_for
from nbkit.neuro.decoding.rivals.scratch import SCRATCH
from nbkit.neuro.decoding.training import FineTuneSettings
from nbkit.neuro.signals.assignment import parsed_fold

ALL_MODES = ("frozen", *MODES)


@checked
@dataclass(frozen=True)
class CompareSettings:
    """Models, modes and folds of a comparison.

    Parameters
    ----------
    models : tuple of str
        Keys of `list_foundation_models`; () for your own models alone.
    modes : tuple of str
        One or more of frozen, head, full, lora, qlora.
    n_splits : int
        Number of outer folds; ignored by leave-one-group-out, which has one fold per group.
    rivals : tuple of str
        What the models are compared with, from band_power, riemann, xdawn, eegnet and shallow; xdawn is left out where
        windows are not at events or the target is a number.
    weights : {"random", "hub"} or mapping of str to path or URL
        For all models, or a file for each; those that a mapping does not name are from the hub.
    fold : str, optional
        "2/4": only the second of four parts of the subjects is held out, as FOLD does in a pretraining.
    strategy : str
        Of the outer folds, see `outer_folds`, such as "openeegbench/arithmetic_zyma2019"; "" is the task's own.
    seed : int
        Random seed of the folds, random weights and trainings.
    """

    models: tuple[str, ...] = tuple(MODELS)
    modes: tuple[str, ...] = ALL_MODES
    n_splits: int = 5
    rivals: tuple[str, ...] = RIVALS
    weights: str | Mapping[str, str] = "hub"
    seed: int = 2025
    fold: str | None = None
    strategy: str = ""

    @classmethod
    def smoke(cls) -> CompareSettings:
        """Return settings for a quick test: two models with random weights, three modes, two folds."""
        return cls(("cbramod", "labram"), ("frozen", "lora", "qlora"), 2, ("band_power", "riemann"), "random")

    @classmethod
    def free(cls) -> CompareSettings:
        """Return settings for a free GPU: seven models whose weights need no login, frozen and with LoRA."""
        return cls(tuple(key for key in MODELS if key != "reve"), ("frozen", "lora"))

    @classmethod
    def full(cls) -> CompareSettings:
        """Return settings of the full comparison: eight models, five modes, five folds."""
        return cls()

    def __post_init__(self) -> None:
        if "band_power" not in self.rivals:
            raise ValueError(f"The rivals {list(self.rivals)} lack band_power, with which all others are compared.")
        every = (("model", self.models, MODELS), ("mode", self.modes, ALL_MODES), ("rival", self.rivals, RIVALS))
        for what, values, known in every:
            wrong = [value for value in values if value not in known]
            if wrong or (what == "mode" and not len(values)):
                raise ValueError(
                    f"There is no {what} {', '.join(map(repr, wrong)) or 'in the settings'}; there are "
                    f"{', '.join(known)}."
                )


def fold_rows(
    task: DecodingTask, settings: CompareSettings, own: Mapping[str, FoundationModel] | None = None
) -> list[dict[str, str]]:
    """Return a manifest row for each fold of the rivals and of each model in each mode, quickest modes first.

    Parameters
    ----------
    task : DecodingTask
    settings : CompareSettings
    own : mapping of str to FoundationModel, optional
        Models that were pretrained with nbkit, by name, in addition to those of the settings.
    """
    pairs = [(name, "scratch" if name in SCRATCH else "baseline") for name in rivals_of(task, settings)]
    pairs += [(model, mode) for mode in settings.modes for model in (*settings.models, *(own or {}))]
    folds, content = folds_of(task, settings), task.content
    prints = {name: model.fingerprint[:12] for name, model in (own or {}).items()}
    return [
        {
            "key": f"{task.name}-{model}-{mode}-fold-{fold.number}", "model": model, "mode": mode,
            "fold": str(fold.number), "held_out": ", ".join(fold.held_out)[:80],
            "task": task.name, "content": content, "own": prints.get(model, ""),
        }
        for model, mode in pairs
        for fold in folds
    ]  # fmt: skip


def rivals_of(task: DecodingTask, settings: CompareSettings) -> list[str]:
    """Return the rivals that fit a task."""
    events = task.event_related and task.kind == "classification"
    return [name for name in settings.rivals if name != "xdawn" or events]


def folds_of(task: DecodingTask, settings: CompareSettings) -> list[Fold]:
    """Return the outer folds, which are the same for all models and modes."""
    if settings.fold is not None:
        number, count = parsed_fold(settings.fold)
        parts = outer_folds(task.target, task.groups, "store", count, task=task.kind, seed=settings.seed)
        return [fold for fold in parts if fold.number == number]
    strategy = settings.strategy or task.strategy
    return outer_folds(task.target, task.groups, strategy, settings.n_splits, task=task.kind, seed=settings.seed)


def item_settings(settings: CompareSettings, training: FineTuneSettings) -> dict[str, Any]:
    """Return the settings that an item depends on besides its row, so that models and data can be added later."""
    weights = settings.weights if isinstance(settings.weights, str) else dict(settings.weights)
    return {
        "training": asdict(training), "weights": weights, "n_splits": settings.n_splits, "seed": settings.seed,
        "fold": settings.fold, "strategy": settings.strategy, "preparation": PREPARATION,
    }  # fmt: skip


def run_row(
    row: Mapping[str, str],
    task: DecodingTask,
    settings: CompareSettings,
    training: FineTuneSettings,
    folder: str | Path,
    cache: EmbeddingCache | None = None,
    own: Mapping[str, FoundationModel] | None = None,
) -> dict[str, Any]:
    """Compute one item and return its results, see `run_fold`.

    Parameters
    ----------
    row : mapping
        A row of `fold_rows`.
    task : DecodingTask
    settings : CompareSettings
    training : FineTuneSettings
    folder : path
        Where to write files; each item gets a folder of its own.
    cache : EmbeddingCache, optional
        Shared by all items on this machine.
    own : mapping of str to FoundationModel, optional
        Models that were pretrained with nbkit, by their names in the rows.
    """
    model, mode = row["model"], row["mode"]
    chosen = (own or {}).get(model, model)
    common = {"weights": weights_for(model, settings.weights), "weights_seed": settings.seed}
    if mode in ("baseline", "scratch"):
        decoder: Any = rival(model, training)
    elif mode == "frozen":
        decoder = FrozenProbe(chosen, **common)
    else:
        decoder = FineTune(chosen, mode, training, **common)
    fold = next(fold for fold in folds_of(task, settings) if fold.number == int(row["fold"]))
    name = f"{model}-{mode}"
    return run_fold(name, decoder, task, fold, Path(folder, row["key"]), seed=settings.seed, cache=cache)


def run_all(
    task: DecodingTask,
    settings: CompareSettings,
    training: FineTuneSettings,
    folder: str | Path,
    cache: EmbeddingCache | None = None,
) -> list[dict[str, Any]]:
    """Compute all items in this process and return their records; meant for modes that take seconds."""
    results = [run_row(row, task, settings, training, folder, cache) for row in fold_rows(task, settings)]
    return read_records(result["record"] for result in results)
