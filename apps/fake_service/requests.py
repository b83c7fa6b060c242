"""Reading what was sent: each field of each endpoint as documented, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.fake_service.models import (
    CONTEXTUAL,
    MOST_CHUNKS,
    MOST_DOCUMENTS,
    MOST_TOKENS,
    OPENROUTER,
    STANDARD,
    Model,
)
from apps.fake_service.refusals import Refusal

_OPENROUTER_ONLY = {"input_type", "provider", "user"}
_FIELDS = {"input", "model", "dimensions", "encoding_format"}
_FORMATS = {
    CONTEXTUAL: ("base64_int8", "base64_binary"),
    STANDARD: ("base64_int8", "base64_binary"),
    OPENROUTER: ("float", "base64"),
}
"""By endpoint, the default first."""
_NAMES = {CONTEXTUAL: "contextual", STANDARD: "standard", OPENROUTER: "embedding"}
_INPUT_TYPES = ("search_query", "search_document")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that says what it may."""

    model: Model
    groups: list[list[str]]
    """For the endpoints without context, one text each."""
    dimensions: int
    encoding: str
    input_type: str = ""

    @property
    def chunks(self) -> int:
        """How many texts there are in all."""
        return sum(map(len, self.groups))


def read(path: str, models: Mapping[str, Model], headers: Mapping[str, str], body: bytes) -> Asked:
    """Check all that can be checked without counting tokens.

    Args:
        path: One of the three endpoints.
        models: Those that it serves.
        headers: With names such as Content-Type.
        body: As it came.

    Raises:
        Refusal: the first thing that is wrong, as a 422 or by the status that the service documents.
    """
    _check_headers(headers)
    fields = _fields(body)
    known = _FIELDS | (_OPENROUTER_ONLY if path == OPENROUTER else set())
    for name in fields.keys() - known:
        raise Refusal(422, "Extra inputs are not permitted", about=[name])
    model = models.get(fields["model"]) if isinstance(fields.get("model"), str) else None
    if model is None:
        status = 404 if path == OPENROUTER else 422
        raise Refusal(status, f"Input should be one of the {_NAMES[path]} models", about=["model"])
    if path == OPENROUTER:
        _check_routing(fields)
    encoding = fields.get("encoding_format", _FORMATS[path][0])
    if encoding not in _FORMATS[path]:
        raise Refusal(422, f"Input should be {' or '.join(_FORMATS[path])}", about=["encoding_format"])
    dimensions = _dimensions(fields, model)
    if encoding == "base64_binary" and dimensions % 8:
        raise Refusal(422, "Input should be a multiple of 8 for base64_binary", about=["dimensions"])
    return Asked(
        model=model,
        groups=_groups(fields.get("input")) if path == CONTEXTUAL else _texts(fields.get("input")),
        dimensions=dimensions,
        encoding=encoding,
        input_type=fields.get("input_type", ""),
    )


def check_tokens(asked: Asked, counts: list[int]) -> None:
    """Refuse what holds too many tokens, group by group and in all.

    Raises:
        Refusal: 400.
    """
    what, most = "document" if asked.model.path == CONTEXTUAL else "text", asked.model.context_tokens
    for place, count in enumerate(counts):
        if count > most:
            raise Refusal(400, f"{what} {place} has {count} tokens, the limit is {most}")
    if sum(counts) > MOST_TOKENS:
        raise Refusal(400, f"the request has {sum(counts)} tokens, the limit is {MOST_TOKENS}")


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        raise Refusal(422, "JSON decode error") from None
    if not isinstance(fields, dict):
        raise Refusal(422, "Input should be an object")
    return fields


def _dimensions(fields: Mapping[str, Any], model: Model) -> int:
    dimensions = fields.get("dimensions", model.most_dimensions)
    if type(dimensions) is not int or not model.least_dimensions <= dimensions <= model.most_dimensions:
        said = f"Input should be from {model.least_dimensions} to {model.most_dimensions}"
        raise Refusal(422, said, about=["dimensions"])
    return dimensions


def _groups(groups: Any) -> list[list[str]]:
    if not isinstance(groups, list) or not groups:
        raise Refusal(422, "Input should be a list of documents, not empty", about=["input"])
    if len(groups) > MOST_DOCUMENTS:
        raise Refusal(422, f"List should have at most {MOST_DOCUMENTS} items", about=["input"])
    for place, texts in enumerate(groups):
        if not isinstance(texts, list) or not texts:
            raise Refusal(422, "Input should be a list of chunks, not empty", about=["input", place])
        for index, text in enumerate(texts):
            _check_text(text, place, index)
    chunks = sum(map(len, groups))
    if chunks > MOST_CHUNKS:
        raise Refusal(400, f"the request has {chunks} chunks, the size limit is {MOST_CHUNKS}")
    return groups


def _texts(texts: Any) -> list[list[str]]:
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not texts:
        raise Refusal(422, "Input should be a string or a list of strings, not empty", about=["input"])
    if len(texts) > MOST_DOCUMENTS:
        raise Refusal(422, f"List should have at most {MOST_DOCUMENTS} items", about=["input"])
    for place, text in enumerate(texts):
        _check_text(text, place)
    return [[text] for text in texts]


def _check_text(text: Any, *place: int) -> None:
    if not isinstance(text, str) or not text.strip():
        raise Refusal(422, "Input should be a string with text", about=["input", *place])
    if "\x00" in text or not _is_unicode(text):
        raise Refusal(422, "Input should be valid Unicode without NUL", about=["input", *place])


def _is_unicode(text: str) -> bool:
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can write
        return False
    return True


# ── What OpenRouter takes beside


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_sort(value: Any) -> bool:
    by = value.get("by") if isinstance(value, dict) else value
    return by in {"price", "throughput", "latency"}


def _is_price(value: Any) -> bool:
    kinds = {"prompt", "completion", "request", "image", "audio"}
    return isinstance(value, dict) and value.keys() <= kinds and all(map(_is_number, value.values()))


_ROUTING: dict[str, Callable[[Any], bool]] = {
    "order": _is_names,
    "only": _is_names,
    "ignore": _is_names,
    "quantizations": _is_names,
    "allow_fallbacks": lambda value: isinstance(value, bool),
    "require_parameters": lambda value: isinstance(value, bool),
    "zdr": lambda value: isinstance(value, bool),
    "enforce_distillable_text": lambda value: isinstance(value, bool),
    "data_collection": lambda value: value in {"allow", "deny"},
    "sort": _is_sort,
    "max_price": _is_price,
    "preferred_min_throughput": lambda value: _is_number(value) or isinstance(value, dict),
    "preferred_max_latency": lambda value: _is_number(value) or isinstance(value, dict),
}
"""https://openrouter.ai/docs/features/provider-routing"""


def _check_routing(fields: Mapping[str, Any]) -> None:
    if fields.get("input_type", _INPUT_TYPES[0]) not in _INPUT_TYPES:
        raise Refusal(422, f"Input should be {' or '.join(_INPUT_TYPES)}", about=["input_type"])
    user = fields.get("user", "user")
    if not isinstance(user, str) or not user:
        raise Refusal(422, "Input should be a string with text", about=["user"])
    provider = fields.get("provider", {})
    if not isinstance(provider, dict):
        raise Refusal(422, "Input should be an object", about=["provider"])
    for name, value in provider.items():
        if name not in _ROUTING:
            raise Refusal(422, "Extra inputs are not permitted", about=["provider", name])
        if not _ROUTING[name](value):
            raise Refusal(422, "Input is not what is documented for this field", about=["provider", name])


def _check_headers(headers: Mapping[str, str]) -> None:
    """Where they are sent at all: a client without them is served."""
    kind = headers.get("Content-Type", "application/json").partition(";")[0].strip()
    if kind != "application/json":
        raise Refusal(422, "the Content-Type should be application/json")
    referer = headers.get("Http-Referer", "https://")
    if not re.match(r"https?://", referer):
        raise Refusal(422, "the header HTTP-Referer should be an address")
    if not headers.get("X-Title", "title").strip():
        raise Refusal(422, "the header X-Title should not be empty")
