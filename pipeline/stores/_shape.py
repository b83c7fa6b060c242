"""What may be stored at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import StoreRefused
from pipeline.records import Embedded, EmbeddingSpace


def check_vectors(documents: Sequence[Embedded], space: EmbeddingSpace) -> None:
    """Every group has a key and a vector of the space for each of its chunks.

    Raises:
        StoreRefused: one has not.
    """
    for document in documents:
        state, groups = document.prepared.state, document.prepared.groups
        if not len(groups) == len(state.group_keys) == len(document.vectors):
            raise StoreRefused(
                f"{state.source}/{state.key} cannot be stored: {len(groups)} groups come with "
                f"{len(state.group_keys)} keys and {len(document.vectors)} arrays of vectors"
            )
        for group, vectors in zip(groups, document.vectors, strict=True):
            wanted = (len(group.chunks), space.dimensions)
            if vectors.shape != wanted or vectors.dtype != np.int8:
                raise StoreRefused(
                    f"{state.source}/{state.key} cannot be stored: {vectors.dtype} vectors of shape "
                    f"{vectors.shape} came, and int8 vectors of shape {wanted} belong to it"
                )
