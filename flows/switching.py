"""Whether the tables of a rebuild may take the place of the live ones."""

from __future__ import annotations

from collections.abc import Mapping

from config.build import removal_guard
from config.settings import Settings
from flows.summary import number
from pipeline.errors import RemovalsWithheld


def check_switch(
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
