"""All presets of the network in a table: its sizes, and the phase of the original plan for which each is meant."""

from __future__ import annotations

from nbkit.neuro.neurofm.network.model import NeuroFMSettings

PRESETS = {
    "quick_test": "the plan's first config: 4 recordings",
    "hyperparam_small": "the plan's search: width 128",
    "hyperparam_medium": "the plan's search: width 256",
    "hyperparam_large": "the plan's search: width 256, 8 blocks",
    "cloud_aws_a100": "the plan's foundation: 50 to 100 recordings",
    "phase_1": "validation, 4 to 10 recordings",
    "phase_2": "hyperparameters, 20 to 30 recordings",
    "phase_3": "one modality, 100 to 150 recordings",
    "phase_4": "many modalities, 200 recordings",
    "phase_5": "across species",
    "small": "model size 1 of the scaling experiment",
    "medium": "model size 2",
    "large": "model size 3",
    "xl": "model size 4",
    "one_recording": "to decode one short recording, on a CPU too",
    "free": "20 to 40 recordings on one GPU with 16 GB",
    "smoke": "seconds on two CPU cores",
}


def presets_table(chosen: NeuroFMSettings | None = None) -> str:
    """Return the presets as a text table; those that differ from ``chosen`` in bins and windows only are marked."""
    lines = [f"{'preset':<18} width blocks latents batch x accum. epochs  meant for"]
    for name, meant in PRESETS.items():
        s: NeuroFMSettings = getattr(NeuroFMSettings, name)()
        sizes = ("dim", "blocks", "latents", "batch_size", "accumulate", "epochs")
        same = chosen is not None and all(getattr(s, size) == getattr(chosen, size) for size in sizes)
        batch = f"{s.batch_size} x {s.accumulate}"
        lines.append(
            f"{name:<18} {s.dim:>5} {s.blocks:>6} {s.latents:>7} {batch:>14} {s.epochs:>6}  {meant}{'  <-' * same}"
        )
    return "\n".join(lines)
