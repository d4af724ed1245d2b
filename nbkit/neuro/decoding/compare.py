"""Compare models and training modes, with each (model, mode, fold) as one item of a phase.

Any number of sessions can share the work. An item depends only on the task, the settings and its own key; if it is
killed, it is computed again from its start and leaves the same bytes. An item takes seconds (frozen, head) to about
ten minutes (full, LoRA and QLoRA of a large model on one GPU), so nothing is resumed within an item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbkit.neuro.decoding.artifacts import read_records
from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.experiment import BandPowers, FineTune, FrozenProbe, run_fold
from nbkit.neuro.decoding.finetune import MODES
from nbkit.neuro.decoding.folds import Fold, outer_folds
from nbkit.neuro.decoding.models.foundation import FoundationModel
from nbkit.neuro.decoding.models.table import MODELS
from nbkit.neuro.decoding.scores import MAIN, TRIVIAL_IS, UNITS
from nbkit.neuro.decoding.training import FineTuneSettings

ALL_MODES = ("frozen", *MODES)


@dataclass(frozen=True)
class CompareSettings:
    """Models, modes and folds of a comparison.

    Parameters
    ----------
    models : tuple of str
        Keys of `list_foundation_models`.
    modes : tuple of str
        One or more of frozen, head, full, lora, qlora.
    n_splits : int
        Number of outer folds; ignored by leave-one-group-out, which has one fold per group.
    weights : {"random", "hub"}
    seed : int
        Random seed of the folds, random weights and trainings.
    """

    models: tuple[str, ...] = tuple(MODELS)
    modes: tuple[str, ...] = ALL_MODES
    n_splits: int = 5
    weights: str = "hub"
    seed: int = 2025

    @classmethod
    def smoke(cls) -> CompareSettings:
        """Return settings for a quick test: two models with random weights, three modes, two folds."""
        return cls(("cbramod", "labram"), ("frozen", "lora", "qlora"), 2, "random")

    @classmethod
    def free(cls) -> CompareSettings:
        """Return settings for a free GPU: seven models whose weights need no login, frozen and with LoRA."""
        return cls(tuple(key for key in MODELS if key != "reve"), ("frozen", "lora"))

    @classmethod
    def full(cls) -> CompareSettings:
        """Return settings of the full comparison: eight models, five modes, five folds."""
        return cls()

    def __post_init__(self) -> None:
        for what, values, known in (("model", self.models, MODELS), ("mode", self.modes, ALL_MODES)):
            wrong = [value for value in values if value not in known]
            if wrong or not len(values):
                raise ValueError(
                    f"There is no {what} {', '.join(map(repr, wrong)) or 'in the settings'}; there are "
                    f"{', '.join(known)}."
                )


def fold_rows(task: DecodingTask, settings: CompareSettings, own: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return a manifest row for each fold of the baseline and of each model in each mode, quickest modes first.

    Parameters
    ----------
    task : DecodingTask
    settings : CompareSettings
    own : iterable of str
        Names of models that were pretrained with nbkit, in addition to those of the settings.
    """
    pairs = [("band_power", "baseline")]
    pairs += [(model, mode) for mode in settings.modes for model in (*settings.models, *own)]
    folds = folds_of(task, settings)
    return [
        {
            "key": f"{task.name}-{model}-{mode}-fold-{fold.number}", "model": model, "mode": mode,
            "fold": str(fold.number), "held_out": ", ".join(fold.held_out)[:80],
        }
        for model, mode in pairs
        for fold in folds
    ]  # fmt: skip


def folds_of(task: DecodingTask, settings: CompareSettings) -> list[Fold]:
    """Return the outer folds, which are the same for all models and modes."""
    return outer_folds(
        task.target, task.groups, task.strategy, settings.n_splits, task=task.kind, seed=settings.seed
    )  # fmt: skip


def item_settings(
    task: DecodingTask,
    settings: CompareSettings,
    training: FineTuneSettings,
    own: Mapping[str, FoundationModel] | None = None,
) -> dict[str, Any]:
    """Return the settings that an item depends on besides its row, so that models and modes can be added later."""
    return {
        "task": task.name, "training": asdict(training), "weights": settings.weights, "n_splits": settings.n_splits,
        "seed": settings.seed, "own": {name: model.fingerprint for name, model in (own or {}).items()},
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
    common = {"weights": settings.weights, "weights_seed": settings.seed}
    if mode == "baseline":
        decoder: Any = BandPowers()
    elif mode == "frozen":
        decoder = FrozenProbe(chosen, **common)
    else:
        decoder = FineTune(chosen, mode, training, **common)
    fold = folds_of(task, settings)[int(row["fold"]) - 1]
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


def result_rows(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each model's and mode's main score, averaged over folds, with chance and band powers as baselines.

    Returns
    -------
    rows : list of dict
        Rows for a session's results, with name, value, unit, baseline and baseline_is.
    """
    rows = []
    by_pair: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        by_pair.setdefault((record["model"], record["mode"]), []).append(record)
    for (model, mode), found in by_pair.items():
        score = MAIN[found[0]["kind"]]
        value, trivial, beside = (
            sum(record[where][name] for record in found) / len(found)
            for where, name in (("scores", score), ("scores", f"{score}_trivial"), ("beside", score))
        )
        common = {"value": value, "unit": UNITS[score], "name": f"{score}_{model}_{mode}"}
        if mode == "baseline":
            rows.append({**common, "baseline": trivial, "baseline_is": TRIVIAL_IS[score]})
        else:
            rows.append({**common, "baseline": beside, "baseline_is": "linear model on band powers, same folds"})
    return rows
