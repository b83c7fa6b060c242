"""YAML text to plain values, each with its place in the file, environment variables put in.

Scalars are read as JSON has them, quoted or not being the only difference between text and the rest: `true`,
`false`, `null` and decimal numbers are what they say, all else is text. So `no` is a country, `12:30` a time
and `2026-01-31` a date as they were written, as editors show them.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import yaml
from pydantic import JsonValue

from connectors.settings import FromEnvironment, Substituted

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: keys, and places in lists."""

_MOST_BYTES = 1_000_000
_MOST_VALUES = 20_000
"""Values after aliases are followed: a few nested aliases stand for millions."""
_DEEPEST = 40
_LONGEST_NUMBER = 100
_KINDS = "bool float int map null seq str timestamp value"
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in _KINDS.split()}
_MERGE = "tag:yaml.org,2002:merge"
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_WORDS: Mapping[str, JsonValue] = {"": None, "~": None, "null": None, "true": True, "false": False}
_VARIABLE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_]\w*)(?P<default>:-[^}]*)?\})?", re.ASCII)
_ALONE = re.compile(r"\$\{[A-Za-z_]\w*(:-)?\}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with the file."""

    file: Path
    path: KeyPath
    """Empty for what concerns the file as a whole."""
    message: str
    line: int = 0
    """Counted from 1; 0 where there is no line to point to."""
    column: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else str(self.file)
        return f"{place}: {dotted(self.path)}: {self.message}" if self.path else f"{place}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a key or list entry stands, and what is written there."""

    key: yaml.Mark
    value: yaml.Mark
    written: str | None
    """The scalar as the file has it, variables and all; None for mappings and lists."""


@dataclass(slots=True, kw_only=True)
class YamlFile:
    """A YAML file read into plain values. `problems` holds what was wrong on the way."""

    file: Path
    value: JsonValue = None
    places: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _values: int = 0

    @classmethod
    def read(cls, file: Path) -> YamlFile:
        """Read it. Whatever is wrong becomes a problem."""
        read = cls(file=file)
        try:
            text = read._text()
            if node := yaml.compose(text, Loader=yaml.SafeLoader):
                read._place((), node, node)
                read.value = read._value(node, ())
            else:
                read._problem((), "is empty: it needs at least `sources:`")
        except _Wrong as error:
            read._problem((), str(error), error.mark)
        except RecursionError:
            read._problem((), f"is nested more than {_DEEPEST} deep")
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            read._problem((), f"holds a #x{error.character:02x} in line {line}, which no YAML file may")
        except yaml.MarkedYAMLError as error:
            read._problem((), _syntax(error), error.problem_mark or error.context_mark)
        return read

    def problem_at(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """A problem of the value at `path`, or of its key; of what is around it where it is not there."""
        there = path
        while there not in self.places and there:
            there, at_key = there[:-1], True
        place = self.places.get(there)
        mark = (place.key if at_key else place.value) if place else None
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return Problem(file=self.file, path=path, message=message, line=line, column=column)

    def _text(self) -> str:
        try:
            content = self.file.read_bytes()
        except FileNotFoundError as error:
            raise _Wrong("does not exist: `docweave init` writes one to start from") from error
        except IsADirectoryError as error:
            raise _Wrong("is a folder: name the YAML file in it") from error
        except OSError as error:
            raise _Wrong(f"cannot be read: {error.strerror}") from error
        if len(content) > _MOST_BYTES:
            raise _Wrong(f"has {len(content):,} bytes; settings have at most {_MOST_BYTES:,}")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise _Wrong(f"is not UTF-8 (line {line}): save it as UTF-8") from error

    def _problem(self, path: KeyPath, message: str, mark: yaml.Mark | None = None) -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        self.problems.append(Problem(file=self.file, path=path, message=message, line=line, column=column))

    def _place(self, path: KeyPath, key: yaml.Node, value: yaml.Node) -> None:
        written = str(value.value) if isinstance(value, yaml.ScalarNode) else None
        self.places[path] = Place(key=key.start_mark, value=value.start_mark, written=written)

    def _value(self, node: yaml.Node, path: KeyPath) -> JsonValue:
        self._values += 1
        if self._values > _MOST_VALUES or len(path) > _DEEPEST:
            raise _Wrong(
                f"holds more than {_MOST_VALUES:,} values or is nested more than {_DEEPEST} deep, "
                "aliases (*name) counted as what they stand for",
                node.start_mark,
            )
        if node.tag not in _PLAIN_TAGS:
            self._problem(path, f"has the tag {node.tag}; plain values only", node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return self._list(node, path)
        return self._scalar(node, path)

    def _list(self, node: yaml.SequenceNode, path: KeyPath) -> JsonValue:
        values = []
        for index, entry in enumerate(node.value):
            self._place((*path, index), entry, entry)
            values.append(self._value(entry, (*path, index)))
        return values

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> JsonValue:
        values: dict[str, JsonValue] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._problem(path, "a key must be text", key.start_mark)
                continue
            name = _joined(key.value)
            here = (*path, name)
            if name in values:
                first = self.places[here].key.line + 1
                self._problem(here, f"is there twice; the first is in line {first}", key.start_mark)
                continue
            self._place(here, key, value)
            values[name] = self._value(value, here)
        for key, value in node.value:
            if key.tag == _MERGE:
                values = {**self._merged(value, path), **values}
        return values

    def _merged(self, node: yaml.Node, path: KeyPath) -> dict[str, JsonValue]:
        """What `<<: *name` adds to a mapping; the mapping's own keys win."""
        places = dict(self.places)
        value = self._value(node, path)
        self.places = {**self.places, **places}
        if isinstance(value, dict):
            return value
        self._problem(path, "<< takes one alias of a mapping: <<: *name", node.start_mark)
        return {}

    def _scalar(self, node: yaml.Node, path: KeyPath) -> JsonValue:
        text = _joined(node.value)
        if getattr(node, "style", None) is None:
            if text.lower() in _WORDS:
                return _WORDS[text.lower()]
            if len(text) < _LONGEST_NUMBER and _NUMBER.fullmatch(text):
                number: int | float = json.loads(text)
                return number if math.isfinite(number) else text
        return self._substituted(text, path, node.start_mark) if "${" in text else text

    def _substituted(self, text: str, path: KeyPath, mark: yaml.Mark) -> str:
        """The text with environment variables put in. What they hold is not read as YAML."""

        def value(found: re.Match[str]) -> str:
            name, default = found["name"], found["default"]
            if found[0] == "$${":
                return "${"
            if not name:
                self._problem(path, "write ${NAME} or ${NAME:-default}; $${ stands for a plain ${", mark)
                return ""
            held = os.environ.get(name)
            if held is None and default is None:
                self._problem(path, f"the environment variable {name} is not set, and has no default", mark)
            return held or (default or "")[2:]

        done = _VARIABLE.sub(value, text)
        return (FromEnvironment if _ALONE.fullmatch(text) else Substituted)(done, text)


class _Wrong(Exception):
    """Nothing more can be read."""

    def __init__(self, message: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(message)
        self.mark = mark


def dotted(path: KeyPath) -> str:
    """`("sources", "handbook", "include", 0)` as `sources.handbook.include[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _joined(text: str) -> str:
    r"""The text with `\\ud83d\\ude00` as the one character that JSON writes so; a lone half is replaced."""
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _syntax(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be read"
    if "'\\t'" in problem:
        return "not YAML: a tab stands where spaces must; indent with spaces"
    if "expected a single document" in problem or "expected a single document" in (error.context or ""):
        return "holds more than one document (---); settings are one"
    if problem.endswith("got '{'"):
        return "not YAML: a ${NAME} within [ ] or { } must be in quotes"
    where = f", {error.context}" if error.context else ""
    return f"not YAML: {problem}{where}"
