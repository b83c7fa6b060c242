"""What a filter says."""

from __future__ import annotations

from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clauses import AllOf, AnyOf, Clause, Declared, InMetadata, Not, Own, Test, every_test
from pipeline.errors import SettingsError
from pipeline.records import Column
from pipeline.stores._column_fields import TYPES
from pipeline.where import LONGEST, names_columns, one_test, parse, parse_all

COLUMNS = [Column(name=f"a_{kind}", type=kind, path=("x",)) for kind in TYPES]


def said(text: str) -> Clause | None:
    return parse(text, COLUMNS)


def test_values_are_of_the_columns_type() -> None:
    texts = [
        "a_text=2024",
        'a_text = "x<y=z"',
        "a_text=''",
        "a_list=true",
        "a_integer>=2024",
        " a_integer < -3 ",
        "a_number<=1.5e3",
        "a_number>7",
        "a_date<2025-01-01",
        "a_date = '2024-02-29'",
        "a_boolean=false",
        "a_integer in (1, 2,3)",
    ]
    found = [next(every_test(clause)) for text in texts if (clause := said(text))]
    assert [(one.place, one.relation, one.values) for one in found] == [
        (Declared("a_text"), "=", ("2024",)),
        (Declared("a_text"), "=", ("x<y=z",)),
        (Declared("a_text"), "=", ("",)),
        (Declared("a_list"), "=", ("true",)),
        (Declared("a_integer"), ">=", (2024,)),
        (Declared("a_integer"), "<", (-3,)),
        (Declared("a_number"), "<=", (1500.0,)),
        (Declared("a_number"), ">", (7,)),
        (Declared("a_date"), "<", (date(2025, 1, 1),)),
        (Declared("a_date"), "=", (date(2024, 2, 29),)),
        (Declared("a_boolean"), "=", (False,)),
        (Declared("a_integer"), "=", (1, 2, 3)),
    ]


def test_what_is_no_column_is_metadata_by_its_path_and_any_name_can_be_quoted() -> None:
    for text, path, value in [
        ("team=people", ("team",), "people"),
        ("n=3", ("n",), 3),
        ("t=true", ("t",), True),
        ('q="3"', ("q",), "3"),
        ("l='[1]'", ("l",), "[1]"),
        ("nan=NaN", ("nan",), "NaN"),
        ("author.name=Ann", ("author", "name"), "Ann"),
        ("metadata.source=x", ("source",), "x"),
        ('metadata."first.name".x=y', ("first.name", "x"), "y"),
        ('"a<b"=c', ("a<b",), "c"),
        ('"a.b" = " y"', ("a.b",), " y"),
        (r'"a_\u0074ext"=x', ("a_text",), "x"),
        ("not=3", ("not",), 3),
    ]:
        assert said(text) == Test(InMetadata(path), "=", (value,)), text


def test_what_every_passage_has_goes_by_its_name() -> None:
    assert said("path = a/b!/c.md") == Test(Own("key"), "=", ("a/b!/c.md",))
    assert said("Type = text/html") == Test(Own("media_type"), "=", ("text/html",))
    assert said("page >= 3") == Test(Own("page"), ">=", (3,))
    assert said("title = 2024") == Test(Own("title"), "=", ("2024",))
    assert said("key ~ '**/*.md'") == Test(Own("key"), "~", ("**/*.md",))
    assert said("url exists") == Test(Own("url"), "exists")


def test_columns_are_only_asked_for_where_a_name_may_be_one() -> None:
    own = ["", "source = handbook", "not (path ~ 'a/**' or title exists) and page >= 2"]
    assert [text for text in own if names_columns(text)] == []
    assert all(parse(text) == said(text) for text in own)
    assert all(map(names_columns, ["year = 1", "source = a or a_list = b", "a_integer >= 2", "= nothing"]))


def test_and_binds_more_than_or_and_not_the_most() -> None:
    a, b, c = (Test(InMetadata((name,)), "=", (1,)) for name in "abc")
    assert said("a=1 or b=1 and not c=1") == AnyOf((a, AllOf((b, Not(c)))))
    assert said("(a=1 OR b=1) AND c=1") == AllOf((AnyOf((a, b)), c))
    assert said("not (a=1 and b=1)") == Not(AllOf((a, b)))
    assert said("a!=1") == Not(a)
    assert said("a not in (1)") == Not(a)
    assert said("path !~ *.md") == Not(Test(Own("key"), "~", ("*.md",)))
    assert said("  ") is None
    assert parse_all(["a=1", "", "b=1"]) == AllOf((a, b))
    assert parse_all([]) is None


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
        ("a_integer ~ 1*", "only text has"),
        ("title > a", "no order"),
        ("page = one", "whole numbers"),
        ("page ~ 1", "have a pattern"),
        ("team ~ a*", "have a pattern"),
        ("path ~ 'a{b'", "not closed"),
        ("path ~ ''", "1 to 500"),
        ("yeer>=2024", "only columns and pages are less or more, and the tables have a_text, a_integer"),
        ("people", "at its end"),
        ("team=people and culture", "A value of several words is quoted"),
        ("team=people culture", "a value of several words is quoted"),
        ("=x", "a name must stand here"),
        ("a=", "a value must stand here"),
        ("a in b", "'(' must stand here"),
        ("a in (b", "')' must stand here"),
        ("(a=b", "')' must stand here"),
        ('"a=x', "not closed"),
        ('""=x', "a name must stand here"),
        ('a="\\q"', "as in JSON"),
        ("a=b; drop table chunks", "quoted"),
        ("not " * 60 + "a=b", "within each other"),
        (" and ".join(["a=b"] * 101), "more than 100 tests"),
        (f"a in ({','.join('b' * 501)})", "at most 500 values"),
        ("a" * (LONGEST + 1), "at most 4,000 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_says_where(given: str, why: str) -> None:
    with pytest.raises(SettingsError) as refused:
        said(given)
    assert why in str(refused.value)


def test_a_test_from_another_language_is_checked_alike() -> None:
    assert one_test("a_date", "<", ["2025-01-01"], COLUMNS) == Test(
        Declared("a_date"), "<", (date(2025, 1, 1),)
    )
    assert one_test("path", "=", ["a", "b"], COLUMNS) == Test(Own("key"), "=", ("a", "b"))
    with pytest.raises(SettingsError, match=r"a_integer: .*whole numbers"):
        one_test("a_integer", "=", ["1"], COLUMNS)
    with pytest.raises(SettingsError, match="empty"):
        one_test("", "=", ["1"], COLUMNS)


@given(st.text(), st.sampled_from(["", "a_text", "a_integer<", '"', "=", "a_date=", "(", "not ", "a in ("]))
def test_no_words_break_it(text: str, before: str) -> None:
    with suppress(SettingsError):
        clause = said(before + text)
        assert clause is None or list(every_test(clause))


@given(st.text(min_size=1), st.text())
def test_a_quoted_text_means_itself_whatever_it_holds(name: str, value: str) -> None:
    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    assert said(f"{quoted(name)} = {quoted(value)}") == Test(InMetadata((name,)), "=", (value,))
