"""What `docweave eval` is told: questions, what should be found, and which variants to compare."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, JsonValue, ValidationError, field_validator

from config.problems import explain
from config.yaml_file import Problem, YamlFile
from connectors.settings import FOLDER, LocalPath, StrictModel
from pipeline.errors import SettingsError
from pipeline.judge import Expected, JudgedQuestion
from pipeline.query import Fusion, Mode, Weights

ELSEWHERE = ("store", "sources")
"""What a variant cannot change: where it is kept, and what is asked about."""


class ExpectedSettings(StrictModel):
    """A document that should be found, or a passage of it."""

    key: str = Field(min_length=1, description="Of the document, as `docweave show` takes it.")
    source: str | None = Field(default=None, description="Left out: whichever source has the key.")
    passage: str | None = Field(
        default=None,
        description="Words of the passage that should be found. Left out: any passage of the document.",
    )


def _keyed(value: object) -> object:
    """`expect: a.md` says as much as `expect: [{key: a.md}]`."""
    listed = value if isinstance(value, list) else [value]
    return [{"key": one} if isinstance(one, str) else one for one in listed]


class QuestionSettings(StrictModel):
    """A question, and what should be found by it."""

    ask: str = Field(min_length=1, description="The question, as a user would put it.")
    expect: Annotated[list[ExpectedSettings], BeforeValidator(_keyed)] = Field(
        min_length=1, description="What should be found: a key, or several, with passages or without."
    )

    @property
    def judged(self) -> JudgedQuestion:
        """As it is judged."""
        expected = [Expected(key=one.key, source=one.source, passage=one.passage) for one in self.expect]
        return JudgedQuestion(text=self.ask, expected=tuple(expected))


class VariantSettings(StrictModel):
    """One way to search, or to build the tables."""

    mode: Mode = Field(default=Mode.HYBRID, description="How it is searched.")
    fusion: Fusion = Field(
        default="scores", description="How hybrid makes one order of two: by score, or by rank."
    )
    vector_weight: float = Field(
        default=Weights().vector,
        ge=0,
        le=100,
        description="What is found by meaning counts so much, in hybrid.",
    )
    text_weight: float = Field(
        default=Weights().text, ge=0, le=100, description="What is found by words counts so much, in hybrid."
    )
    settings: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="What differs from the settings, such as {chunking: {max_tokens: 256}}. Tables of their "
        "own are built for it.",
    )

    @field_validator("settings")
    @classmethod
    def _of_the_tables(cls, settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if fixed := [name for name in ELSEWHERE if name in settings]:
            raise ValueError(f"cannot change `{fixed[0]}`: every variant has the same documents")
        return settings


class Evaluation(StrictModel):
    """All that one file says."""

    questions: list[QuestionSettings] = Field(default=[], description="The questions.")
    questions_from: LocalPath | None = Field(
        default=None,
        description="More of them: a file of JSON Lines, each with an `ask` and an `expect`.",
    )
    variants: dict[str, VariantSettings] = Field(
        default={mode.value: VariantSettings(mode=mode) for mode in Mode},
        min_length=1,
        description="What is compared, by a name of yours; the others with the first. Left out: the three "
        "ways to search.",
    )


def read_evaluation(path: Path) -> tuple[list[JudgedQuestion], dict[str, VariantSettings]]:
    """The questions, and the variants that are to answer them.

    Raises:
        SettingsError: lists every problem of the file, each with its place.
    """
    if not path.exists():
        raise SettingsError(f"{path} does not exist: `docweave eval {path} --make 20` drafts questions")
    if path.suffix == ".jsonl":
        return _json_lines(path), Evaluation().variants
    file = YamlFile.read(path)
    if file.problems:
        raise SettingsError("\n".join(map(str, file.problems)))
    try:
        found = Evaluation.model_validate(file.value, context={FOLDER: path.absolute().parent})
    except ValidationError as error:
        raise SettingsError("\n".join(map(str, explain(error, file, Evaluation)))) from None
    questions = [question.judged for question in found.questions]
    if found.questions_from:
        questions += _json_lines(found.questions_from)
    if not questions:
        raise SettingsError(str(file.problem_at(("questions",), "must have at least one entry")))
    return questions, found.variants


def _json_lines(path: Path) -> list[JudgedQuestion]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{path}: the questions cannot be read: {reason}") from error
    questions: list[JudgedQuestion] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            questions.append(QuestionSettings.model_validate(json.loads(line)).judged)
        except json.JSONDecodeError as error:
            said = f"is no JSON: {error.msg}"
            problems.append(Problem(file=path, path=(), message=said, line=number, column=error.colno))
        except ValidationError as error:
            found = explain(error, YamlFile(file=path), QuestionSettings)
            problems += [replace(one, line=number, column=1) for one in found]
    if problems:
        raise SettingsError("\n".join(map(str, problems)))
    if not questions:
        raise SettingsError(f"{path}: holds no question")
    return questions


def questions_file(questions: Sequence[JudgedQuestion], comment: str) -> str:
    """The questions as a YAML file that `read_evaluation` reads; the comment at its top."""
    import yaml  # noqa: PLC0415 - to write is rare

    entries = [
        {"ask": question.text, "expect": [_written(one) for one in question.expected]}
        for question in questions
    ]
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return head + yaml.safe_dump({"questions": entries}, allow_unicode=True, sort_keys=False, width=110)


def _written(expected: Expected) -> Mapping[str, str]:
    return {
        name: value
        for name, value in (("source", expected.source), ("key", expected.key), ("passage", expected.passage))
        if value is not None
    }
