"""What a row is as a document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from connectors.plain import plain
from connectors.rows.field_paths import value_at
from connectors.rows.settings import RowsSettings
from pipeline.errors import ItemUnreadable
from pipeline.records import ItemRef, JsonValue, RawDocument

BROKEN = "broken-row:"
"""Begins the version of a row that is listed only so that it is reported; then comes why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Makes items and documents of a source's rows."""

    source: str
    settings: RowsSettings

    def listed(self, row: object, place: str) -> ItemRef:
        """The row as an item. Where it lacks what an item must have, its key is the place."""
        if not isinstance(row, Mapping):
            return self.broken(place, "is no object with fields")
        parts = [plain(value_at(row, path)) for path in self.settings.keys]
        if any(part is None or isinstance(part, list | dict) or part == "" for part in parts):
            return self.broken(place, f"has no {' or '.join(self.settings.keys)}")
        version = self._version(row)
        if version is None:
            return self.broken(place, f"has no {self.settings.version_field}")
        return ItemRef(source=self.source, key="/".join(map(_text, parts)), version=version)

    def broken(self, place: str, reason: str) -> ItemRef:
        """An item that is listed to be reported: the row at this place cannot be read."""
        return ItemRef(source=self.source, key=place, version=BROKEN + reason)

    def document(self, ref: ItemRef, row: Mapping[str, object]) -> RawDocument:
        """The row that was listed as this item.

        Raises:
            ItemUnreadable: it is too large.
        """
        chosen = self.settings
        content = _content(value_at(row, chosen.text_field))
        if len(content) > chosen.max_bytes:
            raise ItemUnreadable(
                f"{ref.key} has {len(content):,} bytes, more than sources.{self.source}.max_bytes: "
                f"{chosen.max_bytes:,}"
            )
        return RawDocument(
            ref=ItemRef(source=ref.source, key=ref.key, version=self._version(row) or "", size=ref.size),
            content=content,
            media_type=chosen.media_type,
            title=self._text_at(row, chosen.title_field),
            url=self._text_at(row, chosen.url_field),
            metadata=self._metadata(row),
        )

    def _metadata(self, row: Mapping[str, object]) -> dict[str, JsonValue]:
        return {name: plain(value_at(row, path)) for name, path in self.settings.metadata_by_name.items()}

    def _version(self, row: Mapping[str, object]) -> str | None:
        """The value of the field that tells of changes, or a digest of all that makes the document."""
        if path := self.settings.version_field:
            value = plain(value_at(row, path))
            return None if value is None else _text(value)
        about = [
            self._text_at(row, self.settings.title_field),
            self._text_at(row, self.settings.url_field),
            self._metadata(row),
        ]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        digest.update(_content(value_at(row, self.settings.text_field)))
        return digest.hexdigest()

    def _text_at(self, row: Mapping[str, object], path: str | None) -> str | None:
        value = plain(value_at(row, path)) if path else None
        return None if value is None else _text(value)


def check_readable(ref: ItemRef) -> None:
    """Refuse what was listed only to be reported.

    Raises:
        ItemUnreadable: says why.
    """
    if ref.version.startswith(BROKEN):
        raise ItemUnreadable(f"{ref.key} {ref.version.removeprefix(BROKEN)}")


def _content(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    value = plain(value)
    return b"" if value is None else _text(value).encode("utf-8", "replace")


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
