"""Write the zip of an EEG Challenge 2025 submission.

The zip holds submission.py and two files of weights, without a folder, and does not need this package. `submission.py`
is generated from the source of the networks (see `single_file`). The scoring cluster has torch 2.2.2; names that torch
gained later are rejected when the zip is written.
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
"""Versions on the scoring cluster of the packages that a submission may import, from the start kit's README.

The two versions are incompatible: tensors and arrays cannot be converted there. A submission takes tensors.
"""
_ENTRY = "nbkit.neuro.challenge.entry"
_NEWER_NAMES = frozenset(
    "accelerator get_default_device get_device_module GradScaler hash_tensor rms_norm RMSNorm Buffer LPPool3d "
    "lp_pool3d grouped_mm scaled_grouped_mm scaled_mm while_loop sym_sum slice_inverse get_autocast_dtype "
    "set_autocast_dtype uint16 uint32 uint64 newaxis custom_op triton_op flex_attention safe_globals".split()
)  # public in torch 2.11 and not in 2.2.2: compared by dir() of torch, torch.nn, functional and Tensor
_NEWER_KEYWORDS = frozenset(("enable_gqa",))
_FASTER = ("mamba_ssm",)  # used if it is installed and there is a GPU; the scoring cluster does not have it
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that the same models give the same bytes


@dataclass(frozen=True)
class SubmissionPart:
    """Model of one challenge, in the parts that a file can hold.

    Parameters
    ----------
    network : str
        ``module:Class`` of an ``nn.Module`` that maps (batch, 129, 200) in uV to (batch, 1). Definitions from its own
        package and from this one are copied into submission.py.
    arguments : mapping
        Arguments of its constructor; Python literals.
    weights : mapping of str to Tensor
        Its state dict.
    says : str
        Description and origin of the model; written into submission.py.
    """

    network: str
    arguments: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    says: str = ""


@dataclass(frozen=True)
class WrittenZip:
    """A submission zip on disk.

    Attributes
    ----------
    path : Path
    sizes : dict of str to int
        Uncompressed size of each file in it, in bytes.
    packed : int
        Size of the zip, in bytes.
    """

    path: Path
    sizes: dict[str, int] = field(default_factory=dict)
    packed: int = 0

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the file's SHA-256; equal for equal models."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    def __str__(self) -> str:
        within = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in self.sizes.items())
        return f"{self.path.name}: {self.packed / 1e6:.2f} MB ({within})"


def check_contract(ch_names: Sequence[str], n_times: int, sfreq: float, whose: str) -> None:
    """Raise if a model was not trained on windows in the challenge's format.

    Parameters
    ----------
    ch_names : sequence of str
    n_times : int
        Samples of a window.
    sfreq : float
        In Hz.
    whose : str
        Name of the model for the message.

    Raises
    ------
    ValueError
        If the windows are not E1 to E128 and Cz, 200 samples at 100 Hz.
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


Parts = Mapping[int, SubmissionPart | Sequence[SubmissionPart]]


def members_of(part: SubmissionPart | Sequence[SubmissionPart]) -> tuple[SubmissionPart, ...]:
    """Return the models of a challenge: one, or those of an ensemble.

    Raises
    ------
    ValueError
        If there is none.
    """
    members = (part,) if isinstance(part, SubmissionPart) else tuple(part)
    if not members:
        raise ValueError("An ensemble of no models was given; give one SubmissionPart or more.")
    return members


def write_zip(parts: Parts, path: str | Path) -> WrittenZip:
    """Write the zip with the models of both challenges.

    Parameters
    ----------
    parts : mapping of {1, 2} to SubmissionPart or sequence of SubmissionPart
        The predictions of several models are averaged.
    path : str or Path

    Returns
    -------
    written : WrittenZip

    Raises
    ------
    ValueError
        If a challenge is missing, or a network needs something that the scoring cluster does not have.
    """
    if sorted(parts) != [1, 2]:
        raise ValueError(
            f"Parts were given for challenges {sorted(parts)}; a submission needs one each for 1 and 2. No "
            "zip was written."
        )
    files = {f"weights_challenge_{number}.pt": _saved(_weights(members_of(parts[number]))) for number in (1, 2)}
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


def _weights(members: Sequence[SubmissionPart]) -> dict[str, Tensor]:
    """Return the state dict of one model, or of an `entry.Ensemble` of several."""
    if len(members) == 1:
        return dict(members[0].weights)
    return {f"members.{n}.{name}": value for n, part in enumerate(members) for name, value in part.weights.items()}


def submission_source(parts: Parts, checksums: Mapping[int, str]) -> str:
    """Return the text of submission.py: both networks, and `Submission` with the code that builds and loads them.

    Parameters
    ----------
    parts
        See `write_zip`.
    checksums : mapping of {1, 2} to str
        SHA-256 of each file of weights.

    Raises
    ------
    ValueError
        If it would need a package or a name of torch that the scoring cluster does not have.
    """
    every = {number: members_of(part) for number, part in sorted(parts.items())}
    ours = ("nbkit", *(part.network.split(".")[0] for members in every.values() for part in members))
    file = SingleFile(tuple(CONTRACT), ours=ours, optional=_FASTER)
    made = ", ".join(
        f"{number}: (({''.join(file.add(*part.network.split(':')) + ', ' for part in members)}), "
        f"({''.join(repr(dict(part.arguments)) + ', ' for part in members)}), {checksums[number]!r})"
        for number, members in every.items()
    )
    file.values["PARTS"] = "{" + made + "}"
    file.add(_ENTRY, "Submission")
    said = "\n".join(
        f"Challenge {number}: {'; '.join(part.says or part.network for part in members)}."
        for number, members in every.items()
    )
    text = file.text(f"EEG Challenge 2025: both models in one file. Written by nbkit; needs only torch.\n\n{said}")
    check_source(text)
    return text


def check_source(text: str) -> None:
    """Raise if source code uses a name that torch 2.2.2 does not have.

    Raises
    ------
    ValueError
        With the name and its line.
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
                "cluster does not have. No zip was written. Write the network without it."
            )


def _saved(weights: Mapping[str, Tensor]) -> bytes:
    """Return a state dict in torch's file format: separate, contiguous tensors on the CPU."""
    content = io.BytesIO()
    torch.save({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, content)
    return content.getvalue()
