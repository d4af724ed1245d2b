"""Features files: text, audio and video features of a stimulus at 2 Hz.

Each stimulus has one npz file with text (steps, 384), audio (steps, 384) and video (steps, 640) in float16, ``present``
(which of the three exist), video_id, duration_s, and the origin of data and weights. An absent modality is zeros and
marked in ``present``. ``low`` (steps, regressors) holds low-level regressors by the names in ``low_names``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FEATURE_HZ = 2.0
MODALITIES = ("text", "audio", "video")
FEATURE_DIMS = {"text": 384, "audio": 384, "video": 640}  # MiniLM-L6, Whisper-tiny's encoder, MobileViT-S
BYTES_PER_STEP = 2 * sum(FEATURE_DIMS.values())  # 2816


def feature_steps(duration_s: float) -> int:
    """Return the number of steps of 0.5 s of a stimulus, including a partial last one."""
    return max(1, int(np.ceil(duration_s * FEATURE_HZ - 1e-3)))


def pack_features(
    video_id: str,
    duration_s: float,
    text: np.ndarray | None,
    audio: np.ndarray | None,
    video: np.ndarray | None,
    *,
    data: str = "real",
    weights: str = "pretrained",
    low: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Check features and return the arrays of a features file.

    Parameters
    ----------
    video_id : str
        Name of the stimulus, the same as in its teacher segments.
    duration_s : float
        In s.
    text, audio, video : ndarray of shape (steps, dim) or None
        None for a modality that the stimulus does not have.
    data, weights : str
        "real" and "pretrained", or descriptions of synthetic data and random weights.
    low : mapping of str to ndarray of shape (steps,), optional
        Low-level regressors by name, such as the word rate.

    Returns
    -------
    features : dict
        Arrays for ``item.save(**features)`` or ``np.savez``.

    Raises
    ------
    ValueError
        If a shape is wrong, there are NaN values, or there is no modality.
    """
    steps = feature_steps(duration_s)
    given = {"text": text, "audio": audio, "video": video}
    packed: dict[str, np.ndarray] = {}
    for name, value in given.items():
        zeros = np.zeros((steps, FEATURE_DIMS[name]), np.float16)
        with np.errstate(over="ignore"):  # values too large for float16 become infinite and are rejected below
            packed[name] = zeros if value is None else np.asarray(value).astype(np.float16)
    packed |= {
        "present": np.array([given[name] is not None for name in MODALITIES]), "video_id": np.array(video_id),
        "duration_s": np.float64(duration_s), "sfreq": np.float64(FEATURE_HZ),
        "data": np.array(data), "weights": np.array(weights),
    }  # fmt: skip
    if low:
        packed["low"] = np.stack(list(low.values()), axis=1).astype(np.float16)
        packed["low_names"] = np.array(list(low))
    check_features(packed, video_id)
    return packed


def check_features(features: Mapping[str, Any], name: str = "features") -> None:
    """Raise if features are incomplete or not valid.

    Parameters
    ----------
    features : mapping
    name : str
        Name of the stimulus or file, for messages.

    Raises
    ------
    ValueError
        With the name, the value and what is allowed.
    """
    missing = [key for key in (*MODALITIES, "present", "video_id", "duration_s") if key not in features]
    if missing:
        raise ValueError(f"{name}: no {', '.join(missing)}; a features file of tribe_features has them.")
    duration, present = float(features["duration_s"]), np.asarray(features["present"])
    if not (np.isfinite(duration) and duration > 0):
        raise ValueError(f"{name}: lasts {duration} s; the length must be above 0.")
    if present.shape != (len(MODALITIES),) or not present.any():
        raise ValueError(f"{name}: present = {present.tolist()}; at least one of {', '.join(MODALITIES)} is needed.")
    steps = feature_steps(duration)
    if "low" in features:
        _check_low(features, steps, name)
    for modality, there in zip(MODALITIES, present, strict=True):
        value = np.asarray(features[modality])
        if value.shape != (steps, FEATURE_DIMS[modality]):
            raise ValueError(
                f"{name}: {modality} has shape {value.shape}; {duration:g} s at {FEATURE_HZ:g} Hz have "
                f"{(steps, FEATURE_DIMS[modality])}."
            )
        wrong = int((~np.isfinite(value)).sum())
        if wrong:
            raise ValueError(f"{name}: {wrong} of {value.size} values of {modality} are NaN or infinite in float16.")
        if not there and value.any():
            raise ValueError(f"{name}: {modality} is marked as absent but is not zero.")


def _check_low(features: Mapping[str, Any], steps: int, name: str) -> None:
    low, names = np.asarray(features["low"]), np.asarray(features.get("low_names", ()))
    if low.shape != (steps, len(names)) or not np.isfinite(low).all():
        raise ValueError(
            f"{name}: the low-level regressors have the shape {low.shape}, or values that are not finite; "
            f"{(steps, len(names))} is needed. Write it again with tribe_features."
        )


def read_features(path: str | Path, video_id: str | None = None) -> dict[str, Any]:
    """Load and check a features file.

    Parameters
    ----------
    path : str or Path
    video_id : str, optional
        Stimulus that the file must belong to.

    Returns
    -------
    features : dict
        text, audio, video as float16 arrays of shape (steps, dim); present as bool array of shape (3,); video_id, data
        and weights as str; duration_s and sfreq as float.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, incomplete or of another stimulus, or has NaN values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; run the phase tribe_features to write it.")
    try:
        with np.load(path, allow_pickle=False) as file:
            features: dict[str, Any] = {key: file[key] for key in file.files}
    except Exception as error:  # zipfile and numpy raise several types for a truncated file
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}); write it again with tribe_features."
        ) from error
    check_features(features, path.name)
    for key in ("video_id", "data", "weights"):
        features[key] = str(features.get(key, ""))
    features["duration_s"], features["sfreq"] = float(features["duration_s"]), FEATURE_HZ
    if video_id is not None and features["video_id"] != video_id:
        raise ValueError(f"{path} belongs to the stimulus {features['video_id']!r}, not to {video_id!r}.")
    return features
