"""Whether the process lives, and whether it can answer. Neither asks for a key, nor tells anything else."""

from __future__ import annotations

from fastapi import APIRouter

from apps.http.answers import HealthAnswer
from apps.http.asking import TheDesk
from apps.http.errors import ApiError
from pipeline.errors import DocweaveError

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> HealthAnswer:
    """The process lives."""
    return HealthAnswer(status="ok")


@router.get("/readyz")
async def readyz(desk: TheDesk) -> HealthAnswer:
    """The tables answer, and hold something: 503 until then."""
    try:
        spaces = await desk.spaces()
    except DocweaveError as error:
        error.tables = ""  # whoever asks here has no key
        raise
    if None in spaces.values():
        raise ApiError(503, "nothing is stored yet")
    return HealthAnswer(status="ok")
