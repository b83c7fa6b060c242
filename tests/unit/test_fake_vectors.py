"""What the stand-in's vectors depend on: an oracle for every vector that is stale or misplaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from apps.fake_service.models import CONTEXTUAL, OPENROUTER, STANDARD
from apps.fake_service.service import EmbeddingService
from apps.fake_service.vectors import flat_vectors_of, float_vectors_of, vectors_of

QWEN = "qwen/qwen3-embedding-4b"
MODELS = {CONTEXTUAL: "pplx-embed-context-v1-0.6b", STANDARD: "pplx-embed-v1-0.6b", OPENROUTER: QWEN}


def ask(path: str, texts: list[str], *, seed: int = 0, **more: object) -> list[dict[str, Any]]:
    """The items of the reply, as they come."""
    given = [[text] for text in texts] if path == CONTEXTUAL else texts
    body = json.dumps({"input": given, "model": MODELS[path]} | more).encode()
    answer = EmbeddingService(seed=seed).answer("POST", path, {"Authorization": "Bearer test-key"}, body)
    data: list[dict[str, Any]] = json.loads(answer.body)["data"]
    return data


def floats(items: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    by_index = sorted(items, key=lambda item: item["index"])
    return np.array([item["embedding"] for item in by_index], dtype=np.float32)


@pytest.mark.parametrize("vectors_by", [vectors_of, flat_vectors_of, float_vectors_of])
def test_fewer_dimensions_are_a_prefix(vectors_by: Callable[..., np.ndarray[Any, Any]]) -> None:
    many = vectors_by(["a", "b"], model="m", dimensions=2560)
    assert np.array_equal(many[:, :128], vectors_by(["a", "b"], model="m", dimensions=128))
    assert not np.array_equal(many, vectors_by(["a", "b"], model="n", dimensions=2560))
    assert many.min() >= -127


def test_a_contextual_vector_depends_on_the_whole_group_and_on_nothing_else() -> None:
    def vectors(*texts: str) -> np.ndarray[Any, Any]:
        return vectors_of(texts, model="m", dimensions=256)

    whole = vectors("a", "b", "c")
    assert np.array_equal(whole, vectors("a", "b", "c"))
    for other in (
        vectors("a", "b", "d"),
        vectors("b", "a", "c"),
        vectors("a", "b", "c", "d"),
        vectors("a", "bc", ""),
    ):
        for row in whole:
            assert not (other == row).all(axis=1).any()
    assert len(np.unique(vectors("a", "a", "a"), axis=0)) == 3


def test_a_literal_separator_shifts_every_vector_after_it() -> None:
    spoilt = vectors_of(["a", "b<|endoftext|>x", "c"], model="m", dimensions=128)
    shifted = vectors_of(["a", "b", "x", "c"], model="m", dimensions=128)
    assert np.array_equal(spoilt, shifted[:3])


def test_a_flat_vector_depends_on_its_text_and_input_type_alone() -> None:
    alone = flat_vectors_of(["a"], model="m", dimensions=128)[0]
    assert np.array_equal(alone, flat_vectors_of(["b", "a"], model="m", dimensions=128)[1])
    bare = float_vectors_of(["a"], model=QWEN, dimensions=128)
    query = float_vectors_of(["a"], model=QWEN, dimensions=128, input_type="search_query")
    assert not np.array_equal(bare, query)
    told = ask(OPENROUTER, ["a"], dimensions=128, input_type="search_query")
    assert np.array_equal(floats(told), query)


def test_every_number_that_a_float_can_be_is_written_out_right() -> None:
    texts = [str(number) for number in range(100)]
    vectors = floats(ask(OPENROUTER, texts))
    assert np.array_equal(vectors, float_vectors_of(texts, model=QWEN, dimensions=2560))
    assert len(np.unique(vectors)) > 60_000  # of 65,536


@pytest.mark.parametrize("path", MODELS)
def test_the_order_of_the_items_is_shuffled_by_the_seed(path: str) -> None:
    texts = [str(place) for place in range(20)]

    def order(seed: int) -> list[int]:
        return [item["index"] for item in ask(path, texts, seed=seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == list(range(20))
