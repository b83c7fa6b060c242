"""The stand-in of `apps.fake_service`, under the names that tests know it by."""

from __future__ import annotations

from apps.fake_service import spoils
from apps.fake_service.faults import KINDS, USUAL, Faults
from apps.fake_service.models import (
    CONTEXTUAL,
    MODELS,
    MOST_CHUNKS,
    MOST_DOCUMENT_TOKENS,
    MOST_DOCUMENTS,
    MOST_TOKENS,
    OPENROUTER,
    OPENROUTER_MODELS,
    STANDARD,
    Model,
)
from apps.fake_service.pace import Pace
from apps.fake_service.seen import Seen, summary
from apps.fake_service.server import serving
from apps.fake_service.service import Answer, EmbeddingService
from apps.fake_service.steps import GOOD, Step, error_with_200, status
from apps.fake_service.vectors import SEPARATOR, flat_vectors_of, float_vectors_of, vectors_of

__all__ = [
    "DIMENSIONS",
    "DROPPED",
    "EMPTY_DATA",
    "GOOD",
    "KINDS",
    "MISSING_CHUNK",
    "MISSING_DOCUMENT",
    "MOST_CHUNKS",
    "MOST_DOCUMENTS",
    "MOST_DOCUMENT_TOKENS",
    "MOST_TOKENS",
    "NO_COST",
    "NO_USAGE",
    "OPENROUTER",
    "OPENROUTER_MODELS",
    "OTHER_MODEL",
    "PATH",
    "SEPARATOR",
    "SHORT_VECTOR",
    "STANDARD",
    "TRUNCATED",
    "USD_PER_MILLION",
    "USUAL",
    "WRONG_INDEX",
    "ZERO_VECTOR",
    "Answer",
    "EmbeddingService",
    "Faults",
    "Model",
    "Pace",
    "Seen",
    "Step",
    "error_with_200",
    "flat_vectors_of",
    "float_vectors_of",
    "serving",
    "status",
    "summary",
    "vectors_of",
]

PATH = CONTEXTUAL
DIMENSIONS = {model.name: model.most_dimensions for model in MODELS if model.path == PATH}
USD_PER_MILLION = {model.name: model.usd_per_million_tokens for model in MODELS if model.path == PATH}

EMPTY_DATA = Step(spoil=spoils.empty_data)
MISSING_DOCUMENT = Step(spoil=spoils.missing_item)
MISSING_CHUNK = Step(spoil=spoils.missing_chunk)
WRONG_INDEX = Step(spoil=spoils.index_too_high)
SHORT_VECTOR = Step(spoil=spoils.short_vector)
ZERO_VECTOR = Step(spoil=spoils.zero_vector)
OTHER_MODEL = Step(spoil=spoils.other_model("pplx-embed-context-v1-4b"))
NO_USAGE = Step(spoil=spoils.no_usage)
NO_COST = Step(spoil=spoils.no_cost)
TRUNCATED = Step(cut=True)
DROPPED = Step(dropped=True)
