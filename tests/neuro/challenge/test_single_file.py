"""One file out of many: it runs by itself, and gives what its modules give."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
import torch

from nbkit.neuro.challenge.single_file import SingleFile
from tests.neuro.challenge.toy_network import Toy

TOY = "tests.neuro.challenge.toy_network"


def of_toys(*allowed, **values) -> SingleFile:
    return SingleFile(allowed, values, ours=("tests",))


def test_the_file_gives_what_the_modules_give(tmp_path):
    file = of_toys("torch")
    assert file.add(TOY, "Toy") == "Toy"
    text = file.text("A toy.")
    (tmp_path / "toy.py").write_text(text)
    weights, windows = Toy(4).state_dict(), torch.randn(3, 4, 10)
    torch.save({"weights": weights, "windows": windows}, tmp_path / "given.pt")
    code = (
        "import torch; from toy import Toy; given = torch.load('given.pt', weights_only=True); toy = Toy(4); "
        "toy.load_state_dict(given['weights']); torch.save(toy(given['windows']), 'out.pt')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PYTHONPATH": "", "PATH": ""})
    toy = Toy(4)
    toy.load_state_dict(weights)
    torch.testing.assert_close(torch.load(tmp_path / "out.pt", weights_only=True), toy(windows))


def test_it_holds_what_is_needed_once_and_nothing_else():
    file = of_toys("torch")
    file.add(TOY, "Toy")
    file.add(TOY, "Toy")
    text = file.text("A toy.")
    tree = ast.parse(text)
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert sorted(names) == ["Scale", "Sizes", "Toy", "half", "shift"]  # not Newer, not Unknown
    constants = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)}
    assert sorted(constants.values()) == [0.25, 1.0] and len(constants) == 2  # two modules' _EPS, under two names
    assert "tests" not in text and "nobody" not in text and "The mean of each channel, weighted." in text


def test_a_value_can_be_another():
    file = of_toys("torch", _EPS="1 + 1")
    file.add("tests.neuro.challenge.toy_parts", "shift")
    assert "_EPS = 1 + 1" in file.text("A toy.")


def test_what_cannot_be_written_is_refused():
    with pytest.raises(ValueError, match="imports lightning in a function; the file may import torch alone"):
        of_toys("torch").add(TOY, "Unknown")
    unless_there = SingleFile(("torch",), ours=("tests",), optional=("lightning",))
    assert unless_there.add(TOY, "Unknown") == "Unknown" and "import lightning" in unless_there.text("A toy.")
    with pytest.raises(ValueError, match="needs torch"):
        of_toys().add(TOY, "Toy")
    with pytest.raises(ValueError, match="defines no Toys; it defines .*Toy"):
        of_toys("torch").add(TOY, "Toys")
    with pytest.raises(ValueError, match="There is no module"):
        of_toys("torch").add(TOY + "s", "Toy")
