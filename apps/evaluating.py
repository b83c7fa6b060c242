"""What `docweave eval` does: build what a variant needs, ask it every question, and say how it did."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

from config.build import build_embedder, build_pipeline, connectors, open_reader, patience, removal_guard
from config.evaluation import VariantSettings
from config.load import load_settings
from config.settings import Settings
from pipeline.errors import SettingsError
from pipeline.judge import (
    Estimate,
    Expected,
    JudgedQuestion,
    PerQuestion,
    compared,
    estimate,
    measured,
    ranked,
)
from pipeline.protocols import Reader
from pipeline.query import Mode, Question, Weights, search
from pipeline.query_desk import Asked
from pipeline.records import JsonValue
from pipeline.stored import Stored

SPREAD = 3
"""Places of a ranking come of so many times as many hits: several chunks of a document share one."""
_PASSAGE_WORDS = 12
"""Of the passage that a drafted question expects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one variant did."""

    name: str
    values: Mapping[str, PerQuestion]
    """Of each measure, by question."""
    missed: Sequence[JudgedQuestion]
    """Those of which nothing expected was found."""

    def estimates(self) -> dict[str, Estimate]:
        """Of each measure, the mean over the questions."""
        return {name: estimate(values) for name, values in self.values.items()}

    def gains(self, first: Outcome) -> dict[str, Estimate]:
        """Of each measure, how much more it is than the first variant's."""
        return compared(self.values, first.values)

    def as_json(self, first: Outcome) -> dict[str, JsonValue]:
        """All of it, for a program to read."""
        return {
            "variant": self.name,
            "measures": {name: asdict(one) for name, one in self.estimates().items()},
            "gains": {name: asdict(one) for name, one in self.gains(first).items()}
            if self is not first
            else {},
            "missed": [question.text for question in self.missed],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where variants are built."""

    config: Path
    """The settings that they differ from."""
    folder: Path
    """Keeps their tables, so that a second evaluation builds only what has changed."""
    pay: bool
    """Whether a variant may cost money."""
    tell: Callable[[str], None]
    _asked: dict[str, Asked] = field(default_factory=dict)
    """What embeds the questions, by the settings of the embedder."""

    def asked(self, settings: Settings) -> Asked:
        """What embeds the questions: variants whose vectors are the same share it, and each is embedded once.

        Raises:
            SettingsError: as `build_embedder`.
        """
        said = settings.embedding.model_dump_json()
        if said not in self._asked:
            self._asked[said] = Asked(build_embedder(settings))
        return self._asked[said]

    async def aclose(self) -> None:
        """Give back what embeds the questions."""
        for asked in self._asked.values():
            await asked.embedder.aclose()

    async def settings(self, name: str, variant: VariantSettings) -> Settings:
        """The variant's, with its tables up to date.

        Raises:
            SettingsError: they cannot be meant, or would cost money unasked.
            DocweaveError: the tables cannot be built.
        """
        if not variant.settings:
            return load_settings(self.config)
        said = json.dumps(variant.settings, sort_keys=True)
        digest = hashlib.blake2b(said.encode(), digest_size=6).hexdigest()
        tables: dict[str, JsonValue] = {"store": {"uri": str(self.folder / digest)}}
        settings = load_settings(self.config, {**variant.settings, **tables})
        if not self.pay:
            await _refuse_to_pay(name, settings)
        await self._build(name, settings)
        return settings

    async def _build(self, name: str, settings: Settings) -> None:
        from pipeline.ingest import ingest_source  # noqa: PLC0415 - brings parsers: other variants search only

        async with build_pipeline(settings) as pipeline:
            for connector, metadata in connectors(settings):
                source = connector.source
                self.tell(f"{name}: building {source}")
                doing = f"evaluating {name}"
                async with pipeline.store.lease(doing, wait=patience(settings), tell=self.tell):
                    report = await ingest_source(
                        connector, pipeline, metadata=metadata, guard=removal_guard(settings, source)
                    )
                if report.failures:
                    self.tell(f"{name}: {len(report.failures)} documents of {source} failed")


async def _refuse_to_pay(name: str, settings: Settings) -> None:
    from pipeline.ingest import plan_source  # noqa: PLC0415 - as above

    cost = 0.0
    async with build_pipeline(settings) as pipeline:
        if not pipeline.embedder.usd_per_million_tokens:
            return
        for connector, metadata in connectors(settings):
            cost += (await plan_source(connector, pipeline, metadata=metadata)).cost_usd
    if cost:
        raise SettingsError(f"to build {name!r} would cost about ${cost:,.4f}: add --yes")


async def evaluate(
    name: str,
    variant: VariantSettings,
    questions: Sequence[JudgedQuestion],
    *,
    workshop: Workshop,
    limit: int,
) -> Outcome:
    """Ask the variant every question.

    Raises:
        DocweaveError: it cannot be built, or asked.
    """
    settings = await workshop.settings(name, variant)
    reader = await open_reader(settings)
    embedder = None if variant.mode is Mode.TEXT else workshop.asked(settings)
    put = Question(
        text="",
        mode=variant.mode,
        limit=limit * SPREAD,
        fusion=variant.fusion,
        weights=Weights(vector=variant.vector_weight, text=variant.text_weight),
    )
    rankings = [
        ranked(question, await search(reader, embedder, replace(put, text=question.text)))[:limit]
        for question in questions
    ]
    found = [any(place.isdecimal() for place in ranking) for ranking in rankings]
    return Outcome(
        name=name,
        values=measured(questions, rankings, [f"R@{limit}", f"nDCG@{limit}", "RR"]),
        missed=[question for question, any_found in zip(questions, found, strict=True) if not any_found],
    )


async def drafted(reader: Reader, count: int, *, seed: int) -> list[JudgedQuestion]:
    """Questions made of the documents' own headings: to be rewritten as people would ask.

    The same tables and seed give the same questions.

    Raises:
        StoreError: the tables cannot be read.
    """
    places = [(source, key) for source in await reader.sources() for key in sorted(await reader.keys(source))]
    random.Random(seed).shuffle(places)  # noqa: S311 - a choice, no secret
    found: list[JudgedQuestion] = []
    async for question in _drafts(reader, places):
        found.append(question)
        if len(found) == count:
            break
    return found


async def _drafts(reader: Reader, places: Sequence[tuple[str, str]]) -> AsyncIterator[JudgedQuestion]:
    rest = iter(places)
    while some := list(islice(rest, 50)):
        for source in dict.fromkeys(source for source, _ in some):
            keys = [key for other, key in some if other == source]
            async for document in reader.stored(source, keys):
                if question := _draft(document):
                    yield question


def _draft(document: Stored) -> JudgedQuestion | None:
    """A question about a chunk that stands under a heading of its own."""
    headed = [row for row in document.chunks if len(row.chunk.heading_path) > 1]
    if not headed:
        return None
    row = headed[len(document.key) % len(headed)]
    heading = row.chunk.heading_path[-1]
    passage = " ".join(_below(heading, row.chunk.text).split()[:_PASSAGE_WORDS])
    if not passage:
        return None
    title = row.about.title
    text = heading if title.lower() in heading.lower() else f"{title}: {heading}"
    return JudgedQuestion(
        text=text, expected=(Expected(source=document.source, key=document.key, passage=passage),)
    )


def _below(heading: str, text: str) -> str:
    """What follows the heading in a chunk, which may begin with what stands above it."""
    lines = text.splitlines()
    last = max((number for number, line in enumerate(lines) if heading in line), default=-1)
    return "\n".join(lines[last + 1 :])
