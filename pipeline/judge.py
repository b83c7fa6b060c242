"""How good a ranking of hits is, by what a person says should be found. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Hit

RESAMPLES = 10_000
"""Of a bootstrap (Efron 1979)."""
SURENESS = 0.95

PerQuestion = NDArray[np.float64]
"""A measure's value for each question. Shape (questions,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A document that should be found, or a passage of it."""

    key: str
    source: str | None = None
    """None: whichever source has the key."""
    passage: str | None = None
    """Words that stand in the chunk. None: any chunk of the document will do."""

    def is_met_by(self, hit: Hit) -> bool:
        """Whether the hit is what was expected. White space does not count."""
        if hit.key != self.key or self.source not in {None, hit.source}:
            return False
        return self.passage is None or _words(self.passage) in _words(hit.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedQuestion:
    """A question, and what should be found by it."""

    text: str
    expected: tuple[Expected, ...]

    @property
    def asks_for_documents(self) -> bool:
        """Whether documents are expected, and no passages: then several chunks of one count as one."""
        return all(one.passage is None for one in self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over questions, and between which values it lies as far as so few questions tell."""

    mean: float
    low: float
    high: float


def ranked(question: JudgedQuestion, hits: Iterable[Hit]) -> list[str]:
    """A name for each place of the ranking: the number of what is expected there, or that of a miss.

    What is expected and stands there already takes no place again; nor does a document, where documents are
    asked for.
    """
    places: dict[str, None] = {}
    for hit in hits:
        met = [str(number) for number, one in enumerate(question.expected) if one.is_met_by(hit)]
        miss = f"{hit.source}/{hit.key}" + ("" if question.asks_for_documents else f"#{hit.ordinal}")
        for name in met or [f"miss {miss}"]:
            places.setdefault(name)
    return list(places)


def measured(
    questions: Sequence[JudgedQuestion], rankings: Sequence[Sequence[str]], measures: Sequence[str]
) -> dict[str, PerQuestion]:
    """Each measure's values, by its name as ir-measures has it: "nDCG@10", "R@5", "RR".

    Raises:
        ModuleNotFoundError: ir-measures is not installed.
    """
    import ir_measures  # noqa: PLC0415 - in an extra

    wanted = {
        str(number): {str(place): 1 for place in range(len(question.expected))}
        for number, question in enumerate(questions)
    }
    found = {
        str(number): {name: float(-place) for place, name in enumerate(ranking)}
        for number, ranking in enumerate(rankings)
    }
    parsed = {ir_measures.parse_measure(name): name for name in measures}
    values = {name: np.zeros(len(questions)) for name in measures}
    for value in ir_measures.iter_calc(list(parsed), wanted, found):
        values[parsed[value.measure]][int(value.query_id)] = value.value
    return values


def estimate(values: PerQuestion) -> Estimate:
    """The mean, and the bounds of a 95 % bootstrap over the questions: the same for the same values."""
    rng = np.random.default_rng(0)
    means = np.concatenate(
        [
            values[rng.integers(len(values), size=(some, len(values)))].mean(axis=1)
            for some in _in_parts(RESAMPLES, at_most=max(1, 2_000_000 // len(values)))
        ]
    )
    low, high = np.quantile(means, [(1 - SURENESS) / 2, (1 + SURENESS) / 2])
    return Estimate(mean=float(values.mean()), low=float(low), high=float(high))


def compared(values: Mapping[str, PerQuestion], against: Mapping[str, PerQuestion]) -> dict[str, Estimate]:
    """Of each measure, how much more it is question by question: sure where low and high have one sign."""
    return {name: estimate(values[name] - against[name]) for name in values}


def _in_parts(total: int, *, at_most: int) -> list[int]:
    whole, rest = divmod(total, at_most)
    return [at_most] * whole + ([rest] if rest else [])


def _words(text: str) -> str:
    return " ".join(text.split())
