"""Names of outputs: each item's arrays and files have names that no other item's outputs have.

Item ``a`` keeps its arrays in ``a.npz`` and its files in the folder ``a/``. All of a manifest is checked before the
work begins; names of files are known only when an item saves them and are checked then. Two names count as one where
some file system or store takes them for one: by case, or by the way in which Unicode writes an accent. What is done
already stays as it is: only names that are still to be written are refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, filterfalse

from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.ledger.manifest import Manifest
from nbkit.runtime.names import DEVICE, check_name, is_device
from nbkit.runtime.words import counted

ARRAYS = ".npz"
_SHORT = 40  # characters of a key that are at most 160 bytes
_SHOWN = 3  # pairs of names in a message


def arrays_name(slug: str, key: str) -> str:
    """Return the name of the file that holds an item's arrays."""
    return f"{slug}/items/{key}{ARRAYS}"


def file_name(slug: str, key: str, name: str) -> str:
    """Return the name in the store of a file that an item made.

    Raises
    ------
    UsageError
        If it cannot be a file's name everywhere.
    """
    if is_device(name):
        raise UsageError(f"The output {name!r} of item {key} {_RESERVED}. Rename it. The item is not recorded.")
    return check_name(f"{slug}/items/{key}/{name}", "the output")


_RESERVED = "is a name that Windows keeps for a device"


def folded(names: Sequence[str]) -> list[str]:
    """Return names such that two are equal where some file system or store takes them for one."""
    text = "\n".join(names)  # no name holds a line end
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    return text.split("\n") if names else []


class OutputNames:
    """The names of the outputs of all items of a phase.

    Parameters
    ----------
    slug : str
    keys : list of str
        Of a whole manifest, and of items that were done before.
    """

    def __init__(self, slug: str, keys: Sequence[str] = ()) -> None:
        self.slug, self._keys = slug, keys

    @cached_property
    def _owners(self) -> dict[str, str]:
        return dict(zip(folded(self._keys), self._keys, strict=True))

    @cached_property
    def _folders(self) -> dict[str, str]:
        """Folders that hold other items' outputs, and an item of each."""
        return {folder: key for one, key in self._owners.items() for folder in _above(one)}

    def refuse_taken(self, key: str, names: Iterable[str]) -> None:
        """Refuse names of an item's files that belong to another item, or to two of the files.

        Raises
        ------
        UsageError
        """
        seen: dict[str, str] = {}
        for name in names:
            path = folded([f"{key}/{name}"])[0]
            if path in seen:
                twice = f"two files called {name}" if seen[path] == name else f"the files {seen[path]} and {name}"
                raise UsageError(
                    f"Item {key} has {twice}; the second would replace the first{_where(seen[path], name)}. Rename "
                    "one. The item is not recorded."
                )
            seen[path] = name
            owner = self._owners.get(path.removesuffix(ARRAYS)) if path.endswith(ARRAYS) else None
            what = "the arrays"
            if owner is None:
                owner, what = self._owners.get(path) or self._folders.get(path), "a folder with the outputs"
            if owner is not None:
                raise UsageError(
                    f"Item {key} has a file {name}, whose name in the store, {self.slug}/items/{key}/{name}, is that "
                    f"of {what} of item {owner}. Rename the file. Nothing was overwritten; the item is not recorded."
                )


def check_names(manifest: Manifest, ledger: Ledger) -> OutputNames:
    """Return the names of a phase's outputs, after checking that no two items share one.

    Parameters
    ----------
    manifest : Manifest
        The whole one: parallel sessions write to the same store.
    ledger : Ledger
        Items that are done stay as they are.

    Raises
    ------
    UsageError
        If a name cannot be written on every system, or is that of two items.
    """
    slug, keys, done = ledger.slug, manifest.keys, ledger.state.done
    known = set(keys)
    others = list(filterfalse(known.__contains__, chain(done, ledger.here)))
    names = OutputNames(slug, keys + others if others else keys)
    forms = folded(keys)
    wrong = [(key, words) for key, words in _unwritable(slug, keys, forms) if not ledger.is_done(key)]
    if wrong:
        key, words = wrong[0]
        more = f", and {counted(len(wrong) - 1, 'other key')} like it" if len(wrong) > 1 else ""
        raise UsageError(f"{manifest.source}: the key {key!r} {words}{more}. Rename it; nothing was begun.")
    forms += folded(others)
    pairs = [*_of_one_form(names, forms), *_in_a_file(names, forms), *_in_a_saved_file(names, forms, ledger)]
    pairs = [pair for pair in pairs if not all(map(ledger.is_done, pair[:2])) and not known.isdisjoint(pair[:2])]
    if pairs:
        shown = "; ".join(f"{one!r} and {other!r} ({why})" for one, other, why in pairs[:_SHOWN])
        more = f", and {counted(len(pairs) - _SHOWN, 'other pair')}" if len(pairs) > _SHOWN else ""
        raise UsageError(
            f"{manifest.source}: items would write over each other's outputs: {shown}{more}. Rename one of each; "
            "nothing was begun."
        )
    return names


def _unwritable(slug: str, keys: Sequence[str], forms: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield keys whose outputs cannot be written on every system, and why."""
    if max(map(len, keys), default=0) > _SHORT:
        for key in keys:
            if len(key) > _SHORT:
                try:
                    check_name(arrays_name(slug, key))
                except UsageError:
                    size = len(key.encode())
                    yield key, f"has {size} bytes, too many for the name of its output, which ends in {ARRAYS!r}"
    text = f"/{'/'.join(forms)}/"
    # a key that is a device's name is rare: one search through all of them is quick
    if DEVICE.search(text):
        for key in keys:
            if is_device(key):
                yield key, _RESERVED


Pair = tuple[str, str, str]


def _of_one_form(names: OutputNames, forms: Sequence[str]) -> Iterator[Pair]:
    """Yield pairs of keys that are one name on some systems."""
    if len(set(forms)) == len(forms):
        return
    seen: dict[str, str] = {}
    for form, key in zip(forms, names._keys, strict=True):
        if form in seen:
            yield seen[form], key, _where(seen[form], key).removeprefix(" where ") or "one name"
        seen.setdefault(form, key)


def _in_a_file(names: OutputNames, forms: Sequence[str]) -> Iterator[Pair]:
    """Yield pairs where one key is a folder whose name the other's file of arrays has: ``a`` and ``a.npz``."""
    mark = f"{ARRAYS}/"
    if mark not in f"{'/'.join(forms)}/":
        return
    for form, key in zip(forms, names._keys, strict=True):
        for folder in (*_above(form), form):
            if folder.endswith(ARRAYS) and (owner := names._owners.get(folder.removesuffix(ARRAYS))) is not None:
                yield owner, key, f"the folder {folder}/ of the second is the file of the first's arrays"


def _in_a_saved_file(names: OutputNames, forms: Sequence[str], ledger: Ledger) -> Iterator[Pair]:
    """Yield pairs where an item above the other saved a file under the other's name before."""
    done = ledger.state.done
    if not done and not ledger.here:
        return
    parents = {form.rpartition("/")[0] for form in forms}
    both = parents.union(*map(_above, parents)).intersection(forms)
    above = {folder: names._owners[folder] for folder in both}
    saved = {folder: set(folded(_outputs(ledger, owner))) for folder, owner in above.items()}
    saved = {folder: found for folder, found in saved.items() if found}
    if not saved:
        return
    for form, key in zip(forms, names._keys, strict=True):
        for folder in _above(form):
            if folder not in saved:
                continue
            places = [f"{names.slug}/items/{place}" for place in (*_above(form), form, form + ARRAYS)]
            taken = saved[folder].intersection(places) - {f"{names.slug}/items/{folder}{ARRAYS}"}
            if taken:
                yield above[folder], key, f"the first has saved a file as {min(taken)}"


def _outputs(ledger: Ledger, key: str) -> list[str]:
    """Return the names of the outputs of an item that is done."""
    stored = [str(output[0]) for output in ledger.state.done.get(key, ())]
    return stored or [output.name for output in ledger.outputs(key)]


def _above(path: str) -> Iterator[str]:
    """Yield the folders that a path lies in."""
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


def _where(one: str, other: str) -> str:
    """Return where two different names of one form are one name."""
    if one == other:
        return ""
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return " where accents may be written in two ways"
    return " where case makes no difference"
