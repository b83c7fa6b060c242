"""The way to a value in a row: `author.name`, `tags[0]`, `["a name. with a dot"]`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

_STEP = re.compile(r'(?P<name>[^.\[\]"]+)|\[(?P<number>\d{1,9})\]|\["(?P<quoted>[^"]+)"\]')

Steps: TypeAlias = tuple[str | int, ...]


@cache
def steps(path: str) -> Steps:
    """The names of fields and the places in lists, from the row inwards.

    Raises:
        ValueError: it is no path.
    """
    found: list[str | int] = []
    place = 0
    while place < len(path):
        if found and path[place] == ".":
            place += 1
            named = True
        else:
            named = not found
        step = _STEP.match(path, place)
        if step is None or (step["name"] and not named) or (step["number"] and not found):
            raise ValueError('is no way to a field, as author.name, tags[0] or ["a name. with a dot"]')
        found.append(int(step["number"]) if step["number"] else step["name"] or step["quoted"])
        place = step.end()
    if not found:
        raise ValueError("is empty: name a field, as author.name or tags[0]")
    return tuple(found)


def value_at(row: object, path: str) -> object:
    """The value there; None where the row has no such field."""
    value = row
    for step in steps(path):
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, Mapping) else None
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _checked(path: str) -> str:
    steps(path)
    return path


FieldPath: TypeAlias = Annotated[str, AfterValidator(_checked)]
