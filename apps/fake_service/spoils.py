"""Ways to spoil a right reply. Where one thing is wrong, it is the first item, or its first vector."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from typing import Any, TypeAlias

Spoil: TypeAlias = Callable[[dict[str, Any]], object]
"""Changes a parsed reply in place."""


def in_reverse(reply: dict[str, Any]) -> None:
    """The last index comes first, at both depths: legal."""
    reply["data"].sort(key=lambda item: -item["index"])
    for item in reply["data"]:
        item.get("data", []).sort(key=lambda part: -part["index"])


def no_usage(reply: dict[str, Any]) -> None:
    """It does not say what was used: legal."""
    del reply["usage"]


def no_cost(reply: dict[str, Any]) -> None:
    """It does not say what it cost: legal."""
    del reply["usage"]["cost"]


def empty_data(reply: dict[str, Any]) -> None:
    """It holds nothing."""
    reply["data"] = []


def missing_item(reply: dict[str, Any]) -> None:
    """One document, or text, is not there."""
    del reply["data"][-1]


def missing_chunk(reply: dict[str, Any]) -> None:
    """One document lacks a chunk."""
    del reply["data"][0]["data"][-1]


def item_twice(reply: dict[str, Any]) -> None:
    """The same item comes a second time."""
    reply["data"].append(reply["data"][0])


def extra_item(reply: dict[str, Any]) -> None:
    """An item comes that nobody asked for."""
    reply["data"].append(reply["data"][0] | {"index": len(reply["data"])})


def index_too_high(reply: dict[str, Any]) -> None:
    """One index is beyond the last."""
    reply["data"][0]["index"] = len(reply["data"])


def index_twice(reply: dict[str, Any]) -> None:
    """Two items have the same index."""
    reply["data"][0]["index"] = reply["data"][1]["index"]


def no_index(reply: dict[str, Any]) -> None:
    """One item does not say where it belongs."""
    del reply["data"][0]["index"]


def other_model(name: str) -> Spoil:
    """It says that another model made it."""
    return lambda reply: reply.update(model=name)


def short_vector(reply: dict[str, Any]) -> None:
    """A vector lacks its last byte, or number."""
    _change(reply, lambda data: data[:-1], lambda numbers: numbers[:-1])


def long_vector(reply: dict[str, Any]) -> None:
    """A vector is twice as long, as if the dimensions had not been read."""
    _change(reply, lambda data: data * 2, lambda numbers: numbers * 2)


def zero_vector(reply: dict[str, Any]) -> None:
    """A vector is nothing but zeros."""
    _change(reply, lambda data: bytes(len(data)), lambda numbers: [0.0] * len(numbers))


def not_finite(reply: dict[str, Any]) -> None:
    """A vector of floats begins with a NaN."""
    nan = struct.pack("<f", math.nan)
    _change(reply, lambda data: nan + data[4:], lambda numbers: [math.nan, *numbers[1:]])


def _change(
    reply: dict[str, Any],
    data: Callable[[bytes], bytes],
    numbers: Callable[[list[float]], list[float]],
) -> None:
    """The first vector, which is base64 or a list of numbers."""
    item = reply["data"][0]
    item = item["data"][0] if "data" in item else item
    vector = item["embedding"]
    if isinstance(vector, str):
        item["embedding"] = base64.b64encode(data(base64.b64decode(vector))).decode()
    else:
        item["embedding"] = numbers(vector)
