"""Vectors without meaning: digests of what a model would read, and of nothing else.

Those of a contextual model depend on the whole group, in order; those of any other on the text alone. Fewer
dimensions are a prefix of more, and bits are the signs of the codes, as with the real models. None is of unit
length, so that a client that forgets to normalise is found out.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.int8]

SEPARATOR = "<|endoftext|>"
_SCALE = 1000  # a float is a 16-bit number divided by this


def vectors_of(texts: Sequence[str], *, model: str, dimensions: int) -> Codes:
    """What a contextual model gives for a group: shape (chunks, dimensions).

    The chunks are joined by the separator and read as one, as the model does: a literal separator within a
    text shifts every vector after it.
    """
    joined = SEPARATOR.join(texts)
    whole = hashlib.sha256(f"{model}\n{joined}".encode()).digest()
    vectors = np.empty((len(texts), dimensions), dtype=np.int8)
    spans = joined.split(SEPARATOR)[: len(texts)]
    for place, span in enumerate(spans):
        # An extendable digest: fewer dimensions are a prefix of more.
        state = hashlib.shake_256(whole + place.to_bytes(4, "little") + span.encode())
        vectors[place] = np.frombuffer(state.digest(dimensions), dtype=np.int8)
    return np.maximum(vectors, -127)  # int8 = round(tanh(x) * 127) has no -128


def flat_vectors_of(texts: Sequence[str], *, model: str, dimensions: int) -> Codes:
    """What a model without context gives: shape (texts, dimensions), each row by its own text alone."""
    vectors = np.empty((len(texts), dimensions), dtype=np.int8)
    for place, text in enumerate(texts):
        state = hashlib.shake_256(f"{model}\n{text}".encode())
        vectors[place] = np.frombuffer(state.digest(dimensions), dtype=np.int8)
    return np.maximum(vectors, -127)


def float_vectors_of(
    texts: Sequence[str], *, model: str, dimensions: int, input_type: str = ""
) -> NDArray[np.float32]:
    """What a model behind OpenRouter gives: shape (texts, dimensions), far from unit length."""
    steps = steps_of(texts, model=model, dimensions=dimensions, input_type=input_type)
    return steps_as_floats(steps)


def steps_as_floats(steps: NDArray[np.int16]) -> NDArray[np.float32]:
    """The numbers that `json_of` writes out, as a reader of 32-bit floats sees them."""
    return (steps / _SCALE).astype(np.float32)


def base64_of(vector: NDArray[np.generic]) -> str:
    """The vector's bytes, as JSON text."""
    return f'"{base64.b64encode(vector.tobytes()).decode()}"'


def bits_of(vectors: Codes) -> NDArray[np.uint8]:
    """Eight dimensions to a byte, the least significant bit first; set where the code is not negative."""
    return np.packbits(vectors >= 0, axis=1, bitorder="little")


def json_of(steps: NDArray[np.int16]) -> str:
    """A vector as a JSON array of numbers.

    Each number has its eight bytes in a table, blanks included: a repr for each would cost the service more
    than all the rest together.
    """
    written = _table()[steps.view(np.uint16)].tobytes()
    return f"[{written[:-1].decode('ascii')}]"


def steps_of(texts: Sequence[str], *, model: str, dimensions: int, input_type: str) -> NDArray[np.int16]:
    """What `float_vectors_of` gives, in thousandths."""
    steps = np.empty((len(texts), dimensions), dtype=np.int16)
    for place, text in enumerate(texts):
        state = hashlib.shake_256(f"{model}\n{input_type}\n{text}".encode())
        steps[place] = np.frombuffer(state.digest(2 * dimensions), dtype="<i2")
    return steps


@cache
def _table() -> NDArray[np.uint64]:
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
    return np.frombuffer(b"".join(b"%7.3f," % (n / _SCALE) for n in numbers.tolist()), dtype=np.uint64)
