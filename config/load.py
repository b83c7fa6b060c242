"""A YAML file to settings, with all that is wrong with it at once."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from config.problems import explain
from config.secrets import kept
from config.settings import Settings
from config.yaml_file import Problem, YamlFile
from connectors.settings import FOLDER, SECRETS
from pipeline.errors import SettingsError


def load_settings(path: Path) -> Settings:
    """The settings that a YAML file holds, environment variables put in, relative paths made absolute.

    Raises:
        SettingsError: lists every problem, each with file, line, column, key and what would be valid.
    """
    settings, problems = examine(path)
    if settings is None:
        raise SettingsError("\n".join(map(str, problems)))
    return settings


def examine(path: Path) -> tuple[Settings | None, tuple[Problem, ...]]:
    """The settings, or None and every problem in the order of the file."""
    file = YamlFile.read(path)
    if not file.places:
        return None, tuple(file.problems)
    problems = list(file.problems)
    settings = None
    try:
        context = {FOLDER: path.absolute().parent, SECRETS: kept}
        settings = Settings.model_validate(file.value, context=context)
    except ValidationError as error:
        problems += explain(error, file)
    problems.sort(key=lambda problem: (problem.line, problem.column))
    return (None if problems else settings), tuple(problems)
