"""Values as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal

from pipeline.records import JsonValue


def plain(value: object) -> JsonValue:
    """The value, made of what JSON has: times as ISO 8601 has them, bytes in hexadecimal, no NaN."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        return _number(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(part) for part in value]
    return bytes(value).hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)


def _number(value: float | Decimal) -> JsonValue:
    if not math.isfinite(value):
        return None
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return float(value)
