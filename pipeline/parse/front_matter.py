"""The metadata that a Markdown text begins with: YAML between `---`, or TOML between `+++`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.parse.properties import bounded
from pipeline.records import JsonValue

if TYPE_CHECKING:
    from yaml import Event

_YAML = re.compile(r"\A---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(.*?\n)\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL)
_MOST_CHARS = 64_000
_DEEPEST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatter:
    """What was found before the text itself."""

    metadata: dict[str, JsonValue]
    title: str | None
    end: int
    """Where the text itself begins. 0: what is too much for metadata is left in the text too."""


def front_matter(text: str) -> FrontMatter | None:
    """What a text begins with; None where that is none, or is broken: then it is text like any other.

    A `title` is no metadata: it is what the document is called.
    """
    if not text.startswith(("---", "+++")):
        return None
    is_yaml = text[0] == "-"
    block = (_YAML if is_yaml else _TOML).match(text, 0, _MOST_CHARS)
    if block is None:
        return None
    fields = _yaml(block[1]) if is_yaml else _toml(block[1])
    if not fields:
        return None
    title = fields.pop("title", None)
    found = bounded(fields)
    return FrontMatter(
        metadata=found.metadata,
        title=str(title) if isinstance(title, str | int | float) else None,
        end=block.end() if found.whole else 0,
    )


def _toml(block: str) -> dict[str, object] | None:
    try:
        return dict(tomllib.loads(block))
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return None


def _yaml(block: str) -> dict[str, object] | None:
    import yaml  # noqa: PLC0415  15 ms, and most texts have none

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if not _is_harmless(yaml.parse(block, Loader=loader)):
            return None
        fields = yaml.load(block, Loader=loader)  # noqa: S506  it is the safe one
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date such as 2026-13-40
        return None
    return {str(name): value for name, value in fields.items()} if isinstance(fields, dict) else None


def _is_harmless(events: Iterable[Event]) -> bool:
    """Whether there is neither an alias, which may stand for a bomb, nor a tag, nor too deep a nesting."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > _DEEPEST or kind == "AliasEvent" or getattr(event, "tag", None):
            return False
    return True
