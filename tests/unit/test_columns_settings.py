"""What the settings may say of columns, and what is said of what they may not."""

from __future__ import annotations

import json

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from config import schema
from config.columns import ColumnSettings, columns_of
from pipeline.records import Column
from tests.settings_text import SOURCES, Load, complaints


def declared(load: Load, text: str) -> tuple[Column, ...]:
    return columns_of(load(f"columns: {text}\n{SOURCES}").columns)


def test_a_type_alone_means_the_value_of_that_name(load: Load) -> None:
    assert declared(load, "{team: text, year: integer}") == (
        Column(name="team", type="text", path=("team",)),
        Column(name="year", type="integer", path=("year",)),
    )
    assert declared(load, "{}") == ()
    assert columns_of(load(SOURCES).columns) == ()


def test_the_long_form_says_where_the_value_stands_and_whether_it_has_an_index(load: Load) -> None:
    made = declared(
        load,
        """
  author: {type: text, from: author.name, index: false}
  born: {type: date, from: [author, 'date of birth', a.b]}
  tags: {type: list}""",
    )
    assert [(column.name, column.type, column.path, column.indexed) for column in made] == [
        ("author", "text", ("author", "name"), False),
        ("born", "date", ("author", "date of birth", "a.b"), True),
        ("tags", "list", ("tags",), True),
    ]


def test_everything_that_is_wrong_is_said_with_what_would_be_valid(load: Load) -> None:
    text = f"""\
columns:
  a: interger
  b: {{type: nummber}}
  c: 5
  d:
  e: {{type: text, form: x}}
  f: {{from: x}}
  g: {{type: text, from: a..b}}
  h: {{type: text, from: 5}}
  i: {{type: text, from: []}}
  j: {{type: text, index: maybe}}
{SOURCES}"""
    types = "text, integer, number, date, boolean, list"
    names = "must be names with single dots between them, as author.name, or a list of names"
    alone = "must be a type, as `year: integer`, or a mapping that has one, as `{type: integer}`"
    assert complaints(load, text) == [
        f"2:6: columns.a: is unknown; valid: {types}; did you mean 'integer'? (found: interger)",
        f"3:13: columns.b.type: is unknown; valid: {types}; did you mean 'number'? (found: nummber)",
        f"4:6: columns.c: {alone} (found: 5)",
        f"5:5: columns.d: {alone}; nothing is written there: give it a value, or delete the line",
        "6:19: columns.e.form: is an unknown key; valid: type, from, index; did you mean 'from'?",
        f"7:3: columns.f.type: is missing. {ColumnSettings.model_fields['type'].description}",
        f"8:25: columns.g.from: {names} (found: a..b)",
        f"9:25: columns.h.from: {names} (found: 5)",
        f"10:25: columns.i.from: {names}",
        "11:26: columns.j.index: must be true or false (found: maybe)",
    ]


@pytest.mark.parametrize(
    "name", ["Year", "_distance", "1st", "é", "'a b'", "a.b", "''", "x" * 64, '"x`; --"']
)
def test_a_name_that_sql_would_not_take_as_it_is_is_refused(load: Load, name: str) -> None:
    [said] = complaints(load, f"columns:\n  {name}: text\n{SOURCES}")
    assert said.startswith("2:3: columns.")
    assert "a column's name is made of a-z, 0-9 and _" in said


@pytest.mark.parametrize("name", ["text", "key", "vector", "metadata", "updated_at", "group_keys"])
def test_a_name_that_the_tables_have_anyway_is_refused(load: Load, name: str) -> None:
    [said] = complaints(load, f"columns:\n  {name}: text\n{SOURCES}")
    assert said.startswith(
        f"2:3: columns.{name}: is a column that the tables have anyway: choose another name"
    )


def test_editors_know_both_forms_and_which_names_are_taken() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema.schema()))
    sources = "sources: {a: {type: files, path: x}}\n"
    for fine in ("{a: text}", "{a: {type: date}}", "{a: {type: list, from: [b, c.d], index: false}}"):
        assert validator.is_valid(yaml.safe_load(f"{sources}columns: {fine}")), fine
    for wrong in ("{a: txt}", "{a: {}}", "{text: text}", "{A: text}", "{a: {type: text, form: b}}", "[a]"):
        assert not validator.is_valid(yaml.safe_load(f"{sources}columns: {wrong}")), wrong
