"""Expressions of literals: the same value as Python's own, or a refusal, and never a machine without memory."""

from __future__ import annotations

import ast
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.tools.literals import evaluate

LITERALS = st.one_of(
    st.integers(-99, 99), st.floats(-9, 9), st.text(max_size=3), st.booleans(), st.none(), st.binary(max_size=2)
).map(repr)


def _grown(inner):
    operators = st.sampled_from("+ - * / // % ** << >> | & ^".split())
    return st.one_of(
        st.tuples(inner, operators, inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(st.sampled_from(["-", "+", "~", "not "]), inner).map(lambda parts: f"({''.join(parts)})"),
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(inner, max_size=3).map(lambda parts: f"({''.join(part + ', ' for part in parts)})"),
        inner.map(lambda part: f"{{'k': {part}}}"),
    )


@given(st.recursive(LITERALS, _grown, max_leaves=6))
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_any_expression_has_pythons_value_or_is_refused(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        node = ast.parse(text, mode="eval").body
        try:
            found = evaluate(node, text)
        except ValueError:
            return
        assert repr(found) == repr(eval(text))


@pytest.mark.parametrize(
    "text", ["9**9**9", "9.0**9**9", "'a' * 10**12", "[0] * 10**12", "1 << 99999999", "-" * 3000 + "1"]
)
def test_a_huge_value_is_refused_at_once(text):
    with pytest.raises((ValueError, RecursionError, MemoryError)):
        evaluate(ast.parse(text, mode="eval").body, text)


@pytest.mark.parametrize("text", ["a", "a.b", "f()", "f'{1}'", "[*(1, 2)]", "lambda: 1", "1 if True else 2", "1 < 2"])
def test_what_is_more_than_literals_is_refused_with_the_text(text):
    with pytest.raises(ValueError, match="is not an expression of literals only"):
        evaluate(ast.parse(text, mode="eval").body, text)
