"""A YAML file to settings, with all that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue, ValidationError

from config.problems import explain
from config.secrets import kept
from config.settings import Settings
from config.yaml_file import Problem, YamlFile
from connectors.settings import FOLDER, SECRETS
from pipeline.errors import SettingsError


def load_settings(path: Path, changes: Mapping[str, JsonValue] | None = None) -> Settings:
    """The settings that a YAML file holds, environment variables put in, relative paths made absolute.

    Args:
        path: Of the file.
        changes: What is to be otherwise, as if the file said so.

    Raises:
        SettingsError: lists every problem, each with file, line, column, key and what would be valid.
    """
    settings, problems = examine(path, changes)
    if settings is None:
        raise SettingsError("\n".join(map(str, problems)))
    return settings


def examine(
    path: Path, changes: Mapping[str, JsonValue] | None = None
) -> tuple[Settings | None, tuple[Problem, ...]]:
    """The settings, or None and every problem in the order of the file. `changes` as in `load_settings`."""
    file = YamlFile.read(path)
    if not file.places:
        return None, tuple(file.problems)
    problems = list(file.problems)
    settings = None
    try:
        context = {FOLDER: path.absolute().parent, SECRETS: kept}
        settings = Settings.model_validate(_changed(file.value, changes), context=context)
    except ValidationError as error:
        problems += explain(error, file)
    problems.sort(key=lambda problem: (problem.line, problem.column))
    return (None if problems else settings), tuple(problems)


def _changed(value: JsonValue, changes: Mapping[str, JsonValue] | None) -> JsonValue:
    """The value with the changes made: mappings key by key, all else whole."""
    if not changes:
        return value
    here = value if isinstance(value, dict) else {}
    return {
        **here,
        **{
            key: _changed(here.get(key), change) if isinstance(change, dict) else change
            for key, change in changes.items()
        },
    }
