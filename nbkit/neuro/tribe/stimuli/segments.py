"""Segment files: a teacher's predictions for a stretch of a video.

The layout is that of the seed project: ``{dataset}_{video_id}_{tr_start:05d}.pt`` holds video_id, tr_start, tr_end,
predictions (trs, 20484), fusion_l4 and fusion_l6 (trs, 1152), in fp16. Predictions may be on fewer outputs (`KEPT`);
imported ones have no fusion features. A TR is 1 s. A segment has 100 TRs, and the last
one of a video has the rest. Files are loaded with ``weights_only=True`` and rejected if name and content disagree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from nbkit.ground.files import write_atomically

SEGMENT_TRS = 100
TEACHER_TR = 1.0  # s
N_VERTICES = 20484  # fsaverage5, both hemispheres
# what the predictions may be kept on, and the number of values: 43 GB, 11 GB, 2.1 GB and 0.8 GB for 264 h in fp16
KEPT = {"fsaverage5": N_VERTICES, "fsaverage4": 5124, "schaefer1000": 1000, "schaefer400": 400}
FUSION_DIM = 1152
_KEYS = ("video_id", "tr_start", "tr_end", "predictions", "fusion_l4", "fusion_l6")
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")  # no underscore: the first one separates the dataset from the video
_VIDEO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME = re.compile(rf"({_DATASET.pattern})_({_VIDEO.pattern})_(\d{{5,}})\.pt")


@dataclass(frozen=True)
class Segment:
    """Teacher predictions for the TRs ``tr_start`` to ``tr_end`` (exclusive) of a video.

    Attributes
    ----------
    dataset, video_id : str
    tr_start, tr_end : int
        In TRs of 1 s from the start of the video.
    predictions : Tensor of shape (trs, vertices)
        In z units. Row t is the BOLD response at t + 5 s: TRIBE v2 removed the delay.
    fusion_l4, fusion_l6 : Tensor of shape (trs, 1152), or None
        The teacher's hidden states after blocks 4 and 6; None for imported predictions.
    teacher : str
        Name of the teacher; "" if the file has none.
    """

    dataset: str
    video_id: str
    tr_start: int
    tr_end: int
    predictions: Tensor = field(repr=False)
    fusion_l4: Tensor | None = field(default=None, repr=False)
    fusion_l6: Tensor | None = field(default=None, repr=False)
    teacher: str = ""

    @property
    def name(self) -> str:
        """File name of the segment."""
        return segment_name(self.dataset, self.video_id, self.tr_start)


def segment_name(dataset: str, video_id: str, tr_start: int) -> str:
    """Return the file name of a segment.

    Raises
    ------
    ValueError
        If a part has characters that would make the name ambiguous.

    Examples
    --------
    >>> segment_name("friends", "s01e01a", 100)
    'friends_s01e01a_00100.pt'
    """
    if not _DATASET.fullmatch(dataset):
        raise ValueError(f"Name {dataset=}: only letters, digits and '-' are allowed ('_' ends the dataset).")
    if not _VIDEO.fullmatch(video_id):
        raise ValueError(f"Name {video_id=}: only letters, digits and '._-' are allowed, with a letter or digit first.")
    if tr_start < 0:
        raise ValueError(f"Start {tr_start=} is below 0; give a TR of the video, from 0.")
    return f"{dataset}_{video_id}_{tr_start:05d}.pt"


def parse_segment_name(name: str) -> tuple[str, str, int]:
    """Return (dataset, video_id, tr_start) from the file name of a segment.

    Raises
    ------
    ValueError
        If the name has another format.
    """
    found = _NAME.fullmatch(name)
    if not found:
        raise ValueError(f"{name} is not a segment's name; it must be {{dataset}}_{{video_id}}_{{tr_start:05d}}.pt.")
    return found[1], found[2], int(found[3])


def write_segment(folder: str | Path, segment: Segment, n_vertices: int | None = None) -> Path:
    """Write a segment atomically in fp16 and return its path.

    Parameters
    ----------
    folder : str or Path
    segment : Segment
    n_vertices : int, optional
        Number of outputs that the predictions must have; by default any in `KEPT`.

    Raises
    ------
    ValueError
        If the arrays do not match the segment, or have NaN values or values too large for fp16.
    """
    content = {
        "video_id": segment.video_id, "tr_start": int(segment.tr_start), "tr_end": int(segment.tr_end),
        **{key: torch.as_tensor(getattr(segment, key)).to(torch.float16).contiguous()
           for key in _KEYS[3:] if getattr(segment, key) is not None},
    }  # fmt: skip
    if segment.teacher:
        content["teacher"] = segment.teacher
    _check(content, segment.name, n_vertices)
    path = Path(folder, segment.name)
    write_atomically(path, lambda file: torch.save(content, file))
    return path


def read_segment(path: str | Path, n_vertices: int | None = None, video_id: str | None = None) -> Segment:
    """Load and check a segment.

    Parameters
    ----------
    path : str or Path
    n_vertices : int, optional
        Number of outputs that the predictions must have; by default any in `KEPT`.
    video_id : str, optional
        Stimulus that the segment must belong to.

    Returns
    -------
    segment : Segment

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or incomplete, has another stimulus or number of vertices, or has NaN values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; run the phase tribe_teacher to write it.")
    dataset, named, tr_start = parse_segment_name(path.name)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several types for a truncated file
        raise ValueError(
            f"{path} cannot be read as a segment ({type(error).__name__}); write it again with tribe_teacher."
        ) from error
    if not isinstance(content, dict) or not set(_KEYS[:4]) <= set(content):
        has = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds {has}; a segment has {', '.join(_KEYS[:4])}.")
    _check(content, path.name, n_vertices)
    if (content["video_id"], content["tr_start"]) != (named, tr_start):
        raise ValueError(
            f"{path} holds {content['video_id']!r} from TR {content['tr_start']}, which does not match its name. It "
            "was not used; write it again with tribe_teacher."
        )
    if video_id is not None and named != video_id:
        raise ValueError(
            f"{path} belongs to the stimulus {named!r}, not to {video_id!r}; give that stimulus's own segments."
        )
    return Segment(
        dataset, **{key: content[key] for key in _KEYS if key in content}, teacher=str(content.get("teacher", ""))
    )


def join_segments(segments: Sequence[Segment]) -> Segment:
    """Join consecutive segments of a video into one.

    Raises
    ------
    ValueError
        If there are no segments, two videos, or a gap or overlap.
    """
    if not segments:
        raise ValueError("There are no segments to join; give at least one.")
    ordered = sorted(segments, key=lambda segment: segment.tr_start)
    first = ordered[0]
    for before, after in zip(ordered, ordered[1:], strict=False):
        if (after.dataset, after.video_id) != (first.dataset, first.video_id):
            raise ValueError(f"{after.name} belongs to another video than {first.name}; join segments of one video.")
        if after.tr_start != before.tr_end:
            raise ValueError(
                f"{before.name} ends at TR {before.tr_end} and {after.name} begins at {after.tr_start}; "
                "segments must follow each other without a gap."
            )
    widths = {segment.predictions.shape[1] for segment in ordered}
    if len(widths) > 1:
        raise ValueError(
            f"Segments of {first.video_id} are on {sorted(widths)} outputs; make them again on one of them."
        )
    whole = [key for key in _KEYS[3:] if all(getattr(segment, key) is not None for segment in ordered)]
    joined = {key: torch.cat([getattr(segment, key) for segment in ordered]) for key in whole}
    return Segment(first.dataset, first.video_id, first.tr_start, ordered[-1].tr_end, **joined, teacher=first.teacher)


def segments_by_video(paths: Sequence[str | Path]) -> dict[str, list[Path]]:
    """Return the segment files of each video in order of time, from their names only."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in map(Path, paths):
        _, video_id, tr_start = parse_segment_name(path.name)
        found.setdefault(video_id, []).append((tr_start, path))
    return {video_id: [path for _, path in sorted(found[video_id])] for video_id in sorted(found)}


def _check(content: dict[str, object], name: str, n_vertices: int | None) -> None:
    start, end = content["tr_start"], content["tr_end"]
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= start + SEGMENT_TRS):
        raise ValueError(f"{name}: TRs {start} to {end}; a segment has 1 to {SEGMENT_TRS} of them.")
    for key in _KEYS[3:]:
        if key not in content:
            continue
        value = content[key]
        if not isinstance(value, Tensor):
            raise ValueError(f"{name}: {key} is a {type(value).__name__}, not a tensor.")
        width = FUSION_DIM if key != "predictions" else n_vertices or value.shape[-1]
        if key == "predictions" and n_vertices is None and width not in KEPT.values():
            known = ", ".join(f"{count} ({kept})" for kept, count in KEPT.items())
            raise ValueError(f"{name}: the predictions have {width} outputs; they may have {known}.")
        if tuple(value.shape) != (end - start, width):
            raise ValueError(
                f"{name}: {key} has shape {tuple(value.shape)}; TRs {start} to {end} of "
                f"{width} {'vertices' if key == 'predictions' else 'features'} have {(end - start, width)}."
            )
        if value.dtype != torch.float16:
            raise ValueError(f"{name}: {key} is {value.dtype}, not float16.")
        wrong = int((~torch.isfinite(value)).sum())
        if wrong:
            raise ValueError(f"{name}: {wrong} of {value.numel()} values of {key} are NaN or infinite in fp16.")
