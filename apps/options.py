"""The options that commands share, and the settings that they name."""

# ruff: noqa: PLC0415 - `--help` must not wait for what only a command uses

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.query import Fusion, Question

SETTINGS_FILE = "docweave.yaml"

Config = Annotated[
    Path,
    typer.Option("--config", "-c", metavar="FILE", envvar="DOCWEAVE_CONFIG", help="The YAML settings."),
]
Configs = Annotated[
    list[Path],
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="DOCWEAVE_CONFIG",
        help="The YAML settings; may be repeated: the tables of all of them are asked.",
    ),
]
"""Of every command that asks a question. Its default is `USUAL_CONFIGS`."""
USUAL_CONFIGS = [Path(SETTINGS_FILE)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

# Of every command that asks a question.
Matched = Annotated[
    Literal["hybrid", "vector", "text"],
    typer.Option(
        "--mode",
        "-m",
        metavar="MODE",
        help="hybrid: by meaning and words; vector: by meaning; text: by words.",
    ),
]
Fused = Annotated[
    Literal["scores", "rrf"],
    typer.Option(
        "--fusion",
        metavar="HOW",
        help="How hybrid makes one order of two: scores, by how good each hit is; rrf, by rank alone.",
    ),
]
VectorWeight = Annotated[
    float | None,
    typer.Option(
        "--vector-weight",
        metavar="X",
        min=0,
        max=100,
        help="In hybrid, what is found by meaning counts so much: 1.5, if left out.",
    ),
]
TextWeight = Annotated[
    float | None,
    typer.Option(
        "--text-weight",
        metavar="X",
        min=0,
        max=100,
        help="In hybrid, what is found by words counts so much: 1, if left out.",
    ),
]
OfSources = Annotated[
    list[str] | None,
    typer.Option("--source", "-s", metavar="NAME", help="Only this source; may be repeated."),
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", "-w", metavar="CONDITION", help="A filter; of several, all must hold."),
]
SeenAs = Annotated[
    list[str] | None,
    typer.Option(
        "--as",
        metavar="LABEL",
        help="Only what somebody with this access label may see; may be repeated.",
    ),
]


def question_of(text: str, *, mode: str, source: list[str] | None, access: list[str] | None) -> Question:
    """What the shared options ask, but for conditions: to read these takes the tables' columns.

    Raises:
        SettingsError: the question is empty.
    """
    if not text.strip():
        raise SettingsError("the question is empty")
    from pipeline.query import Mode, Question
    from pipeline.records import Filter

    where = Filter(sources=tuple(source or ()), access=tuple(access) if access else None)
    return Question(text=text, mode=Mode(mode), where=where)


def fused_by(asked: Question, fusion: Fusion, vector: float | None, text: float | None) -> Question:
    """The same question, where the options say how a hybrid search makes one order of two."""
    from dataclasses import replace

    usual = asked.weights
    weights = replace(
        usual,
        vector=usual.vector if vector is None else vector,
        text=usual.text if text is None else text,
    )
    return replace(asked, fusion=fusion, weights=weights)


def settings_in(config: Path) -> Settings:
    """The settings that the file holds.

    Raises:
        SettingsError: it is not there, or holds what cannot be meant.
    """
    require(config)
    from config.load import load_settings
    from config.logging_lines import set_up

    settings = load_settings(config)
    set_up(settings.logging)
    return settings


def all_settings_in(configs: Sequence[Path]) -> dict[str, Settings]:
    """The settings that the files hold, by what their tables are called. The first say how lines are logged.

    Raises:
        SettingsError: one is not there, or holds what cannot be meant; or they cannot be asked together.
    """
    for config in configs:
        require(config)
    from apps.desk import named_settings
    from config.logging_lines import set_up

    settings = named_settings(configs)
    set_up(next(iter(settings.values())).logging)
    return settings


def require(config: Path) -> None:
    """Refuse settings that are not there; let those that are name Prefect's blocks."""
    if not config.is_file():
        raise SettingsError(
            f"no settings at {config}: write some with `docweave init`, or name a file with --config FILE "
            "or the environment variable DOCWEAVE_CONFIG"
        )
    from flows.secrets import know_blocks

    know_blocks()


def need(module: str, package: str, *, command: str, extra: str) -> None:
    """Refuse a command whose extra is not installed.

    Raises:
        SettingsError: it is not.
    """
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise SettingsError(
            f"docweave {command} needs the package {package}: pip install 'docweave[{extra}]'"
        )
