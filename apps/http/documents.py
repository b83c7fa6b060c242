"""/v1/documents, /v1/sources and /v1/status: what the tables hold, of what the key sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from fastapi import APIRouter, Request

from apps.http.answers import (
    ColumnModel,
    DocumentAnswer,
    SourceModel,
    SourcesAnswer,
    SpaceModel,
    StatusAnswer,
    TablesModel,
    document_answer,
)
from apps.http.asking import TheCaller, TheDesk
from apps.http.errors import ApiError
from pipeline.query_named import meant

router = APIRouter(tags=["documents"])


@router.get("/documents/{source}/{key:path}")
async def document(source: str, key: str, desk: TheDesk, caller: TheCaller) -> DocumentAnswer:
    """A document with its passages, in order."""
    stored = await desk.document(source, key, access=caller.access)
    if stored is None:
        raise ApiError(404, "there is no such document")
    return document_answer(stored)


@router.get("/sources")
async def sources(desk: TheDesk, caller: TheCaller) -> SourcesAnswer:
    """The sources, and how much there is of each; and the columns that filters can name."""
    counts = await desk.counts(access=caller.access)
    return SourcesAnswer(
        sources=[
            SourceModel(name=name, documents=documents, chunks=chunks)
            for name, (documents, chunks) in counts.items()
        ],
        columns=[ColumnModel(name=column.name, type=column.type) for column in await desk.columns()],
    )


@router.get("/status", response_model_exclude_defaults=True)
async def status(desk: TheDesk, caller: TheCaller, request: Request) -> StatusAnswer:
    """What the tables hold in all."""
    spaces, counts = await desk.spaces(), await desk.counts(access=caller.access)
    told = {name: SpaceModel(**asdict(space)) if space else None for name, space in spaces.items()}
    return StatusAnswer(
        version=request.app.version,
        space=next(iter(told.values())) if len(set(spaces.values())) == 1 else None,
        documents=sum(documents for documents, _ in counts.values()),
        chunks=sum(chunks for _, chunks in counts.values()),
        tables=[
            one
            for name, space in told.items()
            if name and ((one := _tables(name, space, counts)).documents or caller.access is None)
        ],
    )


def _tables(name: str, space: SpaceModel | None, counts: Mapping[str, tuple[int, int]]) -> TablesModel:
    own = [counted for source, counted in counts.items() if meant(source, name)]
    return TablesModel(
        name=name,
        space=space,
        documents=sum(documents for documents, _ in own),
        chunks=sum(chunks for _, chunks in own),
    )
