"""What is asked under /v1: as it stands in the OpenAPI description. `answers` has what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from config.problems import nearest
from pipeline.errors import SettingsError
from pipeline.query import Fusion, Mode, Question, Weights
from pipeline.query_around import Around
from pipeline.query_desk import Access, Desk
from pipeline.records import Filter
from pipeline.where import LONGEST, names_columns, parse

LONGEST_QUESTION = 4_000
MOST_HITS = 100
DEEPEST = 1_000
"""The last hit that any page reaches."""

Name = Annotated[str, Field(min_length=1, max_length=200)]

QUESTION = "How many days of parental leave do I have?"
WHERE = "source = handbook and year >= 2024 and not path ~ 'drafts/**'"


_UNKNOWN = "unknown_option"
_GUESSES, _GUESSED = 5, 50
"""Of so many unknown fields, by so much of their names, it is guessed what was meant: there may be many."""


class Request(BaseModel):
    """Something that is asked: what is not known is refused, with what is."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Self:
        """The request of these fields, for those that do not come by HTTP.

        Raises:
            SettingsError: one of them is unknown or out of its range.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"]))
            colon = "" if first["type"] == _UNKNOWN else ":"
            raise SettingsError(f"{name}{colon} {first['msg']}") from None

    @model_validator(mode="wrap")
    @classmethod
    def _say_what_is_known(cls, given: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(given)
        except ValidationError as error:
            found = error.errors(include_url=False)
            if all(one["type"] != "extra_forbidden" for one in found):
                raise
            unknown = [str(one["loc"][0]) for one in found if one["type"] == "extra_forbidden"]
            said = {name: nearest(name[:_GUESSED], cls.model_fields) for name in unknown[:_GUESSES]}
            said[unknown[0]] = f"; valid: {', '.join(cls.model_fields)}{said[unknown[0]]}"  # once is enough
            told = [InitErrorDetails(type=_told(one, said), loc=one["loc"], input=None) for one in found]
            raise ValidationError.from_exception_data(cls.__name__, told, hide_input=True) from None


def _told(one: ErrorDetails, said: Mapping[str, str]) -> PydanticCustomError:
    kind, message = one["type"], one["msg"]
    if kind == "extra_forbidden":
        kind, message = _UNKNOWN, f"is no option{said.get(str(one['loc'][0]), '')}"
    return PydanticCustomError(kind, message)


class QuestionRequest(Request):
    """A question, and which passages may answer it."""

    question: str = Field(
        min_length=1,
        max_length=LONGEST_QUESTION,
        pattern=r"\S",
        description="A question, or words.",
        examples=[QUESTION],
    )
    mode: Mode = Field(
        default=Mode.HYBRID,
        description="hybrid: by meaning and words, fused; vector: by meaning; text: by words.",
    )
    sources: list[Name] = Field(default=[], max_length=100, description="Only of these; all if left out.")
    where: str = Field(
        default="",
        max_length=LONGEST,
        description="A filter: tests of source, path, title, url, type, page, columns or metadata, joined by "
        "and, or, not. docs/search.md has the language.",
        examples=["", WHERE],
    )
    fusion: Fusion = Field(
        default="scores",
        description="How hybrid makes one order of two. scores: by how good each hit is among those that its "
        "side finds; rrf: by rank alone.",
    )
    vector_weight: float = Field(
        default=Weights().vector, ge=0, le=100, description="What is found by meaning counts so much."
    )
    text_weight: float = Field(
        default=Weights().text, ge=0, le=100, description="What is found by words counts so much."
    )
    min_score: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Only hits of at least this relevance: the reranker's score, or else the similarity.",
    )
    per_document: int | None = Field(
        default=None, ge=1, le=MOST_HITS, description="At most so many hits of one document."
    )
    diversity: float = Field(
        default=0, ge=0, le=1, description="How much a hit is held back for being like a better one."
    )
    around: Literal["nothing", "chunks", "section", "page"] = Field(
        default="nothing",
        description="What is given beside each hit: the chunks beside it, those under the same headings, or "
        "those of its page.",
    )
    around_chunks: int = Field(default=1, ge=1, le=20, description="With around=chunks: to each side.")
    rerank: bool = Field(
        default=True, description="Whether a reranker is asked, where the settings have one."
    )

    async def put_to(self, desk: Desk, access: Access) -> Question:
        """What is asked of the desk's tables, by somebody with these labels.

        Raises:
            SettingsError: the filter cannot be meant.
            StoreError: the tables cannot be read.
        """
        columns = await desk.columns(self.sources) if names_columns(self.where) else ()
        return Question(
            text=self.question,
            mode=self.mode,
            where=Filter(sources=tuple(self.sources), clause=parse(self.where, columns), access=access),
            fusion=self.fusion,
            weights=Weights(vector=self.vector_weight, text=self.text_weight),
            min_score=self.min_score,
            per_document=self.per_document,
            diversity=self.diversity,
            around=Around(unit=self.around, chunks=self.around_chunks),
            rerank=self.rerank,
        )


class SearchRequest(QuestionRequest):
    """A question, and which page of its hits is wanted."""

    limit: int = Field(default=10, ge=1, le=MOST_HITS, description="How many hits.")
    offset: int = Field(
        default=0, ge=0, le=DEEPEST - MOST_HITS, description="So many of the best are passed over."
    )
    deduplicate: bool = Field(
        default=False, description="Of several passages with the same text, the best alone."
    )
    highlights: bool = Field(default=False, description="Whether hits say where the question's words stand.")

    async def put_to(self, desk: Desk, access: Access) -> Question:
        """As of any question, with the page that is wanted."""
        question = await super().put_to(desk, access)
        return replace(question, limit=self.limit, offset=self.offset, deduplicate=self.deduplicate)


class ContextRequest(QuestionRequest):
    """A question, and how much may be said to it."""

    tokens: int = Field(
        default=4_000, ge=50, le=200_000, description="The most that the whole context may have."
    )
