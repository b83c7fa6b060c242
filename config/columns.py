"""Which values of the documents' metadata have a column of their own in the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from connectors.settings import StrictModel
from pipeline.records import Column, ColumnType
from pipeline.stores._columns import NAME, OURS

TYPES: tuple[ColumnType, ...] = get_args(ColumnType)


def _also_a_type_alone(made: dict[str, JsonValue]) -> None:
    """For editors: `year: integer` says as much as `year: {type: integer}`."""
    whole = dict(made)
    made.clear()
    made["anyOf"] = [{"type": "string", "enum": [*TYPES]}, whole]


def _path(given: object) -> list[str]:
    names = given.split(".") if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("must be names with single dots between them, as author.name, or a list of names")
    return names


_Path: TypeAlias = Annotated[list[str], BeforeValidator(_path, json_schema_input_type=str | list[str])]


class ColumnSettings(StrictModel):
    """A column, in full."""

    model_config = ConfigDict(json_schema_extra=_also_a_type_alone)

    type: ColumnType = Field(
        description="text; integer: whole numbers; number; date: as 2024-12-31; boolean: true or false; "
        "list: of texts. What does not fit leaves the column empty."
    )
    from_: _Path = Field(
        default=[],
        alias="from",
        description="Where the value stands in the metadata, if not under the column's own name: author.name "
        "is `name` within `author`. A list where a name has a dot in it: [author, first.name].",
    )
    index: bool = Field(
        default=True,
        description="Whether a large table gets an index of it, for searches with --where.",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        """`year: integer` is short for `year: {type: integer}`."""
        if isinstance(value, Mapping):
            return value
        if value in TYPES:
            return {"type": value}
        if isinstance(value, str):
            raise PydanticCustomError("unknown_name", "is unknown", {"given": str(value), "known": [*TYPES]})
        raise PydanticCustomError(
            "column", "must be a type, as `year: integer`, or a mapping that has one, as `{type: integer}`"
        )


def _column_name(name: str) -> str:
    if name in OURS:
        raise ValueError(
            f"is a column that the tables have anyway: choose another name, and say `from: {name}` if need be"
        )
    if not NAME.fullmatch(name):
        raise ValueError(
            "a column's name is made of a-z, 0-9 and _, begins with a letter, and has at most 63 of them. "
            "`from` says how the metadata calls it"
        )
    return name


ColumnName: TypeAlias = Annotated[str, AfterValidator(_column_name)]
Columns: TypeAlias = dict[ColumnName, ColumnSettings]


def columns_of(settings: Mapping[str, ColumnSettings]) -> tuple[Column, ...]:
    """The columns that these settings declare."""
    return tuple(
        Column(name=name, type=one.type, path=tuple(one.from_) or (name,), indexed=one.index)
        for name, one in settings.items()
    )
