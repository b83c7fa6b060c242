"""/v1/documents, /v1/sources and /v1/status: what the tables hold, of what the key sees."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request

from apps.http.answers import (
    ColumnModel,
    DocumentAnswer,
    SourceModel,
    SourcesAnswer,
    SpaceModel,
    StatusAnswer,
    document_answer,
)
from apps.http.asking import TheCaller, TheDesk
from apps.http.errors import ApiError

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


@router.get("/status")
async def status(desk: TheDesk, caller: TheCaller, request: Request) -> StatusAnswer:
    """What the tables hold in all."""
    space, counts = await desk.space(), await desk.counts(access=caller.access)
    return StatusAnswer(
        version=request.app.version,
        space=SpaceModel(**asdict(space)) if space else None,
        documents=sum(documents for documents, _ in counts.values()),
        chunks=sum(chunks for _, chunks in counts.values()),
    )
