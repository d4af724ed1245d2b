"""Parameters: what is read from a notebook's cell, what text becomes, and what a pushed cell says afterwards."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.runtime.errors import UsageError
from nbkit.tools.parameters import (
    check_parameters,
    notebook_parameters,
    parse_parameters,
    refuse_fixed,
    refuse_options,
    replace_values,
    typed,
)

FORMS = (
    "{name} = {value}",
    "{name}: {kind} = {value}",
    "{name}:{kind}|None={value} # c",
    "{name} = (\n  {value}\n)  # c",
)
VALUES = {
    "int": ["3", "-1", "2 * 60", "10 ** 3", "1_000", "7 // 2", "~0", "1 << 4"],
    "float": ["1e-3", "-0.5", "1 / 4", "2 * 1e-4"],
    "str": ["'x'", '"9" + "h"', '"a" "b"', "'ab' * 2", "'运动 # no comment'", '"""two\nlines"""'],
    "bool": ["True", "not True"],
    "list": ["[1, 2]", "['a'] * 3", "[-1, 2 * 3]"],
    "tuple": ['("a", "b")', "(1,)", "1, 2"],
    "dict": ['{"a": 1 + 1}', "{}"],
}
CASES = [(form, kind, value) for form in FORMS for kind in VALUES for value in VALUES[kind]]
NEW = {"int": 41, "float": 0.125, "str": "2024", "bool": True, "list": [5, "é"], "tuple": [5], "dict": {"b": None}}


def ran(source):
    names = {}
    exec(source, names)
    return names["A"]


@pytest.mark.parametrize(("form", "kind", "value"), CASES)
def test_every_form_of_an_assignment_is_read_as_python_reads_it(make_notebook, form, kind, value):
    source = form.format(name="A", kind=kind, value=value) + "\nB = 1"
    path = make_notebook(source)
    known = notebook_parameters(path)
    assert known == {"A": ran(source), "B": 1} and type(known["A"]) is type(ran(source))
    text = NEW[kind] if kind == "str" else json.dumps(NEW[kind])
    checked = check_parameters(path, known, parse_parameters([f"A={text}"]))
    assert checked == {"A": NEW[kind]} and type(checked["A"]) is type(NEW[kind])
    pushed = replace_values(source, checked)
    assert ran(pushed) == NEW[kind]
    assert pushed.count("# c") == source.count("# c") and pushed.endswith("\nB = 1")


def test_parameters_are_those_of_the_tagged_cell(make_notebook):
    path = make_notebook("'About.'\nimport os\nA = 1  # steps\nB = (1.5, 2)\nC = None\nSMOKE = False", "D = 4")
    assert notebook_parameters(path) == {"A": 1, "B": (1.5, 2), "C": None, "SMOKE": False}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("A = print(1)", "it needs print"),
        ("HOURS = 9\nA = HOURS * 60", "'A = HOURS * 60' is not an expression of literals only: it needs HOURS"),
        ("A = f'{1}'", "is not an expression of literals"),
        ("A = [n for n in (1, 2)]", "is not an expression of literals"),
        ("A = {**{}}", "is not an expression of literals"),
        ("A = 1 / 0", "cannot be computed: division by zero"),
        ("A = '9' + 3", "cannot be computed"),
        ("A = 10 ** 10 ** 10", "too large"),
        ("A = 'x' * 10 ** 9", "too long"),
        ("A = '%999999999d' % 1", "formats a text"),
        ("A, B = 1, 2", "one name per line"),
        ("A: int", "line 1, 'A: int', is not of the form NAME = VALUE"),
        ("A = 1\nA += 1", "line 2, 'A += 1'"),
        ("if True:\n    A = 1", "not of the form"),
        ("A = 1\n%env B=1", "line 2, '%env B=1', is not Python (invalid syntax). Move it to a cell of its own"),
        ("A = ", "line 1, 'A =', is not Python"),
    ],
)
def test_what_cannot_be_read_without_running_it_is_refused_with_its_line(make_notebook, source, words):
    with pytest.raises(UsageError) as caught:
        notebook_parameters(make_notebook(source))
    assert words in str(caught.value) and str(caught.value).endswith("Nothing was begun.")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"STEP": 3}, "Did you mean 'STEPS'"),
        ({"STEPS": "many"}, "STEPS is 'many' (str), but must be int, as the notebook's own value 300"),
        ({"STEPS": 2.5}, "STEPS is 2.5 (float)"),
        ({"SMOKE": 1}, "SMOKE is 1 (int)"),
        ({"RATE": float("nan")}, "RATE is nan (float), but must be float"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_begins(tmp_path, given, words):
    known = {"STEPS": 300, "RATE": 0.1, "RUNS": [3, 4], "PATH": None, "SMOKE": False}
    with pytest.raises(UsageError) as caught:
        check_parameters(tmp_path / "x.ipynb", known, given)
    assert words in str(caught.value)


def test_numbers_and_sequences_are_taken_as_the_notebook_has_them(tmp_path):
    known = {"RATE": 0.1, "RUNS": (3, 4), "PATH": None}
    taken = check_parameters(tmp_path / "x.ipynb", known, {"RATE": 1, "RUNS": [5], "PATH": "there"})
    assert taken == {"RATE": 1.0, "RUNS": [5], "PATH": "there"} and isinstance(taken["RATE"], float)


OWN = {"str": "x", "int": 3, "float": 0.5, "bool": False, "none": None, "list": [1], "dict": {}}
NO = object()  # refused
MEANINGS = {  # what a text means for a parameter that has the value of each kind in OWN
    "2024": ["2024", 2024, 2024.0, NO, 2024, NO, NO],
    "0012": ["0012", NO, NO, NO, "0012", NO, NO],
    "1e3": ["1e3", 1000, 1000.0, NO, 1000.0, NO, NO],
    "2 * 60": ["2 * 60", 120, 120.0, NO, "2 * 60", NO, NO],
    "2024-1": ["2024-1", 2023, 2023.0, NO, "2024-1", NO, NO],
    "true": ["true", NO, NO, True, True, NO, NO],
    "FALSE": ["FALSE", NO, NO, False, "FALSE", NO, NO],
    "1": ["1", 1, 1.0, NO, 1, NO, NO],
    "2.5": ["2.5", NO, 2.5, NO, 2.5, NO, NO],
    "NaN": ["NaN", NO, NO, NO, "NaN", NO, NO],
    '"7"': ["7", NO, NO, NO, "7", NO, NO],
    "null": [None] * 7,
    "[1, 2]": ["[1, 2]", NO, NO, NO, [1, 2], [1, 2], NO],
    "('a', 'b')": ["('a', 'b')", NO, NO, NO, "('a', 'b')", ["a", "b"], NO],
    '{"a": 1}': ['{"a": 1}', NO, NO, NO, {"a": 1}, NO, {"a": 1}],
    "": ["", NO, NO, NO, "", NO, NO],
    "a=b": ["a=b", NO, NO, NO, "a=b", NO, NO],
}


@pytest.mark.parametrize(("text", "meant"), MEANINGS.items())
def test_text_takes_the_type_of_the_notebooks_own_value(tmp_path, text, meant):
    for (kind, own), wanted in zip(OWN.items(), meant, strict=True):
        given = parse_parameters([f"A={text}"])
        if wanted is NO:
            with pytest.raises(UsageError, match="A is .* but must be"):
                check_parameters(tmp_path / "x.ipynb", {"A": own}, given)
        else:
            taken = check_parameters(tmp_path / "x.ipynb", {"A": own}, given)["A"]
            assert taken == wanted and type(taken) is type(wanted), kind


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200)
def test_a_text_parameter_gets_any_text_and_a_push_writes_it_as_python(text):
    value = json.dumps(text)  # as a rehearsal passes it on
    taken = check_parameters("x.ipynb", {"A": "own"}, parse_parameters([f"A={value}"]))
    assert taken == {"A": text}
    assert ran(replace_values("A = 'own'  # é", taken)) == text


PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
)
NESTED = st.recursive(
    PLAIN | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(PLAIN, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(NESTED, max_size=3) | st.lists(NESTED, max_size=3).map(tuple) | st.dictionaries(PLAIN, NESTED))
@settings(max_examples=200)
def test_a_nested_value_is_the_same_in_a_run_a_rehearsal_and_a_push(value):
    own = type(value)()
    text = next(name for name in parse_parameters([f"A={value!r}"]).values())
    taken = check_parameters("x.ipynb", {"A": own}, {"A": text})
    assert repr(taken["A"]) == repr(value)
    again = check_parameters("x.ipynb", {"A": own}, parse_parameters([f"A={typed(taken['A'])}"]))
    assert repr(again) == repr(taken)
    assert repr(ran(replace_values(f"A = {own!r}", taken))) == repr(value)


@pytest.mark.parametrize("text", ["{3, 4}", "b'a'", "2j", "-0.0", '"é"'])
def test_every_kind_of_literal_is_the_same_in_a_run_a_rehearsal_and_a_push(tmp_path, text):
    value = eval(text)
    taken = check_parameters(tmp_path / "x.ipynb", {"A": value}, parse_parameters([f"A={text}"]))
    again = check_parameters(tmp_path / "x.ipynb", {"A": value}, parse_parameters([f"A={typed(taken['A'])}"]))
    assert repr(taken) == repr(again) == repr({"A": value})


@pytest.mark.parametrize(
    "value",
    ["[1e999]", "{'a': (1e999,)}", "[{1} - {1}]", "[...]", "[" * 250 + "]" * 250, [float("nan")], [{1: object()}]],
)
def test_what_no_cell_can_say_is_refused_in_words_wherever_it_stands(tmp_path, value):
    given = parse_parameters([f"A={value}"]) if isinstance(value, str) else {"A": value}
    own = {} if str(value).startswith("{") else []
    with pytest.raises(UsageError, match=r"A is .*Allowed are texts, finite numbers.*Nothing was begun\.$"):
        check_parameters(tmp_path / "x.ipynb", {"A": own}, given)


def test_a_path_is_taken_as_its_text(tmp_path):
    for own in (None, "here"):
        assert check_parameters(tmp_path / "x.ipynb", {"A": own}, {"A": tmp_path}) == {"A": str(tmp_path)}


@pytest.mark.parametrize(
    ("annotation", "taken"),
    [
        ("str", "2024"), ("'str'", "2024"), ("str | None", "2024"), ("None | str", "2024"), ("Optional[str]", "2024"),
        ("typing.Optional[str]", "2024"), ("int", 2024), ("float | None", 2024.0), ("Path", "2024"),
        ("str | int", 2024),
        ("os.PathLike[str]", "2024"), ("Path | None", "2024"), ("Annotated[str, 'a path']", "2024"), ("Unknown", 2024),
        ("Annotated[float, 'Hz']", 2024.0), ("Literal['a', 'b']", "2024"), ("Union[None, float]", 2024.0),
        ("Final[Optional[str]]", "2024"), ("int | Unknown", 2024), ("list | float", 2024.0), ("float | int", 2024),
    ],
)  # fmt: skip
def test_an_annotation_says_the_type_of_a_parameter_without_a_value(make_notebook, annotation, taken):
    path = make_notebook(f"A: {annotation} = None")
    found = check_parameters(path, notebook_parameters(path), parse_parameters(["A=2024"]))["A"]
    assert found == taken and type(found) is type(taken)


@pytest.mark.parametrize(
    ("source", "text", "taken"),
    [
        ("int | float = 1", "0.5", 0.5), ("int | float = 1", "2", 2), ("float | int = 1", "0.5", 0.5),
        ("Union[int, str] = 3", "abc", "abc"), ("Union[int, str] = 3", "4", 4), ("str | int = 'a'", "3", "3"),
        ("Annotated[float, 'Hz'] = 1", "0.5", 0.5), ("float | str = 1", "0.5", 0.5), ("float | str = 1", "all", "all"),
        ("bool | str = False", "true", True), ("bool | str = False", "auto", "auto"),
        ("str | int = None", "2-1", "2-1"),
        ("str | list = None", "['a', ('b',)]", ["a", ("b",)]), ("int | float = None", "2.0", 2.0),
        ("int | float = None", "2 * 3", 6), ("'int | float' = 1", "0.5", 0.5), ("Path = 'a'", "2024", "2024"),
        ("str = 3", "4", 4), ("int | float = 1", "many", NO), ("int | None = 1", "0.5", NO),
        ("Optional[Union[int, bool]] = None", "x", NO),
    ],
)  # fmt: skip
def test_an_annotation_of_several_types_allows_each_of_them(make_notebook, source, text, taken):
    path = make_notebook(f"A: {source}")
    known = notebook_parameters(path)
    if taken is NO:
        with pytest.raises(
            UsageError, match=r"A is '(many|0.5|x)' \(text\), but must be (int|int or (float|bool)), as"
        ):
            check_parameters(path, known, parse_parameters([f"A={text}"]))
        return
    found = check_parameters(path, known, parse_parameters([f"A={text}"]))["A"]
    again = check_parameters(path, known, parse_parameters([f"A={typed(found)}"]))["A"]
    assert repr(found) == repr(again) == repr(taken)
    assert repr(check_parameters(path, known, {"A": found})["A"]) == repr(taken)


CALL = "s = nbkit.open_session('toy', store={}, limit={})"
IN_VAIN = {
    "a literal": ("X = 1", CALL.format("'own'", "None")),
    "a limit": ("X = 1", CALL.format("None", "9 * 3600")),
    "by position": ("X = 1", "open_session('toy', 'own')"),
    "a path": ("X = 1", CALL.format("Path('own')", "None")),
    "in another cell": (
        "X = 1",
        "%pwd\nHERE: str = 'own'",
        "with " + CALL.format("HERE", "None")[4:] + " as s:\n    pass",
    ),
    "set again": ("STORE = None", "STORE = 'own'", CALL.format("STORE", "None")),
}
HEEDED = {
    "parameters": ("STORE = 'own'\nLIMIT = '9h'", CALL.format("STORE", "LIMIT")),
    "nothing": ("X = 1", "nbkit.open_session('toy')"),
    "none": ("X = 1", "HERE = None\n" + CALL.format("HERE", "None")),
    "computed": ("X = 1", "import os\nHERE = os.environ['NBKIT_STORE']\n" + CALL.format("HERE", "None")),
    "perhaps": ("STORE = None", "if not STORE:\n    STORE = 'own'", CALL.format("STORE", "None")),
    "the same": ("X = 1", CALL.format("'given'", "'30s'")),
    "no Python": ("X = 1", "%%bash\nopen_session('toy', 'own')"),
}


@pytest.mark.parametrize("cells", IN_VAIN.values(), ids=IN_VAIN)
def test_a_store_or_limit_that_would_have_no_effect_is_refused(make_notebook, cells):
    words = r"cell \d opens its session with (store='own', so --store given|limit='32400', so --limit 30s) would"
    with pytest.raises(UsageError, match=words):
        refuse_fixed(make_notebook(*cells), {"store": ("--store", "given"), "limit": ("--limit", "30s")})
    refuse_fixed(make_notebook(*cells), {"store": ("--store", None), "limit": ("--limit", None)})


@pytest.mark.parametrize("cells", HEEDED.values(), ids=HEEDED)
def test_a_store_or_limit_that_may_have_an_effect_is_taken(make_notebook, cells):
    refuse_fixed(make_notebook(*cells), {"store": ("--store", "given"), "limit": ("--limit", "30s")})


def test_a_number_that_is_annotated_as_float_takes_fractions(make_notebook):
    path = make_notebook("RATE: float = 1")
    assert check_parameters(path, notebook_parameters(path), parse_parameters(["RATE=0.5"])) == {"RATE": 0.5}


def test_names_that_share_one_value_are_replaced_one_by_one():
    assert replace_values("A = B = 3\nC = 1", {"B": 4}) == "A = B = 3\nC = 1\nB = 4"


@pytest.mark.parametrize("text", ["A", "=3", "A B=3", "3=A"])
def test_what_is_not_name_and_value_is_refused(text):
    with pytest.raises(UsageError, match="not NAME=VALUE"):
        parse_parameters([text])


def test_a_parameter_given_twice_or_in_broken_unicode_is_refused():
    with pytest.raises(UsageError, match="-p A is given twice: '1' and '2'"):
        parse_parameters(["A=1", "A=2"])
    with pytest.raises(UsageError, match="not valid Unicode"):
        parse_parameters(["A=\udcff"])


def test_what_an_option_sets_is_no_parameter():
    with pytest.raises(UsageError, match="-p LIMIT=9h: give it as --session"):
        refuse_options({"LIMIT": "9h"}, {"STORE": "--store", "LIMIT": "--session"})
    refuse_options({"A": 1}, {"STORE": "--store"})
