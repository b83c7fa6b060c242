"""The columns of several tables: which there are, and which a question to all of them may name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pipeline.clauses import Clause, Declared, every_test
from pipeline.errors import SettingsError
from pipeline.records import Column


def declared_in(clause: Clause | None) -> set[str]:
    """The columns that a filter names."""
    tests = every_test(clause) if clause is not None else ()
    return {test.place.name for test in tests if isinstance(test.place, Declared)}


def check_columns(tables: Mapping[str, Sequence[Column]], names: Collection[str]) -> None:
    """Refuse a filter by a column that not all tables have, or not of the same type.

    Args:
        tables: The columns that each has that is asked, by name.
        names: Those that the filter names, which was read with the columns of all of them.

    Raises:
        SettingsError: says which tables lack it.
    """
    for column in sorted(names):
        types = {name: one.type for name, columns in tables.items() for one in columns if one.name == column}
        if lacking := [name for name in tables if name not in types]:
            raise SettingsError(
                f"{column} is a column of {', '.join(types) or 'none of the tables that are asked'}, and not "
                f"of {', '.join(lacking)}: declare it under `columns:` there too, name sources of the tables "
                f"that have it, or compare metadata.{column} by =, which needs no column"
            )
        if len(set(types.values())) > 1:
            told = ", ".join(f"{kind} in {name}" for name, kind in types.items())
            raise SettingsError(f"the column {column} is not of one type: it is {told}")


def all_columns(tables: Sequence[Sequence[Column]]) -> list[Column]:
    """The columns that any of the tables has, each name once."""
    found: dict[str, Column] = {}
    for columns in tables:
        for column in columns:
            found.setdefault(column.name, column)
    return list(found.values())
