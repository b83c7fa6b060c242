"""The right answer to a request, as the service in question writes it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence

from apps.fake_service import vectors
from apps.fake_service.models import CONTEXTUAL, MODELS, OPENROUTER, Model
from apps.fake_service.requests import Asked


def reply_of(asked: Asked, *, tokens: int, order: random.Random) -> bytes:
    """All vectors of a request, and what they cost.

    The items come in a random order: nobody may rely on another one.
    """
    cost = cost_of(asked.model, tokens)
    usage: dict[str, object] = {"prompt_tokens": tokens, "total_tokens": tokens}
    head: dict[str, object] = {"object": "list", "model": asked.model.name, "usage": usage}
    if asked.model.path == OPENROUTER:
        usage["cost"] = cost
        head["id"] = f"gen-emb-{order.getrandbits(64):016x}"
    else:
        usage["cost"] = {"input_cost": cost, "total_cost": cost, "currency": "USD"}
    # By hand, since the vectors are JSON already.
    return f'{json.dumps(head)[:-1]}, "data": {_data(asked, order)}}}'.encode()


def cost_of(model: Model, tokens: int) -> float:
    """USD."""
    return tokens * model.usd_per_million_tokens / 1e6


def listing(models: Sequence[Model] = MODELS) -> bytes:
    """The embedding models that OpenRouter lists."""
    data = [
        {
            "id": model.name,
            "canonical_slug": model.name,
            "name": model.name.partition("/")[2],
            "created": 1_760_000_000,
            "description": "A stand-in: its vectors are digests.",
            "context_length": model.context_tokens,
            "architecture": {
                "modality": "text->embeddings",
                "input_modalities": ["text"],
                "output_modalities": ["embeddings"],
            },
            "pricing": {"prompt": f"{model.usd_per_million_tokens / 1e6:.10f}", "completion": "0"},
            "top_provider": {"context_length": model.context_tokens, "is_moderated": False},
            "per_request_limits": None,
            "supported_parameters": ["dimensions", "encoding_format"],
        }
        for model in models
        if model.path == OPENROUTER
    ]
    return json.dumps({"data": data}).encode()


def _data(asked: Asked, order: random.Random) -> str:
    if asked.model.path != CONTEXTUAL:
        return _items("embedding", "embedding", _flat(asked), order)
    documents = (_items("embedding", "embedding", _contextual(asked, group), order) for group in asked.groups)
    return _items("list", "data", documents, order)


def _items(kind: str, field: str, values: Iterable[str], order: random.Random) -> str:
    items = [
        f'{{"object": "{kind}", "index": {index}, "{field}": {value}}}' for index, value in enumerate(values)
    ]
    order.shuffle(items)
    return f"[{', '.join(items)}]"


def _contextual(asked: Asked, texts: Sequence[str]) -> Iterable[str]:
    return _coded(vectors.vectors_of(texts, model=asked.model.name, dimensions=asked.dimensions), asked)


def _flat(asked: Asked) -> Iterable[str]:
    texts = [text for (text,) in asked.groups]
    if asked.model.path != OPENROUTER:
        codes = vectors.flat_vectors_of(texts, model=asked.model.name, dimensions=asked.dimensions)
        return _coded(codes, asked)
    steps = vectors.steps_of(
        texts, model=asked.model.name, dimensions=asked.dimensions, input_type=asked.input_type
    )
    if asked.encoding == "float":
        return map(vectors.json_of, steps)
    return map(vectors.base64_of, vectors.steps_as_floats(steps).astype("<f4"))


def _coded(codes: vectors.Codes, asked: Asked) -> Iterable[str]:
    return map(vectors.base64_of, vectors.bits_of(codes) if asked.encoding == "base64_binary" else codes)
