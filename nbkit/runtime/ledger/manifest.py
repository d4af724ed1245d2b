"""Manifests: tables of what should be done, one item per row.

A manifest never holds status, which is in the ledger. All keys are checked on reading: each can be a file's name, and
none occurs twice.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbkit.ground.files import no_file
from nbkit.ground.home import home
from nbkit.ground.tables import NoTable, rows_in
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.records import MOST_SHARDS
from nbkit.runtime.ledger.rows import joined
from nbkit.runtime.names import check_name, check_slug

TOGETHER = "together"  # column: rows with the same value are done by the same of several parallel sessions

_ODD = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # control characters, and what some take for line ends


class Manifest:
    """Rows of a manifest in their order.

    Parameters
    ----------
    name : str
        Slug of the items' phase.
    columns : list of str
        ``key`` among them.
    rows : list of str
        Cells separated by tabs.
    source : str
        Where the rows come from, for messages.
    """

    def __init__(self, name: str, columns: list[str], rows: list[str], source: str) -> None:
        self.name, self.columns, self.source = name, columns, source
        self._rows = rows
        self._key = columns.index("key")
        self.keys = [row.split("\t", self._key + 1)[self._key] for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, str]]:
        return (self.row(i) for i in range(len(self)))

    def row(self, position: int) -> dict[str, str]:
        """Return one row as {column: cell}."""
        return dict(zip(self.columns, self._rows[position].split("\t"), strict=True))

    def digest(self, position: int) -> int:
        """Return a short digest of one row, as `digests` does of all."""
        return next(self.digests([position]))

    def digests(self, positions: Iterable[int] | None = None) -> Iterator[int]:
        """Yield a short digest of each row, whose lower part neither the order of the columns nor the host changes.

        Of an absolute path the last two parts count there, because hosts have the same files in other places; what
        stands before them is in the upper part. See `nbkit.runtime.ledger.rows`.
        """
        order = sorted(range(len(self.columns)), key=self.columns.__getitem__)
        start = zlib.crc32("\t".join(sorted(self.columns)).encode())
        plain = order == list(range(len(order)))
        rows = self._rows if positions is None else (self._rows[position] for position in positions)
        for row in rows:
            if plain and not row.startswith("/") and "\t/" not in row and ":\\" not in row:
                yield zlib.crc32(_bytes(row), start)
                continue
            cells = [row.split("\t")[i] for i in order]
            folders, rest = zip(*map(_apart, cells), strict=True)
            yield joined(zlib.crc32(_bytes("\t".join(folders))), zlib.crc32(_bytes("\t".join(rest)), start))

    def paths(self, key: str) -> list[str]:
        """Return the absolute paths in the row of a key."""
        return [cell for cell in self.row(self.keys.index(key)).values() if _apart(cell)[0] or cell.startswith("/")]

    def shard(self, part: str | None) -> Manifest:
        """Return the rows for one of several parallel sessions, chosen by a hash of the key.

        Rows with the same value in a column `TOGETHER` go to the same session: parts of one file, for example, that
        cost less one after the other.

        Parameters
        ----------
        part : str or None
            Such as ``"2/5"``: the second of five; None for all.
        """
        if part is None:
            return self
        which, count = parse_shard(part)
        of = self.keys
        if TOGETHER in self.columns:
            place = self.columns.index(TOGETHER)
            of = [row.split("\t")[place] or key for row, key in zip(self._rows, self.keys, strict=True)]
        rows = [r for r, k in zip(self._rows, of, strict=True) if shard_of(k, count) == which]
        return Manifest(self.name, self.columns, rows, self.source)


def _apart(cell: str) -> tuple[str, str]:
    """Return the folders of an absolute path that differ among hosts, and the rest of the cell."""
    if not cell.startswith("/") and cell[1:3] != ":\\":
        return "", cell
    *folders, inner, name = ["", *cell.replace("\\", "/").split("/")]
    return "/".join(folders), f"{inner}/{name}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a path may hold bytes that are no UTF-8


def shard_of(key: str, count: int) -> int:
    """Return the number, 1 to `count`, of the parallel session that does an item: a hash of its key."""
    return zlib.crc32(key.encode()) % count + 1


def parse_shard(part: str) -> tuple[int, int]:
    """Return (which, count) of a shard such as ``"2/5"``.

    Raises
    ------
    UsageError
        Unless both are integers with 1 <= which <= count.
    """
    which, slash, count = str(part).partition("/")
    known = slash and all(len(text) <= 4 and text.isascii() and text.isdecimal() for text in (which, count))
    if not (known and 1 <= int(which) <= int(count) <= MOST_SHARDS):
        raise UsageError(
            f"Shard {str(part)[:40]!r} is not valid. Write '2/5' for the second of five sessions, of {MOST_SHARDS} at "
            "most. Nothing was begun."
        )
    return int(which), int(count)


def read_manifest(source: str | Path | Iterable[Mapping[str, object]] | Manifest, name: str = "items") -> Manifest:
    """Read and check a manifest.

    Parameters
    ----------
    source : str, path or rows
        The name of a manifest in ``manifests/``, the path of a ``.tsv`` file, or rows with a ``key``: mappings or a
        data frame.
    name : str
        Slug for rows that have no name.

    Raises
    ------
    UsageError
        If the file is missing, not UTF-8 or holds control characters, the ``key`` column is missing, a row has too few
        or too many cells, or a key is empty, unsafe or repeated. The message has the line's number.
    """
    if isinstance(source, Manifest):
        return source
    if isinstance(source, str | os.PathLike):
        return _read_file(_find(source))
    return _from_rows(source, name)


def manifest_folder() -> Path:
    """Return ``manifests`` in the current folder if it exists, else the one of this checkout or package."""
    here = Path("manifests")
    return here if here.is_dir() else home() / "manifests"


def _find(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if path.suffix != ".tsv":
        path = manifest_folder() / f"{check_slug(os.fspath(source))}.tsv"
    if (what := no_file(path)) is not None:
        known = sorted(p.stem for p in manifest_folder().glob("*.tsv")) if manifest_folder().is_dir() else []
        raise UsageError(
            f"There is no manifest {os.fspath(source)!r} (looked for {path}, which {what}). Allowed: a .tsv file, "
            f"rows, or one of {', '.join(known) or 'none here'}. Nothing was begun."
        )
    return path


def _read_file(path: Path) -> Manifest:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # the error counts from after a byte order mark
        number = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{path}, line {number}: byte {error.object[error.start]:#04x} is not UTF-8. Save the file as UTF-8 and "
            "run again; nothing was begun."
        ) from None
    text = text.replace("\r\n", "\n")
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as old Macs end lines; beside other line ends it would be a guess
    if (odd := _ODD.search(text)) is not None:
        number = text.count("\n", 0, odd.start()) + 1
        raise UsageError(f"{path}, line {number}: holds {_odd_words(odd[0])} Nothing was begun.")
    lines = text.split("\n")
    columns = lines[0].split("\t")
    if "key" not in columns:
        raise UsageError(f"{path}, line 1: the header {lines[0][:80]!r} has no column 'key'. Nothing was begun.")
    if len(set(columns)) != len(columns):
        raise UsageError(f"{path}, line 1: the header {lines[0][:80]!r} has a column twice. Nothing was begun.")
    numbered = [(n, line) for n, line in enumerate(lines[1:], 2) if line and not line.startswith("#")]
    tabs = len(columns) - 1
    for number, line in numbered:
        if line.count("\t") != tabs:
            raise UsageError(
                f"{path}, line {number}: {line.count(chr(9)) + 1} cells where the header has {tabs + 1}. "
                "Nothing was begun. Correct the line and run again."
            )
    manifest = Manifest(check_slug(path.stem), columns, [line for _, line in numbered], str(path))
    _check_keys(manifest, [n for n, _ in numbered], "line")
    return manifest


def _odd_words(odd: str) -> str:
    """Return what to do about a character that no line of a manifest can hold."""
    if odd == "\0":
        return "a NUL, as files do that are no text or UTF-16. Save it as UTF-8 and run again."
    return (
        f"the control character {odd!r}. Lines end in '\\n' or '\\r\\n', or all of them in '\\r'; a cell can hold "
        "neither line ends nor control characters. Remove it and run again."
    )


def _from_rows(rows: Any, name: str) -> Manifest:
    try:
        rows = rows_in(rows)
    except NoTable as error:
        raise UsageError(f"{error} Nothing was begun.") from None
    columns = list(rows[0]) if rows else ["key"]
    if (odd := next((column for column in columns if not isinstance(column, str)), None)) is not None:
        raise UsageError(f"The rows have a column {odd!r}, which is no text. Rename it. Nothing was begun.")
    cells = []
    for number, row in enumerate(rows, 1):
        if "key" not in row or list(row) != columns:
            raise UsageError(
                f"Row {number} has the columns {list(row)}, the first has {columns}. All rows need the same columns, "
                "with 'key' among them. Nothing was begun."
            )
        line = "\t".join(str(row[c]) for c in columns)
        if line.count("\t") != len(columns) - 1 or "\n" in line or "\r" in line:
            raise UsageError(f"Row {number} ({row['key']!r}) has a tab or line end in a cell. Nothing was begun.")
        cells.append(line)
    manifest = Manifest(check_slug(name), columns, cells, f"{len(cells)} rows")
    _check_keys(manifest, range(1, len(cells) + 1), "row")
    return manifest


def _check_keys(manifest: Manifest, numbers: Iterable[int], what: str) -> None:
    seen: dict[str, int] = {}
    for number, key in zip(numbers, manifest.keys, strict=True):
        if seen.setdefault(key, number) != number:
            raise UsageError(
                f"{manifest.source}, {what} {number}: the key {key[:80]!r} is already in {what} {seen[key]}. Each key "
                "must occur once. Nothing was begun."
            )
        try:
            check_name(key, "the key")
        except UsageError as error:
            raise UsageError(f"{manifest.source}, {what} {number}: {error}") from None


def rows_left(rows: Sequence[Mapping[str, str]], path: str | Path | None) -> list[Mapping[str, str]]:
    """Return the rows that a ``{"key": "done"}`` manifest.json of an earlier project does not name as done.

    Parameters
    ----------
    rows : sequence of mapping
        With ``key``.
    path : path or None
        None returns all rows.

    Raises
    ------
    UsageError
        If the file is missing or has another form, or if all rows are done there.
    """
    if path is None:
        return list(rows)
    if not Path(path).is_file():
        raise UsageError(f"There is no file {path}; give the manifest.json of the earlier project, or None.")
    done = read_seed_manifest(Path(path))
    left = [row for row in rows if row["key"] not in done]
    print(f"{path}: {len(rows) - len(left)} of {len(rows)} items are done there and are not done again")
    if not left:
        raise UsageError(f"All {len(rows)} items are done in {path}; there is nothing to do here.")
    return left


def read_seed_manifest(path: Path) -> set[str]:
    """Return the keys that are done in a ``{"key": "done"}`` manifest.json, the form of earlier projects."""
    from nbkit.ground.files import read_json

    try:
        table = read_json(path)
    except (UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path} is not a whole JSON file ({error}); nothing was taken from it.") from None
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise UsageError(f'{path} is not of the form {{"key": "done"}}; nothing was taken from it.')
    return {check_name(key, "the key") for key, state in table.items() if state == "done"}


def write_seed_manifest(path: Path, done: Iterable[str]) -> None:
    """Write done keys as a ``{"key": "done"}`` manifest.json, atomically."""
    from nbkit.ground.files import write_json

    write_json(path, dict.fromkeys(sorted(done), "done"))
