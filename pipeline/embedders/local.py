"""The embedded default: vectors in this process, without a key, a network or a model hub.

Half of what it knows is meaning: static word vectors, summed, 256 dimensions, out of wordllama's package
(MIT, https://github.com/dleemiller/WordLlama; its table was trained from the token codebooks of Llama 2).
The other half is wording: words and stems hashed into 768 dimensions, rare words weighing more. A chunk's
vector is then shifted towards its group's mean and towards its title and headings, so that it is contextual
as the services' are: it depends on its group, and on nothing else.

Small, fast and decent: it sees no word order and no grammar, and is no rival to the services.
`benchmarks/retrieval.py` tells how it ranks.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio.to_thread
import numpy as np
import safetensors
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipeline.embedders import _lexical, _texts
from pipeline.embedders.models import LOCAL_MODEL, limits
from pipeline.errors import ServiceRefused
from pipeline.records import EmbeddingSpace, EmbedGroup, EmbedReply, EmbedRequest, Vector, Vectors

SPACE = EmbeddingSpace(
    provider=LOCAL_MODEL.provider, model=LOCAL_MODEL.name, dimensions=LOCAL_MODEL.most_dimensions
)

# Chosen on half the questions of three retrieval sets; the other half, and four more sets, bear them out.
# Heavier headings answer questions that name them better still, and questions that quote a passage worse.
_WORDING = 1.2
_GROUP = 0.5
_HEADINGS = 0.5

_STATIC = SPACE.dimensions - _lexical.DIMENSIONS
_SATURATION = 1.2  # BM25's k1
_LEARNED = 258  # the vocabulary opens with signs and single bytes; then come words, the most frequent first
_RAREST = 32_000  # the rank of what is not in the vocabulary
_COMMON = 3.0  # up to about this rank a word says next to nothing
_EAST_ASIAN_CHARACTER = 0.5  # what one character weighs beside a pair of them

Floats = NDArray[np.float32]


class LocalEmbedder:
    """Embeds groups in this process. Satisfies `pipeline.protocols.Embedder`.

    Its limits are the services', so that what is tried here is cut and packed as it will be there.
    Construction reads the weights: ~0.15 s and 40 MB. A group's codes are the same in every request, process
    and run: each sum is taken in an order that the group alone decides, and by no matrix product.

    Raises:
        ServiceRefused: the package that carries the weights is missing or is laid out otherwise.
    """

    space = SPACE
    usd_per_million_tokens = 0.0
    recipe = ""

    def __init__(self, *, contextual: bool = True) -> None:
        """Without context, each chunk is embedded by its own text alone: to compare with."""
        self.limits = limits(contextual=contextual)
        self._contextual = contextual
        self._table, self._tokenizer = _weights()
        self._bare = self._tokenizer.token_to_id("▁")

    def reads(self, group: EmbedGroup) -> Iterator[str]:
        """The title; then of each chunk how deep it stands, the headings above it and its text.

        Of the chunks before and after, the texts: they count towards the group's mean. No lead: the title is
        read anyway. Without context, the chunk's text, with its lead.
        """
        if not self._contextual:
            yield from ("alone", *_texts.alone(group))
            return
        yield group.title
        for chunk in group.before:
            yield chunk.text
        for chunk in group.chunks:
            yield str(len(chunk.heading_path))
            yield from chunk.heading_path
            yield chunk.text
        for chunk in group.after:
            yield chunk.text

    async def embed(self, request: EmbedRequest) -> EmbedReply:
        """One array of codes, shape (chunks, 1024), for each group, in order. Works in a thread."""
        vectors = await anyio.to_thread.run_sync(lambda: tuple(map(codes, self.floats(request.groups))))
        return EmbedReply(vectors=vectors, tokens=request.tokens, cost_usd=0.0)

    async def embed_query(self, text: str) -> Vector:
        """A question's codes, shape (1024,): its own words and no context."""
        vector: Vector = (await anyio.to_thread.run_sync(lambda: codes(self._alone([text]))))[0]
        return vector

    async def aclose(self) -> None:
        """Nothing is held open."""

    def floats(self, groups: Sequence[EmbedGroup]) -> list[Floats]:
        """Each group's vectors before they are rounded to codes: shape (chunks, 1024), length 1 or 0."""
        if not self._contextual:
            return [self._alone(_texts.alone(group)) for group in groups]
        texts: dict[str, int] = {}  # to its row: headings, and what else repeats, are looked at once
        seen_rows = [[texts.setdefault(chunk.text, len(texts)) for chunk in group.seen] for group in groups]
        heading_rows = [
            [
                texts.setdefault("\n".join((group.title, *chunk.heading_path)), len(texts))
                for chunk in group.chunks
            ]
            for group in groups
        ]
        vectors = self._alone(list(texts))
        return [
            _in_context(vectors[seen], len(group.before), vectors[headings])
            for group, seen, headings in zip(groups, seen_rows, heading_rows, strict=True)
        ]

    def _alone(self, texts: Sequence[str]) -> Floats:
        """Each text for itself: unit length, or zero where it holds no word. Shape (texts, 1024)."""
        bags = [_lexical.words(text) for text in texts]
        vocabulary = list(dict.fromkeys(word for bag in bags for word in bag))
        joined = np.zeros((len(texts), SPACE.dimensions), dtype=np.float32)
        if not vocabulary:
            return joined
        place = {word: row for row, word in enumerate(vocabulary)}
        meaning = self._meaning(vocabulary)
        buckets, weights = self._wording(vocabulary)
        for row, bag in enumerate(bags):
            here = [place[word] for word in bag]
            count = np.fromiter(bag.values(), dtype=np.float32, count=len(bag))[:, None]
            joined[row, :_STATIC] = _unit((meaning[here] * np.sqrt(count)).sum(axis=0))
            saturated = weights[here] * (count / (count + _SATURATION))
            hashed = np.bincount(buckets[here].ravel(), saturated.ravel(), _lexical.DIMENSIONS)
            joined[row, _STATIC:] = _WORDING * _unit(hashed.astype(np.float32))
        return _unit(joined)

    def _meaning(self, vocabulary: Sequence[str]) -> Floats:
        """The sum of each word's static vectors, shape (words, 256)."""
        encodings = self._tokenizer.encode_batch_fast(vocabulary, add_special_tokens=False)
        pieces = [[piece for piece in encoding.ids if piece != self._bare] for encoding in encodings]
        lengths = np.array([len(ids) for ids in pieces])
        starts = np.cumsum(lengths) - lengths
        flat = np.array([piece for ids in pieces for piece in ids], dtype=np.int64)
        total = np.zeros((len(vocabulary), _STATIC), dtype=np.float32)
        for position in range(int(lengths.max())):
            reach = np.flatnonzero(lengths > position)
            total[reach] += self._table[flat[starts[reach] + position]]
        return total

    def _wording(self, vocabulary: Sequence[str]) -> tuple[NDArray[np.int64], Floats]:
        """Where each word is hashed to, and with what sign and rarity. Both of shape (words, features)."""
        buckets, signs = _lexical.features(vocabulary)
        rarity = np.array([self._rarity(word) for word in vocabulary])
        return buckets, (signs * rarity[:, None]).astype(np.float32)

    def _rarity(self, word: str) -> float:
        """By the word's rank in the vocabulary, which falls as the log of a word's frequency does."""
        token = self._tokenizer.token_to_id("▁" + word)
        rank = _RAREST if token is None else min(max(token - _LEARNED, 1), _RAREST)
        share = _EAST_ASIAN_CHARACTER if _lexical.is_east_asian_character(word) else 1.0
        return share * math.log1p(rank / _COMMON)


def _in_context(seen: Floats, before: int, headings: Floats) -> Floats:
    """A group's own chunks, shifted towards the mean of all that is seen and towards what stands above each.

    Args:
        seen: The vectors of all that is seen.
        before: How many of these come before the group's own.
        headings: The vectors of what stands above the group's own.
    """
    chunks = seen[before : before + len(headings)]
    return _unit(chunks + _GROUP * seen.mean(axis=0) + _HEADINGS * headings)


def codes(vectors: Floats) -> Vectors:
    """The vectors as int8, each stretched to the whole range: only its direction is compared.

    A zero vector, of a text without a word under no title, becomes one fixed vector: cosine needs a length.
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    stretched = np.divide(vectors * np.float32(127), largest, out=np.ones_like(vectors), where=largest > 0)
    rounded: Vectors = np.rint(stretched).astype(np.int8)
    return rounded


def _unit(vectors: Floats) -> Floats:
    """Each at length 1; zero stays zero."""
    lengths = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    unit: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def _weights() -> tuple[NDArray[np.float16], Tokenizer]:
    """The static vectors, shape (32,000, 256), and the tokenizer that they belong to.

    Read straight from the package's folder: to import it costs a second.
    """
    package = importlib.util.find_spec("wordllama")
    if package is None or not package.submodule_search_locations:
        raise ServiceRefused("local: the package wordllama, which carries the weights, is not installed")
    folder = Path(package.submodule_search_locations[0])
    try:
        with safetensors.safe_open(folder / "weights" / "l2_supercat_256.safetensors", "numpy") as weights:
            table = weights.get_tensor("embedding.weight")
        return table, Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    except Exception as error:  # the Rust readers raise bare Exception and types of their own
        raise ServiceRefused(
            f"local: the installed wordllama has no readable l2_supercat_256 weights and tokenizer "
            f"({type(error).__name__}); wordllama>=0.4,<0.5 has"
        ) from error
