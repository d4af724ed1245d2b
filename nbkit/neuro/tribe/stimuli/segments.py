"""What a teacher said about a stretch of a video, one file a segment.

The seed's layout: ``{dataset}_{video_id}_{tr_start:05d}.pt`` holds video_id, tr_start, tr_end, predictions
(trs, 20484), fusion_l4 and fusion_l6 (trs, 1152), in fp16. A TR is a second, a segment has 100 of them, and a video's
last one the rest. Files are read with ``weights_only=True`` and refused when name and content disagree.
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
FUSION_DIM = 1152
_KEYS = ("video_id", "tr_start", "tr_end", "predictions", "fusion_l4", "fusion_l6")
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")  # no underscore: the first one ends it
_VIDEO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME = re.compile(rf"({_DATASET.pattern})_({_VIDEO.pattern})_(\d{{5,}})\.pt")


@dataclass(frozen=True)
class Segment:
    """Hold a teacher's word on the TRs ``tr_start`` to ``tr_end`` (not included) of a video.

    Attributes
    ----------
    dataset, video_id : str
    tr_start, tr_end : int
        In TRs of 1 s from the video's start.
    predictions : Tensor of shape (trs, vertices)
        In z units. Row t is BOLD at t + 5 s: TRIBE v2 has taken the lag out.
    fusion_l4, fusion_l6 : Tensor of shape (trs, 1152)
        Its hidden state after blocks 4 and 6.
    teacher : str
        Who said it; "" for a file that does not tell.
    """

    dataset: str
    video_id: str
    tr_start: int
    tr_end: int
    predictions: Tensor = field(repr=False)
    fusion_l4: Tensor = field(repr=False)
    fusion_l6: Tensor = field(repr=False)
    teacher: str = ""

    @property
    def name(self) -> str:
        """Name of its file."""
        return segment_name(self.dataset, self.video_id, self.tr_start)


def segment_name(dataset: str, video_id: str, tr_start: int) -> str:
    """Return the name of a segment's file.

    Raises
    ------
    ValueError
        For a name that could not be taken apart again.

    Examples
    --------
    >>> segment_name("friends", "s01e01a", 100)
    'friends_s01e01a_00100.pt'
    """
    if not _DATASET.fullmatch(dataset):
        raise ValueError(f"{dataset=}: a dataset's name has letters, digits and '-' (no '_', which ends it).")
    if not _VIDEO.fullmatch(video_id):
        raise ValueError(
            f"{video_id=}: a video's name has letters, digits and '._-', and begins with one of the first."
        )
    if tr_start < 0:
        raise ValueError(f"{tr_start=} is below 0; a segment begins at a TR of its video.")
    return f"{dataset}_{video_id}_{tr_start:05d}.pt"


def parse_segment_name(name: str) -> tuple[str, str, int]:
    """Return (dataset, video_id, tr_start) of a segment file's name.

    Raises
    ------
    ValueError
        For another name.
    """
    found = _NAME.fullmatch(name)
    if not found:
        raise ValueError(f"{name} is no segment's name; those are {{dataset}}_{{video_id}}_{{tr_start:05d}}.pt.")
    return found[1], found[2], int(found[3])


def write_segment(folder: str | Path, segment: Segment, n_vertices: int = N_VERTICES) -> Path:
    """Write a segment in fp16 and give its path; the file appears whole or not at all.

    Raises
    ------
    ValueError
        If the arrays do not fit the segment, or hold NaN or what fp16 cannot.
    """
    content = {
        "video_id": segment.video_id, "tr_start": int(segment.tr_start), "tr_end": int(segment.tr_end),
        **{key: torch.as_tensor(getattr(segment, key)).to(torch.float16).contiguous() for key in _KEYS[3:]},
    }  # fmt: skip
    if segment.teacher:
        content["teacher"] = segment.teacher
    _check(content, segment.name, n_vertices)
    path = Path(folder, segment.name)
    write_atomically(path, lambda file: torch.save(content, file))
    return path


def read_segment(path: str | Path, n_vertices: int = N_VERTICES, video_id: str | None = None) -> Segment:
    """Read a segment and check it.

    Parameters
    ----------
    n_vertices : int
        Vertices that the predictions must have.
    video_id : str, optional
        The stimulus it must belong to.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, incomplete, of another stimulus or vertex count, or holds NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; the phase tribe_teacher makes it.")
    dataset, named, tr_start = parse_segment_name(path.name)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a torn file
        raise ValueError(
            f"{path} cannot be read as a segment ({type(error).__name__}); make it again with tribe_teacher."
        ) from error
    if not isinstance(content, dict) or not set(_KEYS) <= set(content):
        has = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} holds {has}; a segment has {', '.join(_KEYS)}.")
    _check(content, path.name, n_vertices)
    if (content["video_id"], content["tr_start"]) != (named, tr_start):
        raise ValueError(
            f"{path} says that it is {content['video_id']!r} from TR {content['tr_start']}: another stimulus's file "
            "under this name. Nothing was used of it; make it again with tribe_teacher."
        )
    if video_id is not None and named != video_id:
        raise ValueError(
            f"{path} is of the stimulus {named!r}, not of {video_id!r}; give that stimulus's own segments."
        )
    return Segment(dataset, **{key: content[key] for key in _KEYS}, teacher=str(content.get("teacher", "")))


def join_segments(segments: Sequence[Segment]) -> Segment:
    """Return one stretch of segments that follow each other.

    Raises
    ------
    ValueError
        For none, those of two videos, or a gap or overlap between two.
    """
    if not segments:
        raise ValueError("there are no segments to join.")
    ordered = sorted(segments, key=lambda segment: segment.tr_start)
    first = ordered[0]
    for before, after in zip(ordered, ordered[1:], strict=False):
        if (after.dataset, after.video_id) != (first.dataset, first.video_id):
            raise ValueError(f"{after.name} is of another video than {first.name}; join one video's segments.")
        if after.tr_start != before.tr_end:
            raise ValueError(
                f"{before.name} ends at TR {before.tr_end} and {after.name} begins at {after.tr_start}; "
                "segments must follow each other without gap."
            )
    joined = {key: torch.cat([getattr(segment, key) for segment in ordered]) for key in _KEYS[3:]}
    return Segment(first.dataset, first.video_id, first.tr_start, ordered[-1].tr_end, **joined, teacher=first.teacher)


def segments_by_video(paths: Sequence[str | Path]) -> dict[str, list[Path]]:
    """Return the segment files of each video, in order of time, from their names alone."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in map(Path, paths):
        _, video_id, tr_start = parse_segment_name(path.name)
        found.setdefault(video_id, []).append((tr_start, path))
    return {video_id: [path for _, path in sorted(found[video_id])] for video_id in sorted(found)}


def _check(content: dict[str, object], name: str, n_vertices: int) -> None:
    start, end = content["tr_start"], content["tr_end"]
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= start + SEGMENT_TRS):
        raise ValueError(f"{name}: TRs {start} to {end}; a segment has 1 to {SEGMENT_TRS} of them.")
    for key, width in (("predictions", n_vertices), ("fusion_l4", FUSION_DIM), ("fusion_l6", FUSION_DIM)):
        value = content[key]
        if not isinstance(value, Tensor):
            raise ValueError(f"{name}: {key} is a {type(value).__name__}, not a tensor.")
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
