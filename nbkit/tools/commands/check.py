"""Check of this machine: what it is, what is wrong with it, and how to correct each fault.

The findings are independent: a check that fails does not stop the others. Only a probe file is written, into the store,
and it is deleted again.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from nbkit.ground.extras import requirements
from nbkit.ground.files import sha256_of
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.hosts import Host, detect
from nbkit.runtime.requirements import TESTED
from nbkit.runtime.store.address import hide, show
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.words import counted
from nbkit.tools.phases import load_phases
from nbkit.tools.table import text_table

_LITTLE, _TOO_LITTLE = 5e9, 1e9  # bytes of free disk


@dataclass(frozen=True)
class Finding:
    """One finding about this machine.

    Attributes
    ----------
    what : str
    state : str
        ``ok``, ``note`` (something to know) or ``fault`` (something to correct).
    found : str
        What was found.
    do : str
        What to do about it.
    """

    what: str
    state: str
    found: str
    do: str = ""

    def row(self) -> dict[str, str]:
        """Return it as plain values."""
        return asdict(self)


def check_all(store: str | None = None) -> list[Finding]:
    """Return the findings of all checks.

    Parameters
    ----------
    store : str or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``.
    """
    host = detect()
    there = [*check_drive(store), check_store(store), *check_kaggle()]
    return [check_host(host), *check_packages(), check_device(), *there, check_disk(host.folder)]


def check_host(host: Host) -> Finding:
    """Return the host and its Python version, and whether each of its processes starts slowly."""
    found = f"{host.name}: {host.words}; Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.dont_write_bytecode:
        do = "unset it: each process that imports torch compiles it anew, which takes up to a minute"
        return Finding("host", "note", f"{found}; PYTHONDONTWRITEBYTECODE is set", do)
    return Finding("host", "ok", found)


def check_packages(needs: list[str] | None = None) -> list[Finding]:
    """Return which required packages are installed, and how to get those that are missing or not supported."""
    from packaging.requirements import Requirement

    there, missing, old, untested = [], [], [], []
    for need in map(Requirement, requirements() if needs is None else needs):
        if need.marker is not None:
            continue  # of an extra
        try:
            version = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(str(need))
            continue
        there.append(f"{need.name} {version}")
        if need.specifier.contains(version, prereleases=True):
            continue
        if need.name in TESTED:
            untested.append((need, version))
        else:
            old.append(f"{need} ({version} is here)")
    findings = [Finding("packages", "ok", ", ".join(there))]
    if missing:
        quoted = " ".join(f"'{need}'" for need in missing)
        install = f"{sys.executable} -m pip install {quoted}"
        findings.append(Finding("packages", "fault", f"missing: {', '.join(missing)}", install))
    for need, version in untested:
        found = f"{need.name} {version} is outside of the tested range {need}: session.fit refuses to train with it"
        findings.append(Finding("packages", "fault", found, f"{sys.executable} -m pip install '{need}'"))
    if old:
        words = "works untried; a newer one replaces what the host brings, so try first"
        findings.append(Finding("packages", "note", f"outside of the known range: {', '.join(old)}", words))
    return findings


def check_device() -> Finding:
    """Return the device for training and its precision; runs one kernel on a GPU."""
    from nbkit.runtime.device import choose_device

    try:
        device = choose_device("any")
    except UsageError as error:
        return Finding("device", "fault", str(error), "choose another accelerator, or a torch with its kernels")
    except (ImportError, OSError) as error:
        install = f"{sys.executable} -m pip install torch"
        return Finding("device", "fault", f"torch cannot be imported: {error}", install)
    if device.accelerator == "cpu":
        do = "phases that need a GPU refuse to start here; SMOKE = True and accelerator='cpu' run them on the CPU"
        return Finding("device", "note", f"no GPU; {device}", do)
    return Finding("device", "ok", f"{device}; one kernel ran")


def check_store(store: str | None = None) -> Finding:
    """Write a probe file to the store, read it back and delete it."""
    address = store_address(store)
    name = f"check/{uuid.uuid4().hex}"
    try:
        opened = open_store(address)
        with tempfile.TemporaryDirectory(prefix="nbkit-check-") as folder:
            sent, back = Path(folder, "sent"), Path(folder, "back")
            sent.write_bytes(uuid.uuid4().bytes * 64)
            opened.put(sent, name)
            try:
                opened.get(name, back, sha256_of(sent))
            finally:
                opened.delete(name)
                getattr(opened, "settle", lambda: None)()  # a store whose deletions wait makes them now
            if opened.stat(name) is not None:
                do = "give a store where you may delete files"
                return Finding("store", "fault", f"{show(address)} does not delete", do)
    except (NbkitError, OSError) as error:
        do = "give another with --store, or the variable NBKIT_STORE: a folder that you may write to, or a URL"
        return Finding("store", "fault", f"{show(address)}: {hide(str(error), address)}", do)
    return Finding("store", "ok", f"{show(address)}: a probe was written, read back and deleted")


def check_drive(store: str | None = None) -> list[Finding]:
    """Return whether there is a Drive credential and how full that Drive is; empty where the store is no Drive."""
    from nbkit.runtime.store.drive.credential import find_credential

    address = store_address(store)
    if not address.startswith("gdrive://"):
        return []
    try:
        find_credential()
        used, total = open_store(address).space()
    except (NbkitError, OSError) as error:
        return [Finding("drive", "fault", str(error), "python -m nbkit login drive, on a machine with a browser")]
    space = f"{used / 1e9:.1f} of {total / 1e9:.1f} GB used" if total else f"{used / 1e9:.1f} GB used, no limit"
    full = total and used > 0.95 * total
    return [Finding("drive", "fault" if full else "ok", space, "free some space, or buy some" if full else "")]


def check_kaggle() -> list[Finding]:
    """Return what is left of Kaggle's quota; empty where this machine has no Kaggle credential."""
    from nbkit.tools.kaggle.client import connect, has_credentials
    from nbkit.tools.kaggle.quota import read_quota

    if not has_credentials():
        return []
    try:
        return [Finding("kaggle", "ok", read_quota(connect(tries=2)).words().replace("\n", "; "))]
    except (NbkitError, OSError) as error:
        return [Finding("kaggle", "fault", str(error), "make a new token on Kaggle's settings page if it is refused")]


def check_disk(folder: Path) -> Finding:
    """Return how much disk is free where sessions keep their files."""
    existing = Path(os.path.realpath(folder))
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    state = "fault" if free < _TOO_LITTLE else "note" if free < _LITTLE else "ok"
    do = "" if state == "ok" else "free some space, or use another folder: checkpoints need three times their size"
    return Finding("disk", state, f"{free / 1e9:.1f} GB free for sessions in {existing}", do)


def memory_rows() -> list[dict[str, str]]:
    """Return what each training phase needs of a GPU's memory at its free preset, as findings without a state."""
    rows = []
    for phase in load_phases():
        if phase.gpu_gb:
            found = f"{phase.slug}: {phase.gpu_gb:.1f} GB in {counted(phase.gpu_pieces, 'piece')}"
            rows.append(Finding("memory", "note", found).row())
        for model in phase.gpu_models:
            name, _, gb = model.rpartition(" ")
            rows.append(Finding("memory", "note", f"{phase.slug} {name}: {gb} GB in 1 piece").row())
    return rows


def memory_words(rows: list[dict[str, str]]) -> str:
    """Return these needs as a table, with what they are below it."""
    cells = []
    for row in rows:
        slug, _, rest = row["found"].partition(": ")
        gb, _, pieces = rest.partition(" GB in ")
        cells.append((slug, gb, pieces.split(" ")[0]))
    table = text_table(cells, ("training at the free preset", "GB", "pieces"), numbers=(1, 2))
    return (
        f"{table}\nWeights, optimizer and the tensors of one step, estimated without a card for the largest form of "
        "attention.\nA card with 16 GB has room for 14. A batch in pieces is still one step; session.fit measures on "
        "the card how many it needs."
    )


def words(findings: list[Finding]) -> str:
    """Return the findings as a table, each with what to do below it, and the number of faults."""
    rows = []
    for finding in findings:
        rows.append((finding.state, f"{finding.what}: {finding.found}"))
        rows += [("", f"-> {finding.do}")] if finding.do else []
    faults = sum(finding.state == "fault" for finding in findings)
    return f"{text_table(rows)}\n{counted(faults, 'fault') if faults else 'no faults'}"
