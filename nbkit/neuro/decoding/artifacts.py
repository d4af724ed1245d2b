"""Artifacts of a fold: training history, checkpoint, model card and diagnostics, and tables of all folds.

A fold's record is plain JSON with the hashes of the files beside it. Nothing in it depends on the time or the machine,
so a fold that is computed again leaves the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from nbkit.ground.files import write_atomically
from nbkit.neuro.decoding.judging.predictions import PREDICTIONS
from nbkit.neuro.decoding.judging.scores import TRIVIAL_IS, score_names

if TYPE_CHECKING:
    import pandas

RECORD, CARD, CHECKPOINT = "fold.json", "card.md", "best.pt"
KINDS = ("training_history", "checkpoints", "model_card", "diagnostics", "scores")


@runtime_checkable
class NeuralTrainable(Protocol):
    """Interface of estimators that train a network and report on the training."""

    def get_training_history(self) -> list[dict[str, float]]:
        """Return a row per step with losses, gradient norm and learning rate."""
        ...

    def get_checkpoint_manifest(self) -> dict[str, Any]:
        """Return path, hash and best step of the checkpoint."""
        ...

    def get_model_card_info(self) -> dict[str, Any]:
        """Return model, weights, mode, data and preprocessing."""
        ...

    def get_failure_diagnostics(self) -> dict[str, Any]:
        """Return diagnostics: steps that are not finite, gradient norms, adapters without a gradient."""
        ...

    def get_artifact_metadata(self) -> dict[str, Any]:
        """Return the results of all the other methods in one dict."""
        ...


def write_checkpoint(
    path: str | Path, weights: Mapping[str, Any], about: Mapping[str, Any], best_step: int, best_loss: float
) -> dict[str, Any]:
    """Write the trained weights of the best step atomically and return a description of the file.

    Parameters
    ----------
    path : path
    weights : mapping of str to Tensor
        Only the weights that were trained; ``about`` identifies the backbone, which holds the others.
    about : mapping
        Plain values: model, fingerprint, mode.
    best_step : int
    best_loss : float

    Returns
    -------
    manifest : dict
        ``path``, ``bytes``, ``sha256``, ``best_step``, ``metric``, ``value``, ``weights`` (number of weights).
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
    """Return a fold's model card: the model, the preprocessing, and the scores with their baselines.

    Parameters
    ----------
    record : mapping
        The fold's record, see `experiment.run_fold`.
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
        f"{record['train_windows']} windows of other groups)",
    ]  # fmt: skip
    if record.get("seen"):
        lines.append(
            f"- **Transductive**: pretraining saw {len(record['seen'])} of the held-out groups: "
            f"{', '.join(record['seen'])}"
        )
    lines += [f"- **Preprocessing**: {said}" for said in info.get("said", ())]
    if trained:
        lines += [
            f"- **Trained**: {trained['trains']}; {trained['weights']:,} weights are stored",
            f"- **Step**: best step {trained['best_step']} of {trained['steps']} by "
            f"{trained['metric']} {trained['value']:.4g}; {trained['split']}",
            f"- **Checkpoint**: `{trained['path']}`, {trained['bytes']:,} bytes, sha256 `{trained['sha256']}`",
        ]
    lines += ["", "| Score | This model | Band powers | Trivial score | Trivial score is |", "|---|---|---|---|---|"]
    for name in [name for name in score_names(record["kind"]) if name in scores]:
        other = "" if beside is None or name not in beside else f"{beside[name]:.3f}"
        lines.append(
            f"| {name} | {scores[name]:.3f} | {other} | {scores[name + '_trivial']:.3f} | {TRIVIAL_IS[name]} |"
        )
    words = record.get("diagnostics", {}).get("words", [])
    lines += ["", "## Warnings", "", *([f"- {word}" for word in words] or ["- no problem was detected"])]
    if "random" in str(info.get("weights", "")):
        lines += ["", "The backbone is random: the score shows only what an untrained network's features are worth."]
    return "\n".join(lines) + "\n"


def write_record(
    folder: str | Path, record: Mapping[str, Any], beside: Mapping[str, float] | None = None
) -> list[Path]:
    """Write a fold's record and card into a folder and return the paths of all files of the fold."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True, default=_plain), "utf-8")
    (folder / CARD).write_text(model_card(record, beside), "utf-8")
    return [path for path in (folder / RECORD, folder / CARD, folder / CHECKPOINT) if path.is_file()]


def read_records(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Read the records among some files and return them ordered by task, model, mode and fold.

    Each has the path of its ``predictions``, if they are beside it.
    """
    records = []
    for path in map(Path, paths):
        if path.name == RECORD:
            record = json.loads(path.read_text("utf-8"))
            predictions = path.with_name(PREDICTIONS)
            records.append(record | ({"predictions": str(predictions)} if predictions.is_file() else {}))
    return sorted(records, key=lambda r: (r["task"], r["model"], r["mode"], r["fold"]))


def score_table(records: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return a table with one row per fold: scores, their trivial scores, best step and warnings."""
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


def artifact_table(records: Sequence[Mapping[str, Any]], artifact_type: str | None = None) -> pandas.DataFrame:
    """Return all artifacts of the folds as a long table.

    Its columns are Model, Fold, ArtifactType, ArtifactKey and ArtifactValue.

    Parameters
    ----------
    records : sequence of mapping
    artifact_type : {"training_history", "checkpoints", "model_card", "diagnostics", "scores"}, optional
        Which artifacts to return; all by default.

    Raises
    ------
    ValueError
        If the type is unknown.
    """
    import pandas

    if artifact_type is not None and artifact_type not in KINDS:
        raise ValueError(f"There is no artifact_type {artifact_type!r}; choose one of {', '.join(KINDS)}.")
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
