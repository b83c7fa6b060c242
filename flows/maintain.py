"""The flow that looks after the tables: to be scheduled where nobody searches much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from config.build import maintain as maintained
from config.load import load_settings
from flows import upkeep_words
from flows.jitter import begin_within
from flows.observed import begin
from flows.secrets import know_blocks
from pipeline.errors import DocweaveError, StoreBusy

know_blocks()


@flow(name="maintain", persist_result=False, retries=0)
async def maintain(config: str, start_within: float = 0) -> State[Any]:
    """Compact the tables, make and extend their indexes, and clear away what nobody needs any more.

    Waits while another run writes the tables, as the settings say; with `when_busy: skip` it leaves them to
    the next time. To do it twice is to do it once.

    Args:
        config: The path of the YAML settings.
        start_within: Seconds. The run begins after a random part of them: the jitter of a schedule.
    """
    await begin_within(start_within)
    logger = get_run_logger()
    try:
        settings = load_settings(Path(config))
        begin(settings)
        tended = await maintained(settings, tell=logger.info)
    except StoreBusy as error:
        if settings.store.when_busy != "skip":
            return Failed(message=f"{type(error).__name__}: {error}")
        return Completed(message=f"skipped: {error}")
    except DocweaveError as error:
        return Failed(message=f"{type(error).__name__}: {error}")
    lines = upkeep_words.lines(tended)
    for line in lines:
        logger.info(line)
    text = "\n".join(["```", *lines, "```"])
    await acreate_markdown_artifact(text, key="maintain", description="What was done for the tables")
    return Completed(message=upkeep_words.verdict(tended))
