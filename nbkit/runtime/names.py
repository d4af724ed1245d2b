"""Names that may become part of a path.

Every name from a manifest, an archive or a user is checked here first, so that none can leave the folder that it
belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from nbkit.runtime.errors import UsageError

_SLUG = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DEVICES = r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\xb9\xb2\xb3])"
DEVICE = re.compile(rf"/{_DEVICES}(?:\.[^/]*)?(?=/)")  # Windows takes aux.txt for the device, too
_SEGMENT_BYTES = 200  # file systems end at 255; a temporary name adds a prefix, a process id and a suffix
_NAME_BYTES = 900
_FORBIDDEN = set('\\:*?"<>|')


def check_name(name: str, what: str = "name") -> str:
    """Return a relative name, if it is safe as a path on every file system and store.

    Parameters
    ----------
    name : str
        Segments separated by ``/``.
    what : str
        What the name is, for messages.

    Raises
    ------
    UsageError
        For an absolute path, a ``.`` or ``..`` segment, control characters, ``\\ : * ? " < > |``, an empty segment, a
        segment that starts with a dot or ends with a space or dot, or one longer than 200 bytes.
    """
    fault = _fault(name)
    if fault:
        raise UsageError(
            f"{what[:1].upper()}{what[1:]} {_shown(name)} {fault}. Allowed are relative names such as "
            f"'sub-001/run-04': letters, digits and '._-=+@,' in segments of at most {_SEGMENT_BYTES} bytes. Nothing "
            "was written; rename it and run again."
        )
    return name


def is_device(name: str) -> bool:
    """Return whether a part of a name is one that Windows keeps for a device, such as ``NUL`` or ``aux.txt``."""
    return DEVICE.search(f"/{name}/".lower()) is not None


def _shown(name: object) -> str:
    text = repr(name if not isinstance(name, str) else name[:_NAME_BYTES])
    return text[:_NAME_BYTES]


def are_plain(names: Collection[str]) -> bool:
    """Return whether `check_name` allows all of these; where it is False, some still may be allowed.

    It takes a tenth of the time of the check of each.
    """
    if not names:
        return True
    text = f"/{'/'.join(names)}/"
    longest = _SEGMENT_BYTES if text.isascii() else _SEGMENT_BYTES // 4
    if not text.isprintable() or max(map(len, names)) > longest:
        return False
    ends = ("//", "/.", "./") + (("/ ", " /") if " " in text else ())
    return not any(part in text for part in (*_FORBIDDEN, *ends))


def _fault(name: object) -> str | None:
    if not isinstance(name, str) or not name:
        return "is empty or not text"
    if name.startswith("/"):
        return "is an absolute path"
    try:
        raw = name.encode("utf-8")
    except UnicodeEncodeError:
        return "cannot be written as UTF-8"
    if len(raw) > _NAME_BYTES:
        return f"has {len(raw)} bytes, more than {_NAME_BYTES}"
    if name.isascii() and name.replace("/", "").replace("-", "").replace("_", "").isalnum() and "//" not in name:
        return "ends in '/'" if name.endswith("/") else _too_long(name)
    if not name.isprintable():
        return "holds a control character"
    bad = sorted(_FORBIDDEN & set(name))
    if bad:
        return f"holds {' '.join(bad)}"
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            return f"has the segment {segment!r}"
        if segment[0] in ". " or segment[-1] in ". ":
            return f"has the segment {segment!r}, which starts or ends with a dot or space"
    return _too_long(name)


def _too_long(name: str) -> str | None:
    if len(name) <= _SEGMENT_BYTES // 4:
        return None
    longest = max(name.split("/"), key=lambda s: len(s.encode()))
    size = len(longest.encode())
    return f"has a segment of {size} bytes" if size > _SEGMENT_BYTES else None


def check_prefix(prefix: str) -> str:
    """Return the beginning of names, such as ``sub-001/`` or an empty one, if it is allowed.

    Raises
    ------
    UsageError
        If no allowed name begins like this.
    """
    check_name(f"{prefix}x", "the prefix of")
    return prefix


def check_slug(slug: str) -> str:
    """Return a phase's slug, such as ``labram_codebook``, if it is one.

    Raises
    ------
    UsageError
        For anything but lower-case letters, digits and underscores after a first letter, 64 at most, and for the name
        of a device of Windows.
    """
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug):
        raise UsageError(
            f"Phase slug {slug!r} is not valid. Allowed: a lower-case letter, then lower-case letters, digits and "
            "underscores, 64 at most, such as 'eeg_windows'. Nothing was written."
        )
    if is_device(slug):
        raise UsageError(
            f"Phase slug {slug!r} is a name that Windows keeps for a device, so no folder there can have it. Choose "
            f"another, such as '{slug}_phase'. Nothing was written."
        )
    return slug
