"""Filters as other APIs have them, as clauses of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.clauses import AllOf, AnyOf, Clause, Declared, InMetadata, Not, Own, Plain, Relation, Test
from pipeline.errors import SettingsError
from pipeline.where import one_test

if TYPE_CHECKING:
    from apps.http.dify import DifyCondition
    from apps.http.openai import Comparison, Compound
    from pipeline.records import Column

DEEPEST = 20
_OPENAI: Mapping[str, Relation] = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_DIFY: Mapping[str, Relation] = {
    ">": ">",
    "≥": ">=",
    "<": "<",
    "≤": "<=",
    "after": ">",
    "before": "<",
    ">=": ">=",
    "<=": "<=",
}


def of_openai(given: Comparison | Compound, columns: Sequence[Column], depth: int = 0) -> Clause:
    """A filter of OpenAI's vector-store search.

    Raises:
        SettingsError: it cannot be put to what its keys mean.
    """
    if depth > DEEPEST:
        raise SettingsError(f"filters: more than {DEEPEST} within each other")
    if hasattr(given, "filters"):
        parts = tuple(of_openai(one, columns, depth + 1) for one in given.filters)
        return AllOf(parts) if given.type == "and" else AnyOf(parts)
    values = given.value if isinstance(given.value, list) else [given.value]
    if given.type in _OPENAI:
        if len(values) != 1:
            raise SettingsError(f"filters: {given.type} takes one value")
        return one_test(given.key, _OPENAI[given.type], values, columns)
    test = one_test(given.key, "=", values, columns)
    return Not(test) if given.type in ("ne", "nin") else test


def of_dify(conditions: Sequence[DifyCondition], operator: str, columns: Sequence[Column]) -> Clause:
    """The conditions of Dify's external knowledge API, at least one.

    Raises:
        SettingsError: one cannot be put to what its names mean, or is none.
    """
    parts = tuple(_dify(one, columns) for one in conditions)
    return AllOf(parts) if operator == "and" else AnyOf(parts)


def _dify(condition: DifyCondition, columns: Sequence[Column]) -> Clause:
    names = [condition.name] if isinstance(condition.name, str) else condition.name
    parts = tuple(_of_name(name, condition, columns) for name in names)
    return parts[0] if len(parts) == 1 else AnyOf(parts)


def _of_name(name: str, condition: DifyCondition, columns: Sequence[Column]) -> Clause:
    operator, values = condition.comparison_operator, _values(condition)
    if operator in ("empty", "null", "not empty", "not null"):
        test = one_test(name, "exists", [], columns)
        return test if operator.startswith("not") else Not(test)
    if not values:
        raise SettingsError(f"metadata_condition: {operator!r} needs a value")
    if operator in _DIFY:
        return one_test(name, _DIFY[operator], values[:1], columns)
    if operator in ("is", "=", "in", "is not", "≠", "!=", "not in"):
        test = one_test(name, "=", values, columns)
        return test if operator in ("is", "=", "in") else Not(test)
    if operator in ("contains", "not contains", "start with", "end with"):
        part = _part(name, operator.removeprefix("not "), values, columns)
        return Not(part) if operator.startswith("not") else part
    raise SettingsError(f"metadata_condition: no operator is called {operator!r}")


def _values(condition: DifyCondition) -> list[Plain]:
    value = condition.value
    if value is None:
        return []
    return [*value] if isinstance(value, list) else [value]


def _part(name: str, operator: str, values: Sequence[Plain], columns: Sequence[Column]) -> Test:
    """Of texts, a part of them; of lists and metadata, one of what stands there."""
    whole = one_test(name, "exists", [], columns)
    kinds = {column.name: column.type for column in columns}
    match whole.place:
        case InMetadata():
            is_text = False
        case Declared(column):
            is_text = kinds[column] == "text"
        case Own():
            is_text = True
    if not is_text:
        if operator != "contains":
            raise SettingsError(f"metadata_condition: {operator!r} is for texts that have a column")
        return one_test(name, "=", values, columns)
    patterns: list[Plain] = []
    for value in values:
        plain = re.sub(r"([*?\[{])", r"[\1]", str(value))
        before = ["", "**"] if operator in ("contains", "end with") else [""]
        after = ["", "**"] if operator in ("contains", "start with") else [""]
        patterns += [f"{one}{plain}{other}" for one in before for other in after]
    return one_test(name, "~", patterns, columns)
