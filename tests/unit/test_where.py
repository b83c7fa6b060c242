"""What --where says."""

from __future__ import annotations

from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.where import where_clause
from pipeline.errors import SettingsError
from pipeline.records import Column, Condition, Filter
from pipeline.stores._column_fields import TYPES

COLUMNS = [Column(name=f"a_{kind}", type=kind, path=("x",)) for kind in TYPES]


def conditions(*given: str) -> list[tuple[str, str, object]]:
    found = where_clause([], given, COLUMNS)
    assert not found.metadata
    return [(one.column, one.comparison, one.value) for one in found.conditions]


def test_values_are_of_the_columns_type() -> None:
    assert conditions(
        "a_text=2024",
        'a_text="2024"',
        "a_text = x<y=z",
        "a_text=",
        "a_list=true",
        "a_integer>=2024",
        " a_integer < -3 ",
        "a_number<=1.5e3",
        "a_number>7",
        "a_date<2025-01-01",
        "a_date = 2024-02-29",
        "a_boolean=false",
    ) == [
        ("a_text", "=", "2024"),
        ("a_text", "=", "2024"),
        ("a_text", "=", " x<y=z"),
        ("a_text", "=", ""),
        ("a_list", "=", "true"),
        ("a_integer", ">=", 2024),
        ("a_integer", "<", -3),
        ("a_number", "<=", 1500.0),
        ("a_number", ">", 7),
        ("a_date", "<", date(2025, 1, 1)),
        ("a_date", "=", date(2024, 2, 29)),
        ("a_boolean", "=", False),
    ]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("a_integer=soon", "whole numbers"),
        ("a_integer=1.5", "whole numbers"),
        ("a_integer=9223372036854775808", "64 bits"),
        ('a_integer="1"', "whole numbers"),
        ("a_number=NaN", "numbers"),
        ("a_number<1e999", "numbers"),
        ("a_date=2024-02-30", "days"),
        ("a_date>=soon", "days"),
        ("a_boolean=yes", "true or false"),
        ("a_text<b", "has no order"),
        ("a_list>=b", "has no order"),
        ("yeer>=2024", "only columns are less or more than something, and the tables have a_text, a_integer"),
        ("yeer<2024", "only columns are less or more"),
        ("people", "must be KEY=VALUE"),
        ("=x", "must be KEY=VALUE"),
        ('"a=x', "as in JSON"),
        ('"a"', 'must be "KEY"=VALUE'),
        ('""=x', 'must be "KEY"=VALUE'),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_was_given(given: str, why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        where_clause([], [given], COLUMNS)
    assert str(refused.value).startswith(f"--where {given}: ")
    assert why in str(refused.value)


def test_what_is_no_column_is_metadata_and_any_name_can_be_quoted() -> None:
    given = ["team=people", "n=3", "a<b=c", '"year>"=2024', r'"a_\u0074ext"="x"', '"=" = y']
    found = where_clause(["notes"], given, COLUMNS)
    assert found == Filter(
        sources=("notes",),
        metadata={"team": "people", "n": 3, "a<b": "c", "year>": 2024, "a_text": "x", "=": " y"},
    )
    both = where_clause([], ["a_text=x", "other=y"], COLUMNS)
    assert both.metadata == {"other": "y"}
    assert both.conditions == (Condition(column="a_text", comparison="=", value="x"),)


@given(st.text(), st.sampled_from(["", "a_text", "a_integer<", '"', "=", "a_date="]))
def test_no_words_break_it(text: str, before: str) -> None:
    with suppress(SettingsError):
        found = where_clause([], [before + text], COLUMNS)
        assert len(found.metadata) + len(found.conditions) == 1
