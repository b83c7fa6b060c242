"""The two ends of a rebuild: tables beside the live ones, and the switch to them when they are complete."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from prefect import get_run_logger, task

from config.build import build_pipeline, removal_guard
from config.load import load_settings
from config.settings import Settings
from flows.naming import doing
from flows.retries import TRIED_AGAIN
from flows.summary import number
from pipeline.errors import RemovalsWithheld


@task(name="stage", task_run_name="stage", **TRIED_AGAIN)
async def stage(config: str) -> int:
    """Make the tables of a rebuild beside the live ones, or find those of one that was stopped.

    Returns:
        The number of their generation.

    Raises:
        StoreError: they cannot be made.
    """
    settings, logger = load_settings(Path(config)), get_run_logger()
    async with (
        build_pipeline(settings, rebuild=True) as pipeline,
        pipeline.store.lease(doing("a rebuild"), wait=_patience(settings), tell=logger.info),
    ):
        return await pipeline.store.stage()


@task(name="publish", task_run_name="publish", **TRIED_AGAIN)
async def publish(config: str, generation: int, approve_removals: int | None = None) -> None:
    """Let the tables that were built anew take the place of the live ones.

    Raises:
        StoreError: they could not; the live ones are as they were.
        RemovalsWithheld: they hold less of what is live than may be lost unasked.
    """
    settings, logger = load_settings(Path(config)), get_run_logger()
    async with (
        build_pipeline(settings, rebuild=True, generation=generation) as pipeline,
        pipeline.store.lease(doing("a rebuild's end"), wait=_patience(settings), tell=logger.info),
    ):
        may = partial(_check_switch, settings, approved=approve_removals)
        await pipeline.store.publish(sources=settings.sources, may=may)
    logger.info("the new tables are live; `docweave rollback` goes back to those before")


def _patience(settings: Settings) -> float:
    """Seconds; also where runs are to skip what is busy: to skip this would be to throw the rebuild away."""
    return settings.store.wait_minutes * 60


def _check_switch(
    settings: Settings, lost: Mapping[str, tuple[int, int]], *, approved: int | None = None
) -> None:
    """Refuse a switch that would lose more documents than an ingest may remove unasked.

    Args:
        settings: Say what that is, for each source.
        lost: Of each live source, how many documents the new tables lack, and how many it has.
        approved: How many a person allowed to be removed of each source.

    Raises:
        RemovalsWithheld: it would.
    """
    reasons: list[str] = []
    for source, (gone, stored) in lost.items():
        if source not in settings.sources:
            reasons.append(
                f"the settings no longer name {source!r} ({number(stored, 'document')}): bring it back, or "
                f"let it go by `docweave forget {source}`"
            )
        elif removal_guard(settings, source, approved=approved).withholds(gone, stored):
            reasons.append(
                f"{source!r} would lose {gone:,} of {number(stored, 'document')}: if that is meant, add "
                f"`--approve-removals {gone}`"
            )
    if reasons:
        raise RemovalsWithheld(
            f"the new tables are complete, and not switched to: {'; '.join(reasons)}. "
            "`docweave ingest --rebuild` again then costs little"
        )
