"""The house: which floor may know which, one slug in all its places, names that say something.

Each probe reads the tree it is given, and has a test of its own that it fails on a tree that is wrong.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbkit.tools.phases import Phase, load_phases

BELOW = {"signals": set(), "nn": {"signals"}, "plots": {"signals"}}
BELOW_SYSTEMS = {"signals", "nn", "plots"}
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc", "config", "stuff", "core"}
LONGEST = 500  # lines; most have 100 to 300, and one beyond this holds more than one idea
HEAVY = ("torch", "numpy", "scipy", "lightning", "mne", "matplotlib", "pandas", "papermill", "typer", "IPython")


# -- probes: each gives the faults of a tree -------------------------------------------------------------------------


def modules_imported(path: Path, root: Path) -> Iterator[str]:
    """Give every module that a file imports, in functions too, relative ones resolved."""
    package = list(path.relative_to(root).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def floor_faults(root: Path) -> list[str]:
    """Runtime and neuro never import each other; a system imports signals, nn, plots and itself."""
    faults = []
    for path in sorted((root / "nbkit").rglob("*.py")):
        here = path.relative_to(root / "nbkit").with_suffix("").parts
        for module in set(modules_imported(path, root)):
            there = tuple(module.split("."))[1:] if module.startswith("nbkit.") else ()
            if len(there) < 1 or there[0] not in ("runtime", "neuro") or here[0] not in ("runtime", "neuro"):
                continue
            if there[0] != here[0]:
                faults.append(f"{path.relative_to(root)} imports {module}")
            elif here[0] == "neuro" and len(here) > 2 and len(there) > 1 and there[1] != here[1]:
                if there[1] not in BELOW.get(here[1], BELOW_SYSTEMS):
                    faults.append(f"{path.relative_to(root)} imports {module}")
    return faults


def name_faults(root: Path, files: list[str]) -> list[str]:
    """Every file is named for what it is about, and is not too long for one idea."""
    faults = [name for name in files if name.endswith(".py") and Path(name).stem.strip("_") in EMPTY_NAMES]
    for name in files:
        if name.startswith("nbkit/") and name.endswith(".py"):
            lines = len((root / name).read_text("utf-8").splitlines())
            if lines > LONGEST:
                faults.append(f"{name} has {lines} lines")
    return faults


_ABSOLUTE = re.compile(r"""(?<![\w.:/$~])/(?:home|root|Users|tmp|work|mnt|media|opt|private|var/folders)/[\w.-]+""")
_INDEX = re.compile(r"index-url|find-links|https?://[^\s\"']*/simple\b|files\.pythonhosted|trusted-host", re.IGNORECASE)


def text_faults(root: Path, files: list[str]) -> list[str]:
    """No tracked file names a path of somebody's machine or a package index."""
    faults = []
    for name in files:
        if name == "tests/test_house.py" or not (root / name).is_file():
            continue
        try:
            text = (root / name).read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            for found in (*_ABSOLUTE.findall(line), *_INDEX.findall(line)):
                faults.append(f"{name}:{number} holds {found}")
    return faults


def module_faults(root: Path, files: list[str]) -> list[str]:
    """Every module says in its first line what it is."""
    faults = []
    for name in files:
        if name.startswith("nbkit/") and name.endswith(".py"):
            text = (root / name).read_text("utf-8")
            if text.strip() and not ast.get_docstring(ast.parse(text)):
                faults.append(f"{name} has no docstring")
    return faults


def place_faults(root: Path, phases: tuple[Phase, ...]) -> list[str]:
    """One slug in all its places, and nothing in those places without a phase."""
    faults = []
    for phase in phases:
        if not (root / "notebooks" / phase.notebook).is_file():
            faults.append(f"{phase.slug}: no notebooks/{phase.notebook}")
        faults += _kaggle_faults(root, phase)
        badge = f"notebooks/{phase.notebook}"
        if badge not in (root / "colab/README.md").read_text("utf-8"):
            faults.append(f"{phase.slug}: no badge for {badge} in colab/README.md")
        if phase.module:
            path = Path(*phase.module.split(".")).with_suffix(".py")
            if not (root / path).is_file():
                faults.append(f"{phase.slug}: no {path}")
            test = Path("tests", *path.parts[1:-1], f"test_{path.stem}.py")
            if not (root / test).is_file():
                faults.append(f"{phase.slug}: no {test}")
    notebooks = {phase.notebook for phase in phases}
    manifests = {f"{phase.slug}.tsv" for phase in phases if phase.items}
    folders = {phase.kaggle_folder for phase in phases}
    strays = [path for path in (root / "notebooks").glob("*.ipynb") if path.name not in notebooks]
    strays += [path for path in (root / "manifests").glob("*.tsv") if path.name not in manifests]
    strays += [path for path in (root / "kaggle").iterdir() if path.is_dir() and path.name not in folders]
    return faults + [f"{path.relative_to(root)} has no phase" for path in strays]


def _kaggle_faults(root: Path, phase: Phase) -> Iterator[str]:
    path = root / "kaggle" / phase.kaggle_folder / "kernel-metadata.json"
    if not path.is_file():
        yield f"{phase.slug}: no {path.relative_to(root)}"
        return
    metadata = json.loads(path.read_text("utf-8"))
    slug = f"nbkit-{phase.kaggle_folder}"
    wanted = {
        "code_file": f"../../notebooks/{phase.notebook}", "language": "python", "kernel_type": "notebook",
        "is_private": True, "enable_internet": True, "title": slug.replace("-", " "),
        "machine_shape": "NvidiaTeslaT4" if phase.accelerator == "gpu" else "",
    }  # fmt: skip
    for name, value in wanted.items():
        if metadata.get(name) != value:
            yield f"{path.relative_to(root)}: {name} is {metadata.get(name)!r}, not {value!r}"
    if metadata.get("id", "").rpartition("/")[2] != slug:
        yield f"{path.relative_to(root)}: id {metadata.get('id')!r} does not end in {slug}"


# -- the tree as it is -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(root) -> list[str]:
    """Names of the files that belong to the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [name for name in listed.stdout.splitlines() if (root / name).is_file()]


def test_no_floor_imports_what_it_must_not_know(root):
    assert floor_faults(root) == []


def test_files_are_named_for_one_idea(root, files):
    assert name_faults(root, files) == []


def test_no_file_names_a_path_of_a_machine_or_an_index(root, files):
    assert text_faults(root, files) == []


def test_every_module_says_what_it_is(root, files):
    assert module_faults(root, files) == []


def test_one_slug_in_all_its_places(root):
    assert place_faults(root, load_phases()) == []


def test_import_is_light_and_does_nothing(root, tmp_path):
    code = (
        "import json, random, sys; state = random.getstate(); import nbkit; "
        f"print(json.dumps([[m for m in {HEAVY!r} if m in sys.modules], random.getstate() == state]))"
    )
    command = [sys.executable, "-B", "-c", code]
    environment = {"PYTHONPATH": str(root), "HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], True]
    assert done.stderr == "" and list(tmp_path.iterdir()) == []


def test_the_wheel_brings_the_map_of_phases_and_what_a_push_needs(root):
    import tomllib

    build = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    places = ("manifests", "notebooks", "kaggle")
    assert build["targets"]["wheel"]["force-include"] == {place: f"nbkit/{place}" for place in places}


def test_pins_lie_within_the_ranges_and_are_nothing_but_pins(root):
    import tomllib

    from packaging.requirements import Requirement

    lines = (root / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if not line.startswith("#"))
    known = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [need for extra in project["optional-dependencies"].values() for need in extra]
    for text in project["dependencies"] + [need for need in extras if not need.startswith(project["name"])]:
        need = Requirement(text)
        assert need.specifier.contains(known[need.name.lower().replace("_", "-")]), text


# -- each probe can fail ---------------------------------------------------------------------------------------------


def planted(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nbkit/runtime/x.py", "from nbkit.neuro.signals import eeg"),
        ("nbkit/runtime/x.py", "def f():\n    import nbkit.neuro"),
        ("nbkit/runtime/store/x.py", "from ...neuro import signals"),
        ("nbkit/neuro/signals/x.py", "from nbkit.runtime.errors import UsageError"),
        ("nbkit/neuro/signals/x.py", "from nbkit import runtime"),
        ("nbkit/neuro/jepa/x.py", "from nbkit.neuro.labram import codebook"),
        ("nbkit/neuro/jepa/x.py", "from nbkit.neuro import labram"),
        ("nbkit/neuro/jepa/x.py", "from ..labram.codebook import Codebook"),
        ("nbkit/neuro/signals/x.py", "import nbkit.neuro.nn.attention"),
        ("nbkit/neuro/plots/x.py", "import nbkit.neuro.bandvar.model"),
    ],
)
def test_the_floor_probe_fails_on(tmp_path, name, text):
    assert floor_faults(planted(tmp_path, {name: text}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nbkit/runtime/x.py", "from nbkit.runtime.errors import UsageError"),
        ("nbkit/neuro/jepa/x.py", "from nbkit.neuro.signals import eeg\nimport nbkit.neuro.nn.vq"),
        ("nbkit/neuro/jepa/x.py", "from nbkit.neuro.jepa import y\nfrom .z import Z"),
        ("nbkit/neuro/plots/x.py", "from nbkit.neuro.signals.bands import band_names"),
    ],
)
def test_the_floor_probe_passes(tmp_path, name, text):
    assert floor_faults(planted(tmp_path, {name: text})) == []


def test_the_name_probe_fails_on_empty_names_and_long_files(tmp_path):
    tree = {"nbkit/runtime/utils.py": "", "nbkit/x.py": "a = 1\n" * (LONGEST + 1), "nbkit/y.py": "a = 1\n" * LONGEST}
    faults = name_faults(planted(tmp_path, tree), list(tree))
    assert faults == ["nbkit/runtime/utils.py", f"nbkit/x.py has {LONGEST + 1} lines"]


def test_the_text_probe_fails_on_paths_and_indexes(tmp_path):
    tree = {
        "a.py": 'open("' + "/home/" + 'me/data.edf")',
        "b.txt": "--extra-" + "index-url https://x/y",
        "c.md": "see `/kaggle/working`, https://example.org/home/page and ./tmp/file",
    }
    assert [fault.split(":")[0] for fault in text_faults(planted(tmp_path, tree), list(tree))] == ["a.py", "b.txt"]


def test_the_module_probe_fails_without_docstring(tmp_path):
    tree = {"nbkit/x.py": "a = 1", "nbkit/y.py": '"""Why."""', "nbkit/__init__.py": ""}
    assert module_faults(planted(tmp_path, tree), list(tree)) == ["nbkit/x.py has no docstring"]


def test_the_place_probe_fails_for_each_place(tmp_path):
    phase = Phase("toy_train", 7, "Toy", "nbkit.neuro.toy.train", (), (), "gpu", 1, 1.0, True, (), ())
    metadata = {
        "id": "me/nbkit-toy-train", "title": "nbkit toy train", "code_file": "../../notebooks/07_toy_train.ipynb",
        "language": "python", "kernel_type": "notebook", "is_private": True, "enable_internet": True,
        "machine_shape": "NvidiaTeslaT4",
    }  # fmt: skip
    tree = {
        "notebooks/07_toy_train.ipynb": "{}", "colab/README.md": "notebooks/07_toy_train.ipynb",
        "nbkit/neuro/toy/train.py": "", "tests/neuro/toy/test_train.py": "", "manifests/toy_train.tsv": "key\n",
        "kaggle/toy-train/kernel-metadata.json": json.dumps(metadata),
    }  # fmt: skip
    planted(tmp_path, tree)
    assert place_faults(tmp_path, (phase,)) == []
    for name in tree:
        text = (tmp_path / name).read_text()
        if name.startswith("manifests"):
            continue
        (tmp_path / name).unlink() if name != "colab/README.md" else (tmp_path / name).write_text("")
        assert place_faults(tmp_path, (phase,)), name
        (tmp_path / name).write_text(text)
    for field in metadata:
        planted(tmp_path, {"kaggle/toy-train/kernel-metadata.json": json.dumps(metadata | {field: "x"})})
        assert place_faults(tmp_path, (phase,)), field
    planted(tmp_path, {"kaggle/toy-train/kernel-metadata.json": json.dumps(metadata)})
    for stray in ("notebooks/08_other.ipynb", "kaggle/other/kernel-metadata.json", "manifests/other.tsv"):
        planted(tmp_path, {stray: "{}"})
        assert place_faults(tmp_path, (phase,)), stray
        (tmp_path / stray).unlink()
        if stray.startswith("kaggle"):
            (tmp_path / stray).parent.rmdir()
    assert place_faults(tmp_path, (phase,)) == []
