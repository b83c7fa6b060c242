"""What the YAML may say of upkeep."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from connectors.schedule import Scheduled
from connectors.settings import StrictModel
from pipeline.upkeep import VECTOR_ROWS, Policy


class UpkeepSettings(StrictModel):
    """What upkeep keeps, and what it makes. For `docweave maintain`, and for the upkeep of each ingest."""

    keep_versions_hours: float = Field(
        default=24,
        gt=0,
        le=87_600,
        description="How long earlier versions of a table stay. A program that still reads one, because it "
        "opened the table before, fails when it goes. What has a tag stays, and what came after it.",
    )
    keep_previous_days: float = Field(
        default=30,
        gt=0,
        le=3_650,
        description="How long the tables from before a rebuild stay, for `docweave rollback`.",
    )
    vector_index: Literal["auto", "never"] = Field(
        default="auto",
        description="auto: from 100,000 passages on, `docweave maintain` makes an index of the vectors, and "
        "searches find nearly all (over 98 %) of what comparing every vector finds, in much less time. "
        "never: every vector is compared, and an index that is there is dropped.",
    )

    schedule: Scheduled = Field(
        default=None,
        description="When `docweave deploy` and `docweave up` have `docweave maintain` done: a schedule, or "
        "the name of one of `schedules`. Left out: when somebody says so.",
    )

    @property
    def policy(self) -> Policy:
        """The same for the store."""
        return Policy(
            keep_versions=timedelta(hours=self.keep_versions_hours),
            keep_previous=timedelta(days=self.keep_previous_days),
            vector_rows=None if self.vector_index == "never" else VECTOR_ROWS,
        )
