"""What is answered under /v1: as it stands in the OpenAPI description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from pipeline.query import Found, Mode
from pipeline.query_around import joined
from pipeline.query_context import Cited, Context
from pipeline.query_highlight import ranges
from pipeline.query_rank import place_of
from pipeline.records import Hit
from pipeline.stored import Stored


class AroundModel(BaseModel):
    """Chunks of a document that follow each other."""

    first: int = Field(description="The ordinal of the first.")
    last: int
    start: int = Field(description="In characters of the document's parsed text.")
    end: int
    tokens: int
    text: str


class HitModel(BaseModel):
    """A passage that answers, and where it stands."""

    rank: int = Field(description="Counted from 1, over all pages.")
    source: str
    key: str = Field(description="The document's identity within its source, such as its path.")
    ordinal: int = Field(description="The passage's place in the document, counted from 0.")
    title: str
    heading_path: list[str] = Field(description="The headings above it, outermost first.")
    page: int | None = Field(description="Page, slide or sheet, counted from 1, where the format has any.")
    start: int = Field(description="In characters of the document's parsed text.")
    end: int
    line: int | None = Field(
        description="The line of the source's file on which it begins, counted from 1: of Markdown, plain "
        "text and code."
    )
    last_line: int | None = Field(description="The line on which it ends.")
    url: str | None = Field(
        description="Where a person can open the document; at the passage, where the source links to lines."
    )
    document: str = Field(description="Where this API has all of it.")
    media_type: str
    tokens: int = Field(description="Of its text, as the embedding model counts them.")
    text: str
    score: float = Field(description="What the search ranks by; comparable within one answer only.")
    similarity: float | None = Field(
        description="The cosine of the question's vector and its own: on one scale for all questions."
    )
    rerank_score: float | None = Field(description="What the reranker gave it.")
    vector_rank: int | None = Field(description="Its place among the results by meaning.")
    text_rank: int | None = Field(description="Its place among the results by words.")
    metadata: dict[str, JsonValue]
    highlights: list[tuple[int, int]] | None = Field(
        description="Where words of the question stand in its text: characters from, to. If asked for."
    )
    around: AroundModel | None = Field(description="What it was widened to, itself among it. If asked for.")


class SearchAnswer(BaseModel):
    """A page of hits, best first."""

    question: str
    mode: Mode
    hits: list[HitModel]
    more: bool = Field(description="Whether there are hits after these.")
    reranked: bool = Field(description="Whether a reranker has ordered them.")


class PassageModel(BaseModel):
    """A passage of a context, and what it is cited by."""

    number: int = Field(description="It stands in the context as [1], [2] …")
    source: str
    key: str
    title: str
    heading: str = Field(description="Title, headings and page, in one line.")
    url: str | None
    document: str = Field(description="Where this API has all of it.")
    page: int | None = Field(description="That it begins on.")
    first: int = Field(description="The ordinals of its chunks.")
    last: int
    start: int
    end: int
    text: str
    score: float = Field(description="Of the best hit in it.")
    similarity: float | None = Field(description="Of the best hit in it.")


class ContextAnswer(BaseModel):
    """What is put before a language model beside the question."""

    question: str
    tokens: int = Field(description="Of the text, in the vocabulary of the embedding models.")
    text: str = Field(description="The passages as they are cited: [1] heading, link, text.")
    passages: list[PassageModel] = Field(
        description="In the documents' order; the document with the best hit first."
    )
    reranked: bool


class ChunkModel(BaseModel):
    """A passage of a document."""

    ordinal: int
    start: int
    end: int
    tokens: int
    heading_path: list[str]
    page: int | None
    text: str


class DocumentAnswer(BaseModel):
    """A document as it is stored, with its passages in order."""

    source: str
    key: str
    title: str
    url: str | None
    media_type: str
    metadata: dict[str, JsonValue]
    updated_at: datetime | None = Field(description="When its rows were last written.")
    tokens: int = Field(description="Of its passages, as the embedding model counts them.")
    chunks: list[ChunkModel]


class SourceModel(BaseModel):
    """What is stored of a source."""

    name: str
    documents: int
    chunks: int


class ColumnModel(BaseModel):
    """A column that filters can name."""

    name: str
    type: Literal["text", "integer", "number", "date", "boolean", "list"]


class SourcesAnswer(BaseModel):
    """The sources of which the key sees any document, and the columns that filters can name."""

    sources: list[SourceModel]
    columns: list[ColumnModel]


class SpaceModel(BaseModel):
    """What the stored vectors may be compared with."""

    provider: str
    model: str
    dimensions: int
    encoding: Literal["int8", "binary", "float16"]


class TablesModel(BaseModel):
    """The tables of one settings file."""

    name: str = Field(description="The names of their sources begin with it, and a dot.")
    space: SpaceModel | None
    documents: int
    chunks: int


class StatusAnswer(BaseModel):
    """What the tables hold that the key sees."""

    version: str = Field(description="Of Docweave.")
    space: SpaceModel | None = Field(description="None while nothing is stored, or where there are several.")
    documents: int
    chunks: int
    tables: list[TablesModel] = Field(
        default=[], description="Those of each settings file, where several are asked."
    )


class HealthAnswer(BaseModel):
    """All is well."""

    status: Literal["ok"]


class ErrorModel(BaseModel):
    """Why there is no answer."""

    code: str = Field(examples=["invalid_request"])
    message: str = Field(examples=["limit: Input should be less than or equal to 100"])


class ErrorAnswer(BaseModel):
    """Any request may be answered so, with the status that fits."""

    error: ErrorModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the hits of an answer are told with."""

    question: str
    offset: int
    highlights: bool


def document_path(source: str, key: str) -> str:
    """Where this API has a document."""
    return f"/v1/documents/{quote(source, safe='')}/{quote(key, safe='/')}"


def passage_id(hit: Hit) -> str:
    """Names the passage: the same one in every answer."""
    return f"{hit.source}/{hit.key}#{hit.ordinal}"


def hit_models(found: Found, page: Page) -> list[HitModel]:
    """The hits as they are told. They are ours, and valid: they are not checked again."""
    return [
        _hit(rank, hit, page, found.around.get(place_of(hit), ()))
        for rank, hit in enumerate(found.hits, start=page.offset + 1)
    ]


def _hit(rank: int, hit: Hit, page: Page, around: Sequence[Hit]) -> HitModel:
    return HitModel.model_construct(
        rank=rank,
        source=hit.source,
        key=hit.key,
        ordinal=hit.ordinal,
        title=hit.title,
        heading_path=list(hit.heading_path),
        page=hit.page,
        start=hit.start,
        end=hit.end,
        line=hit.line,
        last_line=hit.last_line,
        url=hit.url,
        document=document_path(hit.source, hit.key),
        media_type=hit.media_type,
        tokens=hit.tokens,
        text=hit.text,
        score=hit.score,
        similarity=hit.similarity,
        rerank_score=hit.rerank_score,
        vector_rank=hit.vector_rank,
        text_rank=hit.text_rank,
        metadata=dict(hit.metadata),
        highlights=ranges(hit.text, page.question) if page.highlights else None,
        around=_around(around) if around else None,
    )


def _around(chunks: Sequence[Hit]) -> AroundModel:
    return AroundModel.model_construct(
        first=chunks[0].ordinal,
        last=chunks[-1].ordinal,
        start=chunks[0].start,
        end=chunks[-1].end,
        tokens=sum(one.tokens for one in chunks),
        text=joined(chunks),
    )


def context_answer(question: str, context: Context) -> ContextAnswer:
    """A context as it is told."""
    return ContextAnswer.model_construct(
        question=question,
        tokens=context.tokens,
        text=context.text,
        passages=[passage_model(one) for one in context.passages],
        reranked=context.reranked,
    )


def passage_model(cited: Cited) -> PassageModel:
    """A passage as it is told."""
    first, last = cited.chunks[0], cited.chunks[-1]
    best = cited.answers[0] if cited.answers else first
    return PassageModel.model_construct(
        number=cited.number,
        source=first.source,
        key=first.key,
        title=first.title,
        heading=cited.heading,
        url=first.url,
        document=document_path(first.source, first.key),
        page=first.page,
        first=first.ordinal,
        last=last.ordinal,
        start=first.start,
        end=last.end,
        text=cited.text,
        score=best.score,
        similarity=best.similarity,
    )


def document_answer(stored: Stored) -> DocumentAnswer:
    """A stored document as it is told."""
    about = stored.marks[0].about if stored.marks else stored.chunks[0].about
    return DocumentAnswer.model_construct(
        source=stored.source,
        key=stored.key,
        title=about.title,
        url=about.url,
        media_type=about.media_type,
        metadata=dict(about.metadata),
        updated_at=stored.marks[0].updated_at if stored.marks else None,
        tokens=sum(row.chunk.tokens for row in stored.chunks),
        chunks=[
            ChunkModel.model_construct(
                ordinal=row.chunk.ordinal,
                start=row.chunk.start,
                end=row.chunk.end,
                tokens=row.chunk.tokens,
                heading_path=list(row.chunk.heading_path),
                page=row.chunk.page,
                text=row.chunk.text,
            )
            for row in stored.chunks
        ],
    )
