"""Artifacts that span runs: what a source's runs wrote and paid, as the last of them leaves it.

Prefect keeps every version of an artifact. Of this one only the last is kept, so that its database does not
grow by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from prefect.artifacts import acreate_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from flows.summary import money, number
from pipeline.report import SourceReport

RUNS = 30
"""Runs that the trend goes back."""

Row: TypeAlias = dict[str, str | int | float]
_BARS = "▁▂▃▄▅▆▇█"


def row(report: SourceReport, now: datetime, failure: Exception | None = None) -> Row:
    """A run's line in the trend."""
    return {
        "at (UTC)": now.astimezone(UTC).strftime("%Y-%m-%d %H:%M"),
        "documents": report.listed,
        "written": report.written,
        "failed": len(report.failures),
        "withheld": report.withheld,
        "tokens": report.tokens,
        "usd": round(report.cost_usd, 6),
        "seconds": round(report.seconds, 1),
        "run": type(failure).__name__ if failure else "ok",
    }


def trend(rows: Sequence[Mapping[str, str | int | float]]) -> str:
    """What the rows, the newest first, come to: in a line, with a bar for each run."""
    paid, written = _column(rows, "usd"), _column(rows, "written")
    runs = number(len(rows), "run")
    parts = [f"{runs}, oldest first", f"documents written {bars(written)} {sum(written):,.0f}"]
    if any(paid):
        parts.append(f"money {bars(paid)} {money(sum(paid))}")
    return " · ".join(parts)


def bars(values: Sequence[float]) -> str:
    """A bar for each value, as high as it is beside the highest."""
    most = max(values, default=0)
    return "".join(_BARS[round(value / most * (len(_BARS) - 1))] if most else _BARS[0] for value in values)


def _column(rows: Sequence[Mapping[str, str | int | float]], name: str) -> list[float]:
    """Oldest first."""
    values = [one.get(name, 0) for one in reversed(rows)]
    return [value if isinstance(value, int | float) else 0 for value in values]


async def keep_trend(key: str, report: SourceReport, failure: Exception | None = None) -> None:
    """Put the run at the head of what the source's earlier runs left under the key.

    Raises:
        Exception: whatever Prefect's client raises.
    """
    async with get_client() as client:
        before = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
            sort=ArtifactSort.CREATED_DESC,
            limit=RUNS,
        )
        earlier = _rows(before[0].data) if before else []
        rows = [row(report, datetime.now(UTC), failure), *earlier][:RUNS]
        await acreate_table_artifact(rows, key=key, description=trend(rows))
        for old in before:
            await client.delete_artifact(old.id)


def _rows(data: object) -> list[Row]:
    """As they were written; none where something else stands in their place."""
    try:
        found = json.loads(data) if isinstance(data, str) else data
    except ValueError:
        return []
    return [dict(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []
