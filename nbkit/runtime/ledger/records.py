"""The form of the ledger's records, by which every record of a store is parsed.

A checksum proves that a record is as it was written, not that it is a record. Whatever the fields below do not allow
is skipped and named, and so is a record whose `format` is of a newer nbkit. Fields that are not listed are kept as
they are.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from nbkit.runtime.errors import UsageError
from nbkit.runtime.names import are_plain, check_name

Record = dict[str, Any]
FORMAT = 1  # of a record without the field
_DEEPEST = 50  # levels of settings
MOST_SHARDS = 9999
_NEWER = "was written by a newer nbkit, which must be installed to read it"
_SHOWN = 160  # characters of a fault
_LONGEST_TEXT = 1000  # characters of a name of a host or a reason

Count = Annotated[int, Meta(ge=0, le=2**60)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Time = Annotated[float, Meta(ge=0, le=253_402_300_799)]  # to the end of the year 9999
Session = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,200}\Z")]


def _printable(**texts: str) -> None:
    """Raise ValueError if a text that is shown to people holds what steers a terminal or cannot be encoded."""
    for name, text in texts.items():
        if not text.isprintable() or len(text) > _LONGEST_TEXT:
            raise ValueError(f"{name} {text[:20]!r} is not one line of at most {_LONGEST_TEXT} printable characters")


class _Form(Struct, tag_field="e", kw_only=True, gc=False):
    format: Annotated[int, Meta(ge=1, le=FORMAT)] = FORMAT
    t: Time = 0.0


class OutputRow(Struct, array_like=True, gc=False):
    """One output; more cells may follow."""

    name: str
    size: Count
    sha256: Annotated[str, Meta(max_length=64)]


class Done(_Form, tag="done", kw_only=True, gc=False):
    """An item whose outputs are in the store."""

    k: str
    o: list[OutputRow]
    s: Seconds = 0.0
    v: str = ""
    reason: str = ""
    r: Count = 0
    row: Count = 0


class Lost(_Form, tag="lost", kw_only=True, gc=False):
    """An item whose outputs the store no longer has; what was done before this round does not count."""

    k: str
    r: Annotated[int, Meta(ge=1, le=2**60)]


class Kept(_Form, tag="kept", kw_only=True, gc=False):
    """Rows of the manifest that were accepted though items were done with others."""

    rows: dict[str, Count]


class Failed(_Form, tag="failed", kw_only=True, gc=False):
    """An item that raised an error."""

    k: str
    err: str = ""
    n: Count = 0


class Died(_Form, tag="died", kw_only=True, gc=False):
    """An item during which a session was killed; older versions do not say which session."""

    k: str
    of: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{0,200}\Z")] = ""
    wall: Seconds = 0.0
    """Length of the session, where it ended at its wall."""


class Begun(_Form, tag="begun", kw_only=True, gc=False):
    """A claim: the items that a session is about to do."""

    n: Count
    k: list[str]


class Broke(_Form, tag="broke", kw_only=True, gc=False):
    """Items with one of which a worker died."""

    n: Count
    k: list[str]


class Ended(_Form, tag="ended", kw_only=True, gc=False):
    """How a session ended that no item ended."""

    of: Session
    how: str

    def __post_init__(self) -> None:
        _printable(how=self.how)


class Settings(_Form, tag="settings", kw_only=True, gc=False):
    """What results depend on from here on."""

    settings: dict[str, Any]
    beside: list[Annotated[str, Meta(max_length=64)]] = []
    """Versions of others whose outputs are kept beside what is made with these."""

    def __post_init__(self) -> None:
        if _depth(self.settings) > _DEEPEST:
            raise ValueError(f"settings are nested more than {_DEEPEST} levels deep")


class Open(_Form, tag="open", kw_only=True, gc=False):
    """The opening of a session."""

    host: str = ""
    machine: str = ""
    boot: str = ""
    pid: Count = 0
    shard: str | None = None
    limit: Seconds | None = None
    done: Count = 0
    step: Count = 0

    def __post_init__(self) -> None:
        _printable(host=self.host, machine=self.machine, boot=self.boot)
        if self.shard is not None:
            which, _, count = self.shard.partition("/")
            known = all(len(text) <= 4 and text.isascii() and text.isdecimal() for text in (which, count))
            if not known or not 1 <= int(which) <= int(count) <= MOST_SHARDS:
                raise ValueError(f"{self.shard[:20]!r} is no shard")


REFUSED = "refused"  # why a session ended whose mistake came before its work
MISTAKE = "mistake"  # why one ended whose mistake came after other work


class Close(_Form, tag="close", kw_only=True, gc=False):
    """The end of a session."""

    ending: Seconds = 0.0
    closing: Seconds = 0.0
    lasted: Seconds | None = None
    of: Count = 0
    complete: bool = False
    done: Count = 0
    left: Count = 0
    failed: Count = 0
    step: Count = 0
    max_steps: Count = 0
    reason: str = ""

    def __post_init__(self) -> None:
        _printable(reason=self.reason)


Plain = Done | Lost | Kept | Failed | Died | Begun | Broke | Ended | Settings | Open | Close


class Merged(_Form, tag="merged", kw_only=True, gc=False):
    """First line of a merged segment: the folders and the merged segments that it stands for."""

    sealed: list[str]
    replaces: list[str]


class From(_Form, tag="from", kw_only=True, gc=False):
    """Session and number of the record in the next line."""

    of: Session
    n: Annotated[int, Meta(ge=1, le=2**60)]


class Was(_Form, tag="was", kw_only=True, gc=False):
    """A record of a session's own in a merged segment."""

    r: Plain


_ONE: dict[bool, Any] = {False: Plain, True: Plain | Merged | From | Was}  # by whether the segment is a merged one
_MANY: dict[bool, Any] = {False: list[Plain], True: list[Plain | Merged | From | Was]}


class Upload(Struct):
    """Files on their way to the store, as an outbox keeps them on this machine."""

    label: str
    files: list[tuple[str, str]]


def parse_records(lines: bytes, slug: str, merged: bool = False) -> list[Record] | None:
    """Return the records of all lines, quickly; None where one of them does not have the form of a record."""
    # parsing all lines at once is faster than one by one
    try:
        found = msgspec.json.decode(b"[" + lines.replace(b"\n", b",") + b"]")
        typed = msgspec.convert(found, _MANY[merged])
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    if len(found) != lines.count(b"\n") + 1:
        return None  # a line with a comma between two records
    done = [record.r if type(record) is Was else record for record in typed]
    return found if _names_fault(done, slug) is None else None


def fault_of(record: object, slug: str, merged: bool = False) -> str | None:
    """Return why something is no record of a phase; None where it is one.

    Parameters
    ----------
    record : object
        What a line of JSON held.
    slug : str
        The phase: outputs lie in its folder.
    merged : bool
        Whether it stands in a merged segment.
    """
    kind = record.get("format") if isinstance(record, dict) else None
    if isinstance(kind, int) and kind > FORMAT:
        return _NEWER
    try:
        typed = msgspec.convert(record, _ONE[merged])
    except (ValueError, RecursionError) as error:
        return shortened(str(error))
    for fields in (record, record.get("r")) if isinstance(record, dict) else ():
        for name, value in fields.items() if isinstance(fields, dict) else ():
            if isinstance(value, float) and not math.isfinite(value):
                return shortened(f"{name} is {value}")
    return _names_fault([typed.r if isinstance(typed, Was) else typed], slug)


def is_upload(record: object) -> bool:
    """Return whether something is the record of an upload."""
    try:
        msgspec.convert(record, Upload)
    except (ValueError, RecursionError):
        return False
    return True


def _names_fault(records: Iterable[object], slug: str) -> str | None:
    """Return what is wrong with the keys and names in records; None where they may become part of a path."""
    names, sums = list[str](), list[str]()
    folder = f"{slug}/"
    for record in records:
        if type(record) is Done:
            names.append(record.k)
            for output in record.o:
                if not output.name.startswith(folder):
                    return shortened(f"the output {output.name!r} is not in the folder of {slug}")
                names.append(output.name)
                sums.append(output.sha256)
        elif isinstance(record, Failed | Died | Lost):
            names.append(record.k)
        elif isinstance(record, Begun | Broke):
            names += record.k
        elif type(record) is Kept:
            names += record.rows
    joined = "".join(sums)
    if joined and not (joined.isascii() and joined.isalnum()):
        return "a checksum has other characters than letters and digits"
    return None if are_plain(names) else _first_fault(names, lambda name: check_name(name, "the name"))


def _first_fault(names: Sequence[str], check: Callable[[str], object]) -> str | None:
    for name in names:
        try:
            check(name)
        except UsageError as error:
            return shortened(str(error))
    return None


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [child for children in inner for child in children]
    return depth


def shortened(text: str) -> str:
    """Return the beginning of a text, without characters that control a terminal."""
    plain = "".join(c if c.isprintable() else "?" for c in text[:_SHOWN])
    return plain + "..." if len(text) > _SHOWN else plain


def version_of(settings: Record) -> str:
    """Return a short hash of settings; equal settings have equal ones."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def number_of(value: object) -> float | None:
    """Return a finite number as a float; None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def from_json(text: str) -> Any:
    """Return the value of JSON text.

    Raises
    ------
    ValueError
        If it is not JSON, or nested more deeply than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Suspend garbage collection, which takes half of the time with millions of new records."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
