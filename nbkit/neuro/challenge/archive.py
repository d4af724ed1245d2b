"""The EEG Challenge 2025's zip: submission.py and two files of weights, no folder, nothing of this package needed.

`submission.py` is written from the source of the networks themselves (see `single_file`). The scoring cluster has torch
2.2.2: a name that came later is refused when the zip is written.
"""

from __future__ import annotations

import ast
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nbkit.neuro.challenge.entry import N_CHANS, N_TIMES, RATE_HZ
from nbkit.neuro.challenge.single_file import SingleFile

CONTRACT = {"torch": "2.2.2", "numpy": "2.2.6"}
"""What the scoring cluster has of what a submission may import, by the start kit's README.

These two do not fit each other: tensors cannot become arrays there, nor arrays tensors. A submission takes tensors.
"""
_ENTRY = "nbkit.neuro.challenge.entry"
_NEWER_NAMES = frozenset(
    "accelerator get_default_device get_device_module GradScaler hash_tensor rms_norm RMSNorm Buffer LPPool3d "
    "lp_pool3d grouped_mm scaled_grouped_mm scaled_mm while_loop sym_sum slice_inverse get_autocast_dtype "
    "set_autocast_dtype uint16 uint32 uint64 newaxis custom_op triton_op flex_attention safe_globals".split()
)  # public in torch 2.11 and not in 2.2.2: compared by dir() of torch, torch.nn, functional and Tensor
_NEWER_KEYWORDS = frozenset(("enable_gqa",))
_FASTER = ("mamba_ssm",)  # used where it is installed and there is a card; the scoring cluster has it not
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same models give the same bytes


@dataclass(frozen=True)
class SubmissionPart:
    """One challenge's model, taken apart into what a file can hold.

    Parameters
    ----------
    network : str
        ``module:Class`` of an ``nn.Module`` that takes (batch, 129, 200) in uV to (batch, 1); what its own package
        and this one define is written out.
    arguments : mapping
        Of its constructor; literals.
    weights : mapping of str to Tensor
        Its state dict.
    says : str
        What it is and where it came from; written into submission.py.
    """

    network: str
    arguments: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    says: str = ""


@dataclass(frozen=True)
class WrittenZip:
    """What was written.

    Attributes
    ----------
    path : Path
    sizes : dict of str to int
        Bytes of each file within, not packed.
    packed : int
        Bytes of the zip.
    """

    path: Path
    sizes: dict[str, int] = field(default_factory=dict)
    packed: int = 0

    @property
    def digest(self) -> str:
        """A fingerprint of the file: the same models have the same, others another."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    def __str__(self) -> str:
        within = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in self.sizes.items())
        return f"{self.path.name}: {self.packed / 1e6:.2f} MB ({within})"


def check_contract(ch_names: Sequence[str], n_times: int, sfreq: float, whose: str) -> None:
    """Refuse a model that was not trained on what the challenge gives.

    Raises
    ------
    ValueError
        If its windows were not E1 to E128 and Cz, 200 samples at 100 Hz.
    """
    wanted = [*(f"E{number}" for number in range(1, N_CHANS)), "CZ"]
    names = [name.upper() for name in ch_names]
    if names != wanted or n_times != N_TIMES or round(float(sfreq), 3) != RATE_HZ:
        odd = "" if names == wanted else f" ({', '.join(ch_names[:3])} ... {ch_names[-1]})"
        raise ValueError(
            f"{whose} was finetuned on {len(names)} channels{odd}, {n_times} samples at {sfreq:g} Hz; the challenge "
            f"gives {N_CHANS} (E1 to E128, Cz), {N_TIMES} samples at {RATE_HZ} Hz. Finetune it on such windows "
            "(2 s crops of HBN's)."
        )


def write_zip(parts: Mapping[int, SubmissionPart], path: str | Path) -> WrittenZip:
    """Write the zip of both challenges.

    Parameters
    ----------
    parts : mapping of {1, 2} to SubmissionPart
    path : path

    Raises
    ------
    ValueError
        If a challenge is missing, or a network rests on what scoring does not have.
    """
    if sorted(parts) != [1, 2]:
        raise ValueError(f"Parts of challenges {sorted(parts)}; a submission has one each of 1 and 2.")
    files = {f"weights_challenge_{number}.pt": _saved(parts[number].weights) for number in (1, 2)}
    checksums = {n: hashlib.sha256(files[f"weights_challenge_{n}.pt"]).hexdigest() for n in (1, 2)}
    files = {"submission.py": submission_source(parts, checksums).encode("utf-8"), **files}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return WrittenZip(path, {name: len(content) for name, content in files.items()}, path.stat().st_size)


def submission_source(parts: Mapping[int, SubmissionPart], checksums: Mapping[int, str]) -> str:
    """Return submission.py: both networks, and `Submission` with what it needs to build and load them.

    Raises
    ------
    ValueError
        If it would need a package, or a name of torch, that scoring does not have.
    """
    ours = ("nbkit", *(part.network.split(".")[0] for part in parts.values()))
    file = SingleFile(tuple(CONTRACT), ours=ours, optional=_FASTER)
    names = {number: file.add(*part.network.split(":")) for number, part in parts.items()}
    made = ", ".join(
        f"{number}: ({names[number]}, {dict(part.arguments)!r}, {checksums[number]!r})"
        for number, part in sorted(parts.items())
    )
    file.values["PARTS"] = "{" + made + "}"
    file.add(_ENTRY, "Submission")
    said = "\n".join(f"Challenge {number}: {part.says or part.network}." for number, part in sorted(parts.items()))
    text = file.text(f"EEG Challenge 2025: both models in one file. Made by nbkit; needs torch alone.\n\n{said}")
    check_source(text)
    return text


def check_source(text: str) -> None:
    """Refuse source that names what torch 2.2.2 does not have.

    Raises
    ------
    ValueError
        Naming it, with its line.
    """
    for node in ast.walk(ast.parse(text)):
        name = None
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[0] in ("torch", "nn", "F"):
            name = node.attr if node.attr in _NEWER_NAMES else None
        elif isinstance(node, ast.keyword):
            name = node.arg if node.arg in _NEWER_KEYWORDS else None
        if name is not None:
            raise ValueError(
                f"submission.py would use {name} (line {node.lineno}), which torch {CONTRACT['torch']} of the scoring "
                "cluster does not have. Write the network without it."
            )


def _saved(weights: Mapping[str, Tensor]) -> bytes:
    """A state dict as torch saves it: tensors, each its own, on the CPU."""
    content = io.BytesIO()
    torch.save({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, content)
    return content.getvalue()
