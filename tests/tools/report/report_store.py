"""A small store with all that a report shows: a training with a kill, scores, a figure, a table, a view, a failure."""

from __future__ import annotations

import json
import time
from pathlib import Path

import nbkit
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.ledger.segments import encode_line, segment_of

EVIL = '<script>document.title="run"</script><img src=x onerror=document.title="run">'
VIEW = """<!doctype html><link rel="icon" href="https://example.org/icon.ico"><div id="here"></div>
<script>document.getElementById("here").textContent = "drawn & whole"; document.body.dataset.state = "drawn"</script>"""


def make_store(folder: Path, evil: bool = False) -> Path:
    """Make the store in a folder and give its path; with hostile words in all that is text where `evil`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    store, words = folder / "store", EVIL if evil else ""
    session = nbkit.open_session("bandvar_train", store=store, folder=folder / "work")
    session.note(data=f"synthetic stand-in {words}", weights="trained here", **({words: words} if evil else {}))
    told = {"baseline_is": f"persistence {words}", "unit": words or "uV^2"}
    session.result(f"val_mse{words}", 0.21, baseline=0.34, anchor=0.18, anchor_is="Somebody 2024, Table 2", **told)
    session.result("r2", -0.5, unit="1", baseline=0.0, baseline_is="mean")
    figure = Figure(figsize=(5, 3))
    axes = figure.add_subplot()
    axes.plot([0, 1], [1, 0])
    axes.set(title="Training", xlabel="Step", ylabel="Loss (1)")
    session.figure(figure, "curves")
    session.figure(figure, "bands", alt="Bands of one channel.")
    session.page("brain", VIEW)
    session.table("recordings", [{"recording": f"P01 {words}", "left out": "ECG (by its name)", "said": ""}])
    session.close()
    run = store / "bandvar_train"
    for path in (run / "ledger").rglob("*.jsonl"):
        path.unlink()  # the sessions below take its place
    _write_training(store, run)
    toy = nbkit.open_session("toy", store=store, folder=folder / "work")
    for item in toy.work([{"key": "a"}, {"key": "b"}]):
        with item:
            if item.key == "b":
                raise ValueError(f"no such channel {words}")
            item.save(x=[1])
    toy.close()
    return store


def _write_training(store: Path, run: Path) -> None:
    now = time.time()
    for name, records in (
        ("20260101T000000-aaaa0001", [{"e": "open", "t": now - 60, "host": "local", "step": 0, "done": 0}]),
        (
            "20260101T000100-aaaa0002",
            [
                {"e": "open", "t": now - 30, "host": "local", "step": 20, "done": 0},
                {"e": "close", "t": now, "reason": "wall", "step": 40, "max_steps": 100, "left": 0, "done": 0, "of": 0},
            ],
        ),
    ):
        segment, data = segment_of("bandvar_train", name, 1, [encode_line(record) for record in records])
        path = store / segment.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (run / "checkpoints").mkdir(exist_ok=True)
    for step in (20, 40):
        receipt = Receipt("bandvar_train", step, 0, step, 3, "0" * 64, max_steps=100, time=now - 60 + step, session="s")
        receipt.write(run / "checkpoints")
    rows = [{"step": s, "train_loss": 1 / s, "val_mse": v} for s, v in ((10, 0.9), (20, 0.5), (30, 0.3), (40, 0.21))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sums = {"sessions": 2, "kills": 1, "goodput": 0.45, "lost_steps": 3, "twice_steps": 3}
    (run / "rehearsal.json").write_text(json.dumps({"sums": sums, "sessions": []}))
