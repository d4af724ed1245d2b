"""The likeliest cause, from what the objects held before the batch where a session resumed."""

from __future__ import annotations

import pytest

from nbkit.runtime.training.proving.causes import REMEDIES, Cause, lost_at_resume, not_repeatable, of_hashes
from nbkit.runtime.training.proving.compare import Difference
from nbkit.runtime.training.proving.held import WORKERS

CLUES = [["clock", "time", "here", "data"], ["entropy", "uuid4", "there", "module"], ["hash", "a set", "in f", "data"]]
HOOK = ["epoch start", "share rate", "Net.on_train_epoch_start", "module"]
HOOKS = ("module.share", "callback Rate.rate")
GENERATOR = "random generator #"


def differing(name: str) -> Difference:
    return Difference(4, 1, 2, name, "1", "2", (1, 2))


@pytest.mark.parametrize(
    ("name", "on_gpu", "clues", "kind"),
    [
        ("batch[0]", True, CLUES[:1], "clock"),
        ("weight a", False, CLUES, "entropy"),
        ("weight a", True, CLUES, "entropy"),
        ("weight a", True, CLUES[:1], "kernels"),  # the clock is in the data, and the batches were equal
        ("weight a", True, [], "kernels"),
        ("weight a", False, [], "not repeatable"),
    ],
)
def test_equal_batches_that_give_other_weights_on_a_gpu_are_its_kernels(name, on_gpu, clues, kind):
    assert not_repeatable(differing(name), clues, on_gpu).kind == kind


def test_other_hashes_point_to_sets():
    assert of_hashes(CLUES) == Cause("hash", ("a set in in f",))


LOST = [  # what differs, in one go and after the resume; the first name that differs; the cause and what it names
    ({"module.k": ("7", "0")}, "weight a", "module", "module.k"),
    ({"callback Average.n": ("7", "0")}, "optimizer 0 group 0.lr", "callback", "callback Average.n"),
    ({"optimizer 0.warm": ("7", "0")}, "weight a", "optimizer", "optimizer 0.warm"),
    ({"module-level COUNT": ("7", "0")}, "result of training_step.loss", "process", "module-level COUNT"),
    ({"class attribute Net.seen": ("7", "0")}, "weight a", "process", "class attribute Net.seen"),
    ({"environment variable STEP": ("7", "")}, "weight a", "environment", "environment variable STEP"),
    ({"data.rows.n": ("7", "0")}, "batch[0]", "data", "data.rows.n"),
    ({"data.rows.rng": (GENERATOR + "1", GENERATOR + "2")}, "batch[0]", "generator in the data", "data.rows.rng"),
    ({"module.rng": (GENERATOR + "1", GENERATOR + "2")}, "weight a", "generator", "module.rng"),
    ({"module-level RNG": (GENERATOR + "1", GENERATOR + "2")}, "batch", "generator", "module-level RNG"),
    # of several, what reaches the batch where the batch differs, and what belongs to the module where it does not
    ({"module.k": ("7", "0"), "data.rows.n": ("7", "0")}, "batch[0]", "data", "data.rows.n"),
    ({"module.k": ("7", "0"), "data.rows.n": ("7", "0")}, "weight a", "module", "module.k"),
    ({"module.share": ("0.5", "0.1")}, "weight a", "epoch start", "Net.on_train_epoch_start"),
    ({}, "modules in training mode", "epoch start", "modules in training mode"),
    ({}, "weight a", "epoch start", "Net.on_train_epoch_start"),
    ({"environment variable TMPDIR": ("a", "b")}, "buffer b", "epoch start", "Net.on_train_epoch_start"),
]


@pytest.mark.parametrize(("lost", "name", "kind", "named"), LOST)
def test_what_is_lost_at_a_resume_is_named(lost, name, kind, named):
    same = {"module.width": "8", "data.rows.size": "32", WORKERS: "0"}
    whole = same | {path: values[0] for path, values in lost.items()}
    resumed = same | {path: values[1] for path, values in lost.items()}
    cause = lost_at_resume(differing(name), whole, resumed, same, [HOOK])
    assert cause.kind == kind and named in cause.where, cause


FILE = ["file", "open", "Net.training_step", "module"]


@pytest.mark.parametrize(
    ("held", "kind"), [({}, "epoch start"), ({"module.share": "1"}, "epoch start"), (dict.fromkeys(HOOKS, "1"), "file")]
)
def test_a_hook_comes_before_a_file_unless_all_that_it_sets_is_the_same(held, kind):
    assert lost_at_resume(differing("weight a"), held, held, held, [FILE, HOOK]).kind == kind


@pytest.mark.parametrize(
    ("name", "workers", "clues", "kind"),
    [
        ("batch", "2", [], "workers"),
        ("batch", "0", [], "unknown"),
        ("weight a", "2", [], "unknown"),
        ("weight a", "0", [["file", "open", "f", "module"]], "file"),
    ],
)
def test_where_nothing_that_can_be_looked_at_is_lost(name, workers, clues, kind):
    assert lost_at_resume(differing(name), {WORKERS: workers}, {WORKERS: workers}, {}, clues).kind == kind


def test_what_changed_while_it_was_trained_comes_first():
    whole, resumed = {"module.zz": "7", "module.a": "1"}, {"module.zz": "0", "module.a": "2"}
    assert lost_at_resume(differing("weight"), whole, resumed, {"module.a": "1"}, []).where == ("module.zz", "module.a")


@pytest.mark.parametrize("kind", REMEDIES)
def test_every_cause_has_words_and_a_remedy(kind):
    words = Cause(kind, ("at this place",)).words()
    assert words.startswith("The likeliest cause is ") and "(at this place). " in words and words.endswith(".")
