"""The JSON Schema of the settings, for editors: `python -m config.schema [--check]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from config.generated import keep
from config.settings import SOURCE_NAME, Settings
from pipeline.stores._columns import NAME, OURS

FILE = Path(__file__).with_name("schema.json")

_FROM_ENVIRONMENT: JsonValue = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
_ABOUT = frozenset({"title", "description", "default", "examples"})
"""What is said about a value, rather than asked of it."""


def schema() -> str:
    """The text of the schema file."""
    made = Settings.model_json_schema()
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "Docweave settings",
        "description": "What `docweave` reads from YAML. ${NAME} is the environment variable NAME, "
        "${NAME:-default} its value or the default, $${ a plain ${.",
    }
    made["properties"]["sources"]["propertyNames"] = {"pattern": SOURCE_NAME}
    ours: JsonValue = {"enum": [*sorted(OURS)]}
    made["properties"]["columns"]["propertyNames"] = {"pattern": f"^{NAME.pattern}$", "not": ours}
    return json.dumps(_open_to_variables(made), indent=2, ensure_ascii=False) + "\n"


def _open_to_variables(node: JsonValue) -> JsonValue:
    """Let an environment variable stand wherever the schema asks for more than any text."""
    if isinstance(node, list):
        return [_open_to_variables(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if _asks_for_more(node):
        about = {key: value for key, value in node.items() if key in _ABOUT}
        asked = {key: value for key, value in node.items() if key not in _ABOUT}
        return {**about, "anyOf": [asked, _FROM_ENVIRONMENT]}
    # With a variable for the key that chooses, more than one choice fits.
    names = {"oneOf": "anyOf"}
    return {names.get(key, key): _open_to_variables(value) for key, value in node.items()}


def _asks_for_more(node: dict[str, JsonValue]) -> bool:
    if node.get("type") == "string":
        return bool({"const", "enum", "pattern"} & node.keys()) and node.get("format") != "password"
    return node.get("type") in ("integer", "number", "boolean")


def main(arguments: Sequence[str]) -> int:
    """Write the file, or with `--check` only say whether it is what the settings imply."""
    return keep(FILE, schema(), "config.schema", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
