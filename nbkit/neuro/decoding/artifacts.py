"""What a fold leaves behind: its history, its checkpoint, its card, what went wrong in it, one table for all.

A fold's record is plain JSON beside files whose hashes it holds; nothing in it depends on when or where it was made, so
a fold that is made again leaves the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from nbkit.ground.files import write_atomically
from nbkit.neuro.decoding.scores import MAIN, TRIVIAL_IS, score_names

if TYPE_CHECKING:
    import pandas

RECORD, CARD, CHECKPOINT = "fold.json", "card.md", "best.pt"
KINDS = ("training_history", "checkpoints", "model_card", "diagnostics", "scores")


@runtime_checkable
class NeuralTrainable(Protocol):
    """What an estimator that trains a network tells of it."""

    def get_training_history(self) -> list[dict[str, float]]:
        """Return a row a step: losses, gradient norm, rate."""
        ...

    def get_checkpoint_manifest(self) -> dict[str, Any]:
        """Return path, hash and best step of what was kept."""
        ...

    def get_model_card_info(self) -> dict[str, Any]:
        """Return model, weights, mode, data and preprocessing."""
        ...

    def get_failure_diagnostics(self) -> dict[str, Any]:
        """Return what went wrong: steps that are not finite, gradient norms, adapters without a gradient."""
        ...

    def get_artifact_metadata(self) -> dict[str, Any]:
        """Return all of these together."""
        ...


def write_checkpoint(
    path: str | Path, weights: Mapping[str, Any], about: Mapping[str, Any], best_step: int, best_loss: float
) -> dict[str, Any]:
    """Write the trained weights of the best step, whole or not at all, and give their manifest.

    Parameters
    ----------
    path : path
    weights : mapping of str to Tensor
        Only those that were trained: the others are the backbone's own, which ``about`` names.
    about : mapping
        Plain values: model, fingerprint, mode.
    best_step : int
    best_loss : float

    Returns
    -------
    manifest : dict
        ``path``, ``bytes``, ``sha256``, ``best_step``, ``metric``, ``value``, ``weights`` (how many numbers).
    """
    import torch

    path, buffer = Path(path), io.BytesIO()
    torch.save({"state_dict": dict(weights), "about": json.dumps(about, sort_keys=True, default=str)}, buffer)
    content = buffer.getvalue()
    size, sha256 = write_atomically(path, lambda file: file.write(content))
    return {
        "path": path.name, "bytes": size, "sha256": sha256, "best_step": best_step,
        "metric": "val_loss", "value": best_loss, "weights": int(sum(weight.numel() for weight in weights.values())),
    }  # fmt: skip


def model_card(record: Mapping[str, Any], beside: Mapping[str, float] | None = None) -> str:
    """Write a fold's card: what the model is, what was done to the data, how it scored beside what costs nothing.

    Parameters
    ----------
    record : mapping
        As `fold_record` gives it.
    beside : mapping of str to float, optional
        Scores of the band-power baseline on the same fold.

    Returns
    -------
    text : str
        Markdown.
    """
    info, scores, trained = record["info"], record["scores"], record.get("checkpoint") or {}
    lines = [
        f"# {record['model']}, {record['mode']}, fold {record['fold']}", "",
        f"- **Weights**: {info.get('weights', 'none')}",
        f"- **Task**: {record['task']} ({record['kind']})",
        f"- **Data**: {record['data']}",
        f"- **Held out**: {', '.join(record['held_out'])} ({record['test_windows']} windows; trained on "
        f"{record['train_windows']} of other groups)",
    ]  # fmt: skip
    lines += [f"- **Preprocessing**: {said}" for said in info.get("said", ())]
    if trained:
        lines += [
            f"- **Trained**: {trained['trains']}; {trained['weights']:,} numbers are kept",
            f"- **Step**: best step {trained['best_step']} of {trained['steps']} by "
            f"{trained['metric']} {trained['value']:.4g}; {trained['split']}",
            f"- **Checkpoint**: `{trained['path']}`, {trained['bytes']:,} bytes, sha256 `{trained['sha256']}`",
        ]
    lines += ["", "| score | here | band powers | trivial | trivial is |", "|---|---|---|---|---|"]
    for name in score_names(record["kind"]):
        other = "" if beside is None or name not in beside else f"{beside[name]:.3f}"
        lines.append(
            f"| {name} | {scores[name]:.3f} | {other} | {scores[name + '_trivial']:.3f} | {TRIVIAL_IS[name]} |"
        )
    words = record.get("diagnostics", {}).get("words", [])
    lines += ["", "## What to worry about", "", *([f"- {word}" for word in words] or ["- nothing that was looked for"])]
    if "random" in str(info.get("weights", "")):
        lines += ["", "The backbone is random: its score says what an untrained network's features are worth, no more."]
    return "\n".join(lines) + "\n"


def write_record(
    folder: str | Path, record: Mapping[str, Any], beside: Mapping[str, float] | None = None
) -> list[Path]:
    """Write a fold's record and card into a folder and give all files that the fold leaves there."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True, default=_plain), "utf-8")
    (folder / CARD).write_text(model_card(record, beside), "utf-8")
    return [path for path in (folder / RECORD, folder / CARD, folder / CHECKPOINT) if path.is_file()]


def read_records(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Return the records among some files, ordered by task, model, mode and fold."""
    records = [json.loads(Path(path).read_text("utf-8")) for path in paths if Path(path).name == RECORD]
    return sorted(records, key=lambda r: (r["task"], r["model"], r["mode"], r["fold"]))


def score_table(records: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return one table of all folds: a row per fold, with scores, their trivial guess, best step and warnings."""
    import pandas

    rows = []
    for record in records:
        kept = record.get("checkpoint") or {}
        rows.append({
            "task": record["task"], "model": record["model"], "mode": record["mode"], "fold": record["fold"],
            "weights": record["info"].get("weights", ""), "held_out": ", ".join(record["held_out"]), **record["scores"],
            "trained": kept.get("weights", 0), "best_step": kept.get("best_step", 0),
            "worries": len(record.get("diagnostics", {}).get("words", [])),
        })  # fmt: skip
    return pandas.DataFrame(rows)


def summary_table(records: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return a row a model and mode: the main score's mean and deviation over folds, beside chance; best first."""
    table = score_table(records)
    name = MAIN[records[0]["kind"]]
    grouped = table.groupby(["task", "model", "mode"])
    found = grouped.agg(
        score=(name, "mean"), deviation=(name, "std"), trivial=(f"{name}_trivial", "mean"), folds=("fold", "count"),
        trained=("trained", "max"), weights=("weights", "first"), worries=("worries", "sum"),
    )  # fmt: skip
    return found.sort_values("score", ascending=False).reset_index().rename(columns={"score": name})


def artifact_table(records: Sequence[Mapping[str, Any]], artifact_type: str | None = None) -> pandas.DataFrame:
    """Return all that the folds left as a long table: Model, Fold, ArtifactType, ArtifactKey, ArtifactValue.

    Parameters
    ----------
    records : sequence of mapping
    artifact_type : {"training_history", "checkpoints", "model_card", "diagnostics", "scores"}, optional
        All without it.

    Raises
    ------
    ValueError
        For another type.
    """
    import pandas

    if artifact_type is not None and artifact_type not in KINDS:
        raise ValueError(f"artifact_type {artifact_type!r} is none of {', '.join(KINDS)}.")
    rows = []
    for record in records:
        kinds = {
            "training_history": {f"step_{row['step']}": row for row in record.get("history", ())},
            "checkpoints": record.get("checkpoint") or {}, "model_card": record["info"],
            "diagnostics": record.get("diagnostics", {}), "scores": record["scores"],
        }  # fmt: skip
        for kind in KINDS if artifact_type is None else (artifact_type,):
            rows += [(record["name"], record["fold"], kind, key, value) for key, value in kinds[kind].items()]
    return pandas.DataFrame(rows, columns=["Model", "Fold", "ArtifactType", "ArtifactKey", "ArtifactValue"])


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)
