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
from functools import cache
from pathlib import Path

import pytest

from nbkit.tools.commands.new_phase import kaggle_metadata, metadata_path
from nbkit.tools.phases import Phase, load_phases

# what each package of nbkit/neuro may import besides itself; one that is not listed is a system
BELOW = {
    "signals": set(),
    "nn": set(),
    "challenge": {"signals"},
    "plots": {"signals", "challenge"},
    "training": {"signals", "nn", "challenge"},
}
BELOW_SYSTEMS = set(BELOW)
WINGS = {"ground": set(), "runtime": {"ground"}, "neuro": {"ground"}, "tools": {"ground", "runtime"}}
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc", "config", "stuff", "core"}
LONGEST, SHORTEST = 400, 30  # lines; most files have 100 to 300
FULLEST = 16  # files of a folder; more than that are two rooms
HEAVY = ("torch", "numpy", "scipy", "lightning", "mne", "matplotlib", "pandas", "papermill", "typer", "IPython")


# -- probes: each gives the faults of a tree -------------------------------------------------------------------------


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every statement of a module, in functions and blocks too; an import is never inside an expression."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for node in getattr(tree, field, ()):
            yield node
            yield from statements(node)


@cache
def imports(text: str) -> list[ast.Import | ast.ImportFrom]:
    """Return the import statements of a module's text, in functions too; every probe asks for the same texts."""
    if "import" not in text:
        return []
    return [node for node in statements(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]


def modules_imported(path: Path, root: Path) -> Iterator[str]:
    """Yield every module that a file imports, in functions too, relative ones resolved."""
    package = list(path.relative_to(root).with_suffix("").parts[:-1])
    for node in imports(path.read_text("utf-8")):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def floor_faults(root: Path) -> list[str]:
    """Return imports of what a wing or a package of neuro must not know."""
    faults = []
    for path in sorted((root / "nbkit").rglob("*.py")):
        here = path.relative_to(root / "nbkit").with_suffix("").parts
        for module in sorted(set(modules_imported(path, root))):
            there = tuple(module.split("."))[1:] if module.startswith("nbkit.") else ()
            if not there or there[0] not in WINGS or here[0] not in WINGS:
                continue
            if there[0] != here[0]:
                wrong = there[0] not in WINGS[here[0]]
            else:
                inner = here[0] == "neuro" and len(here) > 2 and len(there) > 1 and there[1] != here[1]
                wrong = inner and there[1] not in BELOW.get(here[1], BELOW_SYSTEMS)
            if wrong:
                faults.append(f"{path.relative_to(root)} imports {module}")
    return faults


def room_of(module: str, modules: set[str]) -> str:
    """Return the room that a module lies in.

    A room is a package below one of the wings, with the packages inside it; in nbkit/neuro, where a system has rooms
    of its own, it is the package below the system. A module that lies between rooms is a room by itself.
    """
    parts = module.split(".")
    depth = 4 if parts[1:2] == ["neuro"] else 3
    package = parts if f"{module}.__init__" in modules else parts[:-1]
    return ".".join(package[:depth]) if len(package) >= depth else module


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other (Tarjan's strongly connected components of two or more)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in number:
            visit(node)
    return found


def circle_faults(root: Path) -> list[str]:
    """Return circles of modules and circles of rooms; imports inside functions and for types count, too."""
    paths = {}
    for path in sorted((root / "nbkit").rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        paths[name.removesuffix(".__init__")] = path
    initial = {f"{name}.__init__" for name, path in paths.items() if path.name == "__init__.py"}
    modules = set(paths) | initial
    between_modules: dict[str, set[str]] = {}
    between_rooms: dict[str, set[str]] = {}
    for name, path in paths.items():
        for imported in modules_imported(path, root):
            if imported in paths and imported != name:
                between_modules.setdefault(name, set()).add(imported)
                here, there = (room_of(one, modules) for one in (name, imported))
                if here != there:
                    between_rooms.setdefault(here, set()).add(there)
    # "from package import module" names both; the package's face imports nothing, so it adds no circle
    return [
        f"circle of {kind}: {', '.join(group)}"
        for kind, edges in (("modules", between_modules), ("rooms", between_rooms))
        for group in circles(edges)
    ]


def import_faults(root: Path) -> list[str]:
    """Return imports of our own modules that do not exist, inside functions too; those fail only when they run."""
    modules = {".".join(path.relative_to(root).with_suffix("").parts) for path in (root / "nbkit").rglob("*.py")}
    modules |= {name.removesuffix(".__init__") for name in modules}
    faults = []
    for path in sorted([*(root / "nbkit").rglob("*.py"), *(root / "tests").rglob("*.py")]):
        for node in imports(path.read_text("utf-8")):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                named = [node.module or ""]
            faults += [
                f"{path.relative_to(root)}:{node.lineno} imports {name}"
                for name in named
                if name.partition(".")[0] == "nbkit" and name not in modules
            ]
    return faults


def room_faults(root: Path, files: list[str]) -> list[str]:
    """Return folders of nbkit that hold too many files, and files that are too short to stand alone."""
    modules = [Path(name) for name in files if name.startswith("nbkit/") and name.endswith(".py")]
    modules = [path for path in modules if path.name not in ("__init__.py", "__main__.py")]
    faults = []
    for folder in sorted({path.parent for path in modules}):
        count = sum(path.parent == folder for path in modules)
        if count > FULLEST:
            faults.append(f"{folder} holds {count} files")
    for path in modules:
        lines = len((root / path).read_text("utf-8").splitlines())
        if lines < SHORTEST:
            faults.append(f"{path} has {lines} lines")
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
# put together from pieces, so that this file, which is searched like all others, holds none of what it looks for
_OPTIONS = ["-".join(pieces) for pieces in (("index", "url"), ("find", "links"), ("trusted", "host"))]
_HOSTS = [r"https?://[^\s\"']*/simple\b", r"\.".join(("files", "python")) + "hosted"]
_INDEX = re.compile("|".join(_OPTIONS + _HOSTS), re.IGNORECASE)


def text_faults(root: Path, files: list[str]) -> list[str]:
    """No tracked file names a path of somebody's machine or a package index."""
    faults = []
    for name in files:
        if not (root / name).is_file():
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
    path = metadata_path(phase, root)
    if not path.is_file():
        yield f"{phase.slug}: no {path.relative_to(root)}"
    elif path.read_text("utf-8") != kaggle_metadata(phase, root):
        yield f"{path.relative_to(root)} is not what 'python -m nbkit new --all' writes"


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


def test_every_import_of_our_own_modules_exists(root):
    assert import_faults(root) == []


def test_no_packages_import_each_other_in_a_circle(root):
    assert circle_faults(root) == []


def test_rooms_are_neither_crowded_nor_full_of_scraps(root, files):
    assert room_faults(root, files) == []


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
        ("nbkit/neuro/nn/x.py", "import nbkit.neuro.training.rates"),
        ("nbkit/runtime/x.py", "def f():\n    from nbkit.tools.phases import load_phases"),
        ("nbkit/neuro/jepa/x.py", "from nbkit.tools import phases"),
        ("nbkit/tools/x.py", "from nbkit.neuro.signals import eeg"),
        ("nbkit/ground/x.py", "from nbkit.runtime.errors import UsageError"),
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
        ("nbkit/neuro/jepa/x.py", "from nbkit.ground.home import home\nfrom nbkit.neuro.training.rates import x"),
        ("nbkit/tools/x.py", "from nbkit.runtime.errors import UsageError\nimport nbkit.ground.home"),
    ],
)
def test_the_floor_probe_passes(tmp_path, name, text):
    assert floor_faults(planted(tmp_path, {name: text})) == []


@pytest.mark.parametrize(
    ("tree", "circle"),
    [
        ({"runtime/a.py": "import nbkit.runtime.b", "runtime/b.py": "import nbkit.runtime.a"}, "modules"),
        ({"runtime/a.py": "def f():\n    import nbkit.runtime.b", "runtime/b.py": "import nbkit.runtime.a"}, "modules"),
        (
            {
                "runtime/a/x.py": "from nbkit.runtime.b.x import X",
                "runtime/b/x.py": "",
                "runtime/b/y.py": "if TYPE_CHECKING:\n    from nbkit.runtime.a.y import Y",
                "runtime/a/y.py": "",
            },
            "rooms",
        ),
        ({"neuro/toy/a/x.py": "import nbkit.neuro.toy.b.y", "neuro/toy/b/x.py": "import nbkit.neuro.toy.a.y"}
         | {"neuro/toy/a/y.py": "", "neuro/toy/b/y.py": ""}, "rooms"),
    ],
)  # fmt: skip
def test_the_circle_probe_fails_on(tmp_path, tree, circle):
    faults = circle_faults(planted(tmp_path, {f"nbkit/{name}": text for name, text in tree.items()}))
    assert faults and faults[0].startswith(f"circle of {circle}")


def test_the_circle_probe_passes_where_a_package_opens_a_room_inside_it(tmp_path):
    tree = {
        "nbkit/runtime/store/opening.py": "import nbkit.runtime.store.drive.store",
        "nbkit/runtime/store/drive/store.py": "import nbkit.runtime.store.protocol",
        "nbkit/runtime/store/protocol.py": "import nbkit.runtime.errors",
        "nbkit/runtime/errors.py": "",
        "nbkit/runtime/session.py": "import nbkit.runtime.store.opening",
    }
    assert circle_faults(planted(tmp_path, tree)) == []


def test_the_import_probe_fails_on_modules_that_are_gone(tmp_path):
    tree = {
        "nbkit/a.py": "def f():\n    from nbkit.gone import X",
        "nbkit/b/__init__.py": "",
        "tests/test_a.py": "import nbkit.a\nimport nbkit.b.gone\nfrom nbkit.b import c",
    }
    assert import_faults(planted(tmp_path, tree)) == [
        "nbkit/a.py:2 imports nbkit.gone",
        "tests/test_a.py:2 imports nbkit.b.gone",
    ]


def test_the_room_probe_fails_on_crowded_folders_and_scraps(tmp_path):
    tree = {f"nbkit/x/f{number}.py": "a = 1\n" * SHORTEST for number in range(FULLEST + 1)}
    tree["nbkit/y/__init__.py"] = ""
    tree["nbkit/y/scrap.py"] = "a = 1\n" * (SHORTEST - 1)
    faults = room_faults(planted(tmp_path, tree), list(tree))
    assert faults == [f"nbkit/x holds {FULLEST + 1} files", f"nbkit/y/scrap.py has {SHORTEST - 1} lines"]


def test_the_name_probe_fails_on_empty_names_and_long_files(tmp_path):
    tree = {"nbkit/runtime/utils.py": "", "nbkit/x.py": "a = 1\n" * (LONGEST + 1), "nbkit/y.py": "a = 1\n" * LONGEST}
    faults = name_faults(planted(tmp_path, tree), list(tree))
    assert faults == ["nbkit/runtime/utils.py", f"nbkit/x.py has {LONGEST + 1} lines"]


def test_the_text_probe_fails_on_paths_and_indexes(tmp_path):
    tree = {
        "a.py": 'open("' + "/home/" + 'me/data.edf")',
        "b.txt": "--extra-" + "index" + "-url https://x/y",
        "c.md": "see `/kaggle/working`, https://example.org/home/page and ./tmp/file",
        "d.txt": "https://mirror.example.org" + "/" + "simple/torch",
        "e.txt": "https://files" + "." + "python" + "hosted" + ".org/packages/x",
        "f.txt": "--trusted" + "-" + "host mirror --find" + "-" + "links wheels",
    }
    faults = text_faults(planted(tmp_path, tree), list(tree))
    assert [fault.split(":")[0] for fault in faults] == ["a.py", "b.txt", "d.txt", "e.txt", "f.txt", "f.txt"]


def test_the_text_probe_reads_this_file_too(root, tmp_path):
    text = Path(__file__).read_text("utf-8") + "# --extra-" + "index" + "-url x\n"
    assert text_faults(planted(tmp_path, {"tests/test_house.py": text}), ["tests/test_house.py"])


def test_the_module_probe_fails_without_docstring(tmp_path):
    tree = {"nbkit/x.py": "a = 1", "nbkit/y.py": '"""Why."""', "nbkit/__init__.py": ""}
    assert module_faults(planted(tmp_path, tree), list(tree)) == ["nbkit/x.py has no docstring"]


def test_the_place_probe_fails_for_each_place(tmp_path):
    phase = Phase("toy_train", 7, "Toy", "nbkit.neuro.toy.train", (), (), "gpu", 1, 1.0, True, (), ())
    metadata = json.loads(kaggle_metadata(phase, tmp_path))
    tree = {
        "notebooks/07_toy_train.ipynb": "{}", "colab/README.md": "notebooks/07_toy_train.ipynb",
        "nbkit/neuro/toy/train.py": "", "tests/neuro/toy/test_train.py": "", "manifests/toy_train.tsv": "key\n",
        "kaggle/toy-train/kernel-metadata.json": kaggle_metadata(phase, tmp_path),
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
    for field in (field for field in metadata if not field.endswith("_sources")):
        planted(tmp_path, {"kaggle/toy-train/kernel-metadata.json": json.dumps(metadata | {field: "x"}, indent=2)})
        assert place_faults(tmp_path, (phase,)), field
    attached = json.dumps(metadata | {"dataset_sources": ["someone/recordings"]}, indent=2) + "\n"
    planted(tmp_path, {"kaggle/toy-train/kernel-metadata.json": attached})
    assert place_faults(tmp_path, (phase,)) == []
    for stray in ("notebooks/08_other.ipynb", "kaggle/other/kernel-metadata.json", "manifests/other.tsv"):
        planted(tmp_path, {stray: "{}"})
        assert place_faults(tmp_path, (phase,)), stray
        (tmp_path / stray).unlink()
        if stray.startswith("kaggle"):
            (tmp_path / stray).parent.rmdir()
    assert place_faults(tmp_path, (phase,)) == []
