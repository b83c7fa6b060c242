"""Reads a service's reply strictly: every vector in its place, none missing, none that cannot be one. Pure.

Every field of a reply is optional by its documentation, so nothing is taken for granted.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.embedders import models
from pipeline.errors import ServiceUnavailable
from pipeline.records import EmbeddingSpace, Encoding, JsonValue, Vectors

Format: TypeAlias = Literal["base64_int8", "base64_binary", "float", "base64"]
"""`encoding_format`: how a service is asked to write a vector."""

ENCODINGS: Mapping[Format, Encoding] = {
    "base64_int8": "int8",
    "base64_binary": "binary",
    "float": "float16",
    "base64": "float16",
}
"""How such a vector is kept."""

_ONE_FLOAT = np.dtype("<f4")
"""As OpenAI's base64 has it."""

Items: TypeAlias = list[Mapping[str, JsonValue]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the service says that it counted and charged; None for what it does not say."""

    tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for, and so what a reply has to hold."""

    service: str
    """As people call it, for messages."""
    space: EmbeddingSpace
    shape: Sequence[int]
    """How many texts each group has."""
    contextual: bool
    """Whether the groups were sent as documents; otherwise as one list of texts."""

    def read(self, reply: JsonValue) -> tuple[tuple[Vectors, ...], Usage]:
        """One array for each group: shape (texts, `space.width`), of `space.dtype`.

        Raises:
            ServiceUnavailable: the reply does not add up.
        """
        told = fields(reply)
        model = told.get("model")
        if isinstance(model, str) and models.bare(model) in models.others_than(self.space.model):
            self._refuse("vectors", f"model {self.space.model}", f"model {model}")
        if self.contextual:
            documents = self._placed(told.get("data"), len(self.shape), "the reply")
            vectors = tuple(
                self._vectors(document.get("data"), count, f"document {place}", f" of document {place}")
                for place, (document, count) in enumerate(zip(documents, self.shape, strict=True))
            )
        else:
            whole = self._vectors(told.get("data"), sum(self.shape), "the reply", "")
            vectors = tuple(np.split(whole, list(accumulate(self.shape))[:-1]))
        return vectors, usage(told.get("usage"))

    def _vectors(self, items: JsonValue, count: int, where: str, whose: str) -> Vectors:
        space = self.space
        what = "chunk" if self.contextual else "text"
        floats = space.encoding == "float16"
        vectors = np.empty((count, space.width), dtype=np.float64 if floats else space.dtype)
        read = self._floats if floats else self._codes
        for place, item in enumerate(self._placed(items, count, where)):
            vectors[place] = read(item.get("embedding"), f"{what} {place}{whose}")
        zeros = np.flatnonzero(~vectors.any(axis=1))
        if len(zeros):
            self._refuse(f"{what} {zeros[0]}{whose}", "a vector", "all zeros")
        return _unit(vectors) if floats else vectors

    def _placed(self, items: JsonValue, count: int, where: str) -> Items:
        """The items in the order of their `index`, each place taken once.

        Where it may be left out, and no item has one, they are in the order of the texts.
        """
        if not isinstance(items, list) or len(items) != count:
            came = f"{len(items)}" if isinstance(items, list) else "none"
            self._refuse(where, f"{count} items", came)
        told = [fields(item) for item in items]
        if (count == 1 or not self.contextual) and all(item.get("index") is None for item in told):
            return told
        places: dict[int, Mapping[str, JsonValue]] = {}
        for item in told:
            index = item.get("index")
            if (
                not isinstance(index, int)
                or isinstance(index, bool)
                or not 0 <= index < count
                or index in places
            ):
                came = repr(index) if isinstance(index, int) else type(index).__name__
                self._refuse(
                    where, f"each index from 0 to {count - 1} once", f"{came} after {len(places)} items"
                )
            places[index] = item
        return [places[index] for index in range(count)]

    def _codes(self, embedding: JsonValue, where: str) -> Vectors:
        """Base64 of int8 codes or of bits: as many bytes as the space is wide."""
        data = self._bytes(embedding, self.space.width, where)
        return np.frombuffer(data, dtype=self.space.dtype)

    def _floats(self, embedding: JsonValue, where: str) -> NDArray[np.float64]:
        """A list of numbers, or base64 of 32-bit floats: not every upstream heeds which one was asked for."""
        dimensions = self.space.dimensions
        if isinstance(embedding, str):
            data = self._bytes(embedding, dimensions * _ONE_FLOAT.itemsize, where)
            numbers = np.frombuffer(data, dtype=_ONE_FLOAT).astype(np.float64)
        else:
            if not isinstance(embedding, list):
                self._refuse(where, "numbers", type(embedding).__name__)
            if len(embedding) != dimensions:
                self._refuse(where, f"{dimensions} numbers", f"{len(embedding)} numbers")
            if not set(map(type, embedding)) <= {float, int}:
                self._refuse(where, "numbers", "something else among them")
            try:
                numbers = np.array(embedding, dtype=np.float64)
            except OverflowError:  # a whole number of hundreds of digits
                self._refuse(where, "numbers", "one without bounds")
        if not np.isfinite(numbers).all():
            self._refuse(where, "finite numbers", "one that is not")
        return numbers

    def _bytes(self, embedding: JsonValue, count: int, where: str) -> bytes:
        if not isinstance(embedding, str):
            self._refuse(where, "base64", type(embedding).__name__)
        try:
            data = binascii.a2b_base64(embedding, strict_mode=True)
        except ValueError as error:
            self._refuse(where, "base64", str(error))
        if len(data) != count:
            self._refuse(where, f"{count} bytes", f"{len(data)} bytes")
        return data

    def _refuse(self, where: str, expected: str, came: str) -> NoReturn:
        told = f"{where}: expected {expected}, came {came}"
        raise ServiceUnavailable(f"{self.service}'s reply does not add up: {told}")


def usage(told: JsonValue) -> Usage:
    """What a reply's `usage` says. The cost is a number of USD, or Perplexity's `{total_cost, currency}`."""
    given = fields(told)
    tokens = amount(given.get("prompt_tokens")) or amount(given.get("total_tokens"))
    cost = given.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost") if cost.get("currency", "USD") == "USD" else None
    return Usage(tokens=round(tokens) if tokens else None, cost_usd=amount(cost))


def amount(value: JsonValue) -> float | None:
    """A number that can be counted with; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) and number >= 0 else None


def fields(value: JsonValue) -> Mapping[str, JsonValue]:
    """The fields of an object; none where it is no object."""
    return value if isinstance(value, dict) else {}


def _unit(vectors: NDArray[np.float64]) -> Vectors:
    """Each at length 1, as float16: from about a thousand dimensions on, cosines then err by some 1e-4."""
    vectors /= np.abs(vectors).max(axis=1, keepdims=True)  # the squares of very large numbers are infinite
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16)
