"""Every setting on one page: `python -m config.reference [--check]` writes docs/settings.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from config.generated import keep
from config.settings import Settings
from connectors.settings import SharedSettings

FILE = Path(__file__).parent.parent / "docs" / "settings.md"
HEAD = """\
# Every setting

What a `docweave.yaml` may say. An unknown key is an error that names the line and the nearest key that there
is. `${NAME}` is the environment variable NAME, `${NAME:-default}` its value or the default. This page is made
from the code by `python -m config.reference`.
"""
SHARED = "sources.NAME"

Schema: TypeAlias = Mapping[str, Any]
"""A part of a JSON Schema, as pydantic makes it."""
_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true, false",
    "object": "mapping",
    "null": "",
}


def page() -> str:
    """The text of the page."""
    whole = Settings.model_json_schema()
    return "\n".join([HEAD, *_Page(whole["$defs"]).sections("", whole)])


class _Page:
    """Writes a section for each mapping of the settings, in their order."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions
        self._told: dict[str, str] = {}
        """Where mappings of each class are told."""

    def sections(self, path: str, schema: Schema, *, but: Sequence[str] = ()) -> Iterator[str]:
        """A table of the mapping's keys, then what is below them."""
        below: list[tuple[str, Schema]] = []
        rows: list[str] = []
        for key, field in schema["properties"].items():
            if key in but:
                continue
            here = f"{path}.{key}" if path else key
            inner = self._inner(here, field)
            default = "**needed**" if key in schema.get("required", ()) else _default(field)
            kind, said = self._kind(field), field.get("description", "")
            if inner:
                first = self._told.get(inner[0][1]["title"], inner[0][0])
                kind, said = f"[mapping](#{_anchor(first)})", said or inner[0][1].get("description", "")
            rows.append(f"| `{key}` | {kind} | {default} | {_cell(said)} |")
            for name, one in inner:
                if one["title"] not in self._told:
                    self._told[one["title"]] = name
                    below.append((name, one))
        if rows:
            yield from ["| key | value | default | what it says |", "|---|---|---|---|", *rows, ""]
        for here, inner_schema in below:
            yield from [f"## `{here}`", "", _cell(inner_schema.get("description", "")), ""]
            choice = here.startswith("sources.NAME, ")
            yield from self.sections(
                SHARED if choice else here.partition(",")[0],
                inner_schema,
                but=list(SharedSettings.model_fields) if choice else (),
            )

    def _inner(self, path: str, field: Schema) -> list[tuple[str, Schema]]:
        """The mappings that may stand here: one, or one for each choice."""
        if path == "sources":
            shared = SharedSettings.model_json_schema()
            self._definitions = {**shared.get("$defs", {}), **self._definitions}
            shared["description"] = "What may be said of every source, whatever its type."
            return [(SHARED, shared), *self._choices(SHARED, field["additionalProperties"])]
        inside = field.get("additionalProperties")
        if isinstance(inside, Mapping) and (found := self._choices(f"{path}.NAME", inside)):
            return found
        return self._choices(path, field)

    def _choices(self, path: str, field: Schema) -> list[tuple[str, Schema]]:
        if "$ref" in field:
            found = self._resolved(field)
            return [(path, found)] if "properties" in found else []
        options = field.get("oneOf") or field.get("anyOf") or ()
        options = [one for option in options for one in option.get("oneOf", [option])]
        models = [self._resolved(one) for one in options if "$ref" in one]
        models = [one for one in models if "properties" in one]
        if len(models) < 2:
            return [(path, one) for one in models]
        return [(f"{path}, {_tag(one)}", one) for one in models]

    def _resolved(self, field: Schema) -> Schema:
        return self._definitions[field["$ref"].rpartition("/")[2]]

    def _kind(self, field: Schema) -> str:
        """What a value may be, in few words."""
        if "$ref" in field:
            field = self._resolved(field)
        if "const" in field:
            return f"`{field['const']}`"
        if "enum" in field:
            return ", ".join(f"`{one}`" for one in field["enum"])
        if options := field.get("anyOf") or field.get("oneOf"):
            return " or ".join(dict.fromkeys(filter(None, map(self._kind, options))))
        if field.get("type") == "array":
            inside = self._kind(field.get("items", {}))
            return f"list of {inside}" if inside else "list"
        if field.get("format") == "password":
            return "secret"
        return _KINDS.get(str(field.get("type")), "")


def _default(field: Schema) -> str:
    default = field.get("default")
    if default is None or default == "" or isinstance(default, Mapping):
        return ""  # a mapping's are told by its own table
    if isinstance(default, list):
        shown = ", ".join(map(str, default))
        return f"`{shown}`" if shown else ""
    shown = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{shown}`"


def _tag(schema: Schema) -> str:
    """What chooses this one of several mappings: its key with a fixed value."""
    return next(f"{key}: {field['const']}" for key, field in schema["properties"].items() if "const" in field)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    kept = (letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` only say whether it is what the settings imply."""
    return keep(FILE, page(), "config.reference", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
