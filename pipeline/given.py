"""What a connector gave, looked over first: what cannot be kept costs one document, and not the run."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import ItemUnreadable
from pipeline.records import LABEL_RULE, RawDocument, is_label

DEEPEST = 100
"""How far metadata may be nested. JSON's readers give up at some hundreds, each elsewhere."""
LONGEST_NUMBER = 10**1_000
"""Python refuses to write numbers of more than 4,300 digits."""


def check_given(raw: RawDocument) -> None:
    """The item's names and metadata can be written, compared and read again.

    Raises:
        ItemUnreadable: they cannot.
    """
    where = f"{raw.ref.source}/{_shown(raw.ref.key)}"
    for name, text in (("key", raw.ref.key), ("version", raw.ref.version), ("media type", raw.media_type)):
        if _shown(text) != text:
            raise ItemUnreadable(f"{where}: its {name} holds half a character (a lone surrogate)")
    if raw.access and not all(map(is_label, raw.access)):
        raise ItemUnreadable(f"{where}: one of its access labels is none: {LABEL_RULE}")
    here: list[object] = [raw.metadata]
    for _ in range(DEEPEST):
        here = [inner for value in here for inner in _inside(value, where)]
        if not here:
            return
    raise ItemUnreadable(f"{where}: its metadata is nested more than {DEEPEST} deep")


def _inside(value: object, where: str) -> list[object]:
    """What a value of the metadata holds."""
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ItemUnreadable(f"{where}: its metadata has a name that is no text: JSON knows no other")
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, int) and not -LONGEST_NUMBER < value < LONGEST_NUMBER:
        raise ItemUnreadable(f"{where}: its metadata has a number of more than 1,000 digits")
    if value is None or isinstance(value, str | int | float):
        return []
    raise ItemUnreadable(f"{where}: its metadata has a {type(value).__name__}, which JSON does not know")


def _shown(text: str) -> str:
    """The text as it can be shown and kept."""
    return text.encode("utf-8", "backslashreplace").decode()
