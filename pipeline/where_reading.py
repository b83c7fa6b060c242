"""A filter's text, read from its beginning to its end: see `pipeline.where`, which knows what names mean."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from pipeline.clauses import AllOf, AnyOf, Clause, Not, Plain, Relation, Test
from pipeline.errors import SettingsError

MOST_TESTS = 100
MOST_VALUES = 500
"""In one list."""
DEEPEST = 40
"""Parentheses and negations within each other."""
METADATA = "metadata"

Kind: TypeAlias = Literal["quoted", "sign", "word", "end"]
Meant: TypeAlias = Callable[[Sequence[str], Relation, Sequence[Plain]], Test]
"""Makes a test of a name's steps. Raises ValueError, which says why it cannot be put."""

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<double>"(?:[^"\\]|\\.)*")
      | (?P<single>'(?:[^']|'')*')
      | (?P<sign><=|>=|!=|!~|[=<>~(),])
      | (?P<word>(?:[^\s(),"'=<>~!]|!(?![=~]))+)
    )""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Kind
    text: str
    """Of what is quoted, what stands in the quotes."""
    at: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.lower() in words


class Word(str):
    """A value that stands without quotes: a number, true or false, where these are wanted."""

    __slots__ = ()


class Reading:
    """One text, read from its beginning to its end."""

    def __init__(self, text: str, meant: Meant) -> None:
        self._text = text
        self._meant = meant
        self._tokens = list(self._split())
        self._next = 0
        self._tests = 0

    def whole(self) -> Clause:
        """What it says.

        Raises:
            SettingsError: it cannot be meant; says where and why.
        """
        clause = self._any(0)
        if self._here.kind != "end":
            raise self._wrong("here `and` or `or` must stand, or nothing; a value of several words is quoted")
        return clause

    def _split(self) -> Iterator[_Token]:
        at = 0
        while self._text[at:].strip():
            found = _TOKEN.match(self._text, at)
            if not found:
                place = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                raise self._wrong("a quote is opened and not closed, or a sign means nothing here", place)
            yield self._token(found)
            at = found.end()
        yield _Token("end", "", len(self._text))

    def _token(self, found: re.Match[str]) -> _Token:
        kind = str(found.lastgroup)
        at, text = found.start(kind), found[kind]
        if kind == "double":
            try:
                return _Token("quoted", json.loads(text, strict=False), at)
            except ValueError:
                raise self._wrong("what stands in double quotes must be as in JSON", at) from None
        if kind == "single":
            return _Token("quoted", text[1:-1].replace("''", "'"), at)
        return _Token("sign" if kind == "sign" else "word", text, at)

    @property
    def _here(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._here
        self._next += 1
        return token

    def _any(self, depth: int) -> Clause:
        parts = [self._all(depth)]
        while self._here.is_word("or"):
            self._take()
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self, depth: int) -> Clause:
        parts = [self._one(depth)]
        while self._here.is_word("and"):
            self._take()
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _one(self, depth: int) -> Clause:
        if depth > DEEPEST:
            raise self._wrong(f"more than {DEEPEST} parentheses and negations within each other")
        if self._here.is_word("not") and not self._is_name():
            self._take()
            return Not(self._one(depth + 1))
        if self._here.text == "(" and self._here.kind == "sign":
            self._take()
            clause = self._any(depth + 1)
            self._expect(")")
            return clause
        return self._test()

    def _is_name(self) -> bool:
        """Whether the word here is compared with something: then it is a name, whatever it says."""
        after = self._tokens[self._next + 1]
        return after.kind == "sign" and after.text not in ("(", ")", ",")

    def _test(self) -> Clause:
        self._tests += 1
        if self._tests > MOST_TESTS:
            raise self._wrong(f"more than {MOST_TESTS} tests")
        first = self._take()
        if first.kind not in ("word", "quoted") or not first.text:
            raise self._wrong("a name must stand here, as in year >= 2024", first.at)
        # A name in quotes is one of the metadata, whatever stands in it.
        names = [METADATA, first.text] if first.kind == "quoted" else self._names(first)
        relation, values, negated = self._compared()
        try:
            test = self._meant(names, relation, values)
        except ValueError as error:
            raise self._wrong(str(error), first.at) from None
        return Not(test) if negated else test

    def _names(self, first: _Token) -> list[str]:
        """The steps of a dotted name; after a dot at its end, one in quotes."""
        names = first.text.split(".")
        while names[-1] == "" and len(names) > 1 and self._here.kind == "quoted":
            names[-1] = self._take().text
            after = self._here
            if after.kind == "word" and after.text.startswith("."):
                names += self._take().text[1:].split(".")
        return names

    def _compared(self) -> tuple[Relation, list[Plain], bool]:
        """The relation, the values, and whether it is denied."""
        token = self._take()
        if token.is_word("exists"):
            return "exists", [], False
        negated = token.is_word("not")
        if negated:
            token = self._take()
        if token.is_word("in"):
            return "=", self._list(), negated
        if negated or token.kind != "sign" or token.text in "(),":
            raise self._wrong(
                "after a name, one of = != < <= > >= ~ !~ in, not in, exists must stand. A value of several "
                "words is quoted",
                token.at,
            )
        relation = cast("Relation", token.text.removeprefix("!"))
        return relation, [self._value()], token.text.startswith("!")

    def _list(self) -> list[Plain]:
        self._expect("(")
        values = [self._value()]
        while self._here.kind == "sign" and self._here.text == ",":
            self._take()
            values.append(self._value())
        self._expect(")")
        if len(values) > MOST_VALUES:
            raise self._wrong(f"a list has at most {MOST_VALUES} values")
        return values

    def _value(self) -> Plain:
        token = self._take()
        if token.kind == "quoted":
            return token.text
        if token.kind == "word":
            return Word(token.text)
        raise self._wrong("a value must stand here: a word, or a text in quotes", token.at)

    def _expect(self, sign: str) -> None:
        token = self._take()
        if token.kind != "sign" or token.text != sign:
            raise self._wrong(f"{sign!r} must stand here", token.at)

    def _wrong(self, why: str, at: int | None = None) -> SettingsError:
        place = min(self._here.at if at is None else at, len(self._text))
        return SettingsError(f"the filter cannot be read at {_near(self._text, place)}: {why}")


def _near(text: str, at: int) -> str:
    """Where that is, and what stands there, for a person."""
    there = " ".join(text[at : at + 40].split())
    return f"character {at + 1}, {there!r}" if there else "its end"
