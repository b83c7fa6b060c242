"""Vectors laid flat: the two directions that they differ most by (principal components). Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.records import EmbeddingSpace, Vector, Vectors

Rows = NDArray[np.float32]

EXTRA, ROUNDS = 10, 6
"""Of the subspace iteration (Halko, Martinsson and Tropp, SIAM Review 2011): directions beside the two, and
how often it is repeated."""
LEAST = 1e-9
"""What is shorter has no direction."""


def mean_of(vectors: Vectors, space: EmbeddingSpace) -> Vector:
    """The direction that a document's vectors have together, each counting the same. Shape (dimensions,)."""
    rows = vectors
    if space.encoding == "binary":
        rows = np.unpackbits(vectors.astype(np.uint8), axis=1, bitorder="little").astype(np.int8) * 2 - 1
    wide = rows.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    mean: Rows = (wide / np.maximum(lengths, LEAST)).mean(axis=0)
    unit: Rows = mean / max(float(np.linalg.norm(mean)), LEAST)
    return unit


def flat(rows: Rows) -> tuple[Rows, tuple[float, float]]:
    """Places of these rows, -1 … 1 each way, and the share of the variance that each direction holds.

    The same rows always have the same places.

    Returns:
        Shape (rows, 2), and two shares of 1.
    """
    centred = rows - rows.mean(axis=0) if len(rows) else rows
    total = float((centred**2).sum())
    if len(rows) < 2 or total < LEAST:
        return np.zeros((len(rows), 2), np.float32), (0.0, 0.0)
    basis = _directions(centred)
    left, strengths, _ = np.linalg.svd(centred @ basis, full_matrices=False)
    places = np.zeros((len(rows), 2), np.float32)
    found = min(2, left.shape[1])
    places[:, :found] = left[:, :found] * strengths[:found]
    for axis in range(2):
        farthest = places[np.argmax(np.abs(places[:, axis])), axis]
        if abs(farthest) > LEAST:
            places[:, axis] /= farthest  # which makes it 1, so that no direction is mirrored by chance
    shares = [*(strengths[:2] ** 2 / total), 0.0, 0.0]
    return places, (round(float(shares[0]), 4), round(float(shares[1]), 4))


def _directions(centred: Rows) -> Rows:
    """Those that the rows lie in most. Shape (dimensions, a few)."""
    few = min(2 + EXTRA, *centred.shape)
    start = np.random.default_rng(0).standard_normal((centred.shape[1], few), np.float32)
    basis: Rows = np.linalg.qr(start)[0]
    for _ in range(ROUNDS):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    return basis
