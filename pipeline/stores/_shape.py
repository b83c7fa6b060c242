"""What may be stored, and asked for, at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.digest import copy_of
from pipeline.errors import StoreRefused
from pipeline.records import Embedded, EmbeddingSpace, Vector, Vectors
from pipeline.stores._text import well_formed


def check_space(space: EmbeddingSpace) -> None:
    """Vectors of this space can be stored.

    Raises:
        StoreRefused: bits that do not fill their bytes.
    """
    if space.encoding == "binary" and space.dimensions % 8:
        raise StoreRefused(
            f"{space} cannot be stored: eight bits make a byte, so binary vectors need a multiple of 8"
        )


def check_keys(documents: Sequence[Embedded]) -> None:
    """Every document can be told from every other.

    Raises:
        StoreRefused: a name holds half a character, which nothing can be stored under.
    """
    for state in (document.prepared.state for document in documents):
        for name in (state.source, state.key):
            if well_formed(name) != name:
                raise StoreRefused(f"{name!r} cannot be stored: it holds half a character (a lone surrogate)")


def check_vectors(documents: Sequence[Embedded], space: EmbeddingSpace) -> None:
    """Every group has a key and a vector of the space for each of its chunks.

    Raises:
        StoreRefused: one has not.
    """
    for document in documents:
        state, groups = document.prepared.state, document.prepared.groups
        if copy_of(state.row_key) and not groups and not document.vectors:
            continue
        if not len(groups) == len(state.group_keys) == len(document.vectors):
            raise StoreRefused(
                f"{state.source}/{state.key} cannot be stored: {len(groups)} groups come with "
                f"{len(state.group_keys)} keys and {len(document.vectors)} arrays of vectors"
            )
        for group, vectors in zip(groups, document.vectors, strict=True):
            _check(vectors, (len(group.chunks), space.width), space, f"{state.source}/{state.key}")


def check_groups(vectors: Mapping[str, Vectors], space: EmbeddingSpace) -> None:
    """Every group has at least one vector, and all are of the space.

    Raises:
        StoreRefused: one has not.
    """
    for group_key, array in vectors.items():
        _check(array, (max(1, len(array)), space.width), space, f"group {group_key}")


def check_question(vector: Vector, space: EmbeddingSpace) -> None:
    """The stored vectors can be compared with this one.

    Raises:
        StoreRefused: they cannot.
    """
    _check(vector, (space.width,), space, "a question's vector", "searched for")


def _check(
    array: Vectors, shape: tuple[int, ...], space: EmbeddingSpace, what: str, done: str = "stored"
) -> None:
    if array.shape != shape or array.dtype != space.dtype:
        raise StoreRefused(
            f"{what} cannot be {done}: {array.dtype} of shape {array.shape} came, "
            f"and {space} asks for {space.dtype} of shape {shape}"
        )
    if not np.isfinite(array).all():
        raise StoreRefused(f"{what} cannot be {done}: a number that is not finite stands in the vectors")
