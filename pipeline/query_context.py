"""The best context that fits in so many tokens, in the documents' order, with what each part is cited by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.query import Found, Question
from pipeline.query_around import joined
from pipeline.query_rank import Place, place_of
from pipeline.records import Hit

CANDIDATES = 50
"""Hits that are looked at, best first."""
Count = Callable[[str], int]
"""Tokens of a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """A passage of a document: chunks that follow each other, at least one of which answers."""

    number: int
    """It is cited by: [1]. Counted from 1, in the order of the context."""
    chunks: tuple[Hit, ...]
    answers: tuple[Hit, ...]
    """Those of its chunks that are hits, the best first."""

    @property
    def text(self) -> str:
        """All of it."""
        return joined(self.chunks)

    @property
    def heading(self) -> str:
        """The title, the headings that all its chunks stand under, and the page."""
        first = self.chunks[0]
        shared = [
            step
            for depth, step in enumerate(first.heading_path)
            if all(one.heading_path[: depth + 1] == first.heading_path[: depth + 1] for one in self.chunks)
        ]
        steps = " › ".join(dict.fromkeys(step for step in [first.title, *shared] if step))
        return f"{steps} (page {first.page})" if first.page is not None else steps

    @property
    def where(self) -> str:
        """Its link, or where it stands."""
        first = self.chunks[0]
        if first.url and first.url.startswith(("https:", "http:")):
            return first.url
        return f"{first.source}/{first.key}"

    @property
    def block(self) -> str:
        """As it stands in the context."""
        heading, where = (" ".join(line.split()) for line in (self.heading, self.where))
        return f"[{self.number}] {heading}\n{where}\n\n{self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is put in front of a language model beside the question."""

    passages: tuple[Cited, ...]
    text: str
    """The passages' blocks, with what they are cited by."""
    tokens: int
    """Of all the text."""
    reranked: bool


def candidates(question: Question) -> Question:
    """What is asked to get a context: more hits than fit, and no text twice."""
    return replace(question, limit=CANDIDATES, offset=0, deduplicate=True)


def fitted(found: Found, *, tokens: int, count: Count) -> Context:
    """As much of these hits as fits. Pure.

    They are taken best first, each with what it is widened to if that fits, by itself if not; one that does
    not fit is passed over for a shorter one. Then they stand as in their documents, the document with the
    best hit first.

    Args:
        found: The hits for `candidates`.
        tokens: The most that the whole text may have.
        count: Counts them.
    """
    taken = _taken(found, tokens, count)
    while True:
        passages = _passages(found.hits, taken)
        text = "\n\n".join(one.block for one in passages)
        counted = count(text) if text else 0
        if counted <= tokens:
            return Context(passages=passages, text=text, tokens=counted, reranked=found.reranked)
        taken.popitem()  # the last that was taken is the least of them


def _taken(found: Found, tokens: int, count: Count) -> dict[Place, tuple[Hit, ...]]:
    """The hits that fit, best first, each with the chunks that it brings."""
    taken: dict[Place, tuple[Hit, ...]] = {}
    held: set[Place] = set()
    left = tokens
    for hit in found.hits:
        for chunks in (found.around.get(place_of(hit), (hit,)), (hit,)):
            new = [one for one in chunks if place_of(one) not in held]
            cited = Cited(number=99, chunks=tuple(chunks), answers=())
            beside = count(f"{cited.heading}\n{cited.where}\n\n\n\n[99] ") if new else 0
            needed = sum(one.tokens for one in new) + beside
            if needed <= left:
                taken[place_of(hit)] = chunks
                held |= {place_of(one) for one in new}
                left -= needed
                break
    return taken


def _passages(hits: Sequence[Hit], taken: Mapping[Place, tuple[Hit, ...]]) -> tuple[Cited, ...]:
    """Runs of chunks without a gap, document by document."""
    documents: dict[tuple[str, str], dict[int, Hit]] = {}
    for chunks in taken.values():
        for one in chunks:
            documents.setdefault((one.source, one.key), {}).setdefault(one.ordinal, one)
    cited: list[Cited] = []
    for chunks_of in documents.values():
        for run in _runs(sorted(chunks_of.values(), key=lambda one: one.ordinal)):
            asked_for = {place_of(one) for one in run} & taken.keys()
            answers = tuple(hit for hit in hits if place_of(hit) in asked_for)
            cited.append(Cited(number=len(cited) + 1, chunks=tuple(run), answers=answers))
    return tuple(cited)


def _runs(chunks: Iterable[Hit]) -> list[list[Hit]]:
    runs: list[list[Hit]] = []
    for one in chunks:
        if runs and runs[-1][-1].ordinal + 1 == one.ordinal:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs
