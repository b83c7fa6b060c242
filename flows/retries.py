"""The outer ring of retry: a task is tried again where what it failed of may pass.

The inner ring is a request's: it has been asked again for minutes by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run

from pipeline.errors import DocweaveError, Recovery

RETRY_DELAYS = (10.0, 60.0)
"""Seconds before each further try."""


def again_in(error: Exception) -> float | None:
    """Seconds until the task that goes on here, and failed of this, is tried again; None if it is not."""
    tried = task_run.run_count or 1
    return RETRY_DELAYS[tried - 1] if _may_pass(error) and tried <= len(RETRY_DELAYS) else None


def _may_pass(error: object) -> bool:
    return isinstance(error, DocweaveError) and error.recovery is Recovery.RETRY


def _worth_it(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return _may_pass(state.data)


TRIED_AGAIN: Mapping[str, Any] = {
    "retries": len(RETRY_DELAYS),
    "retry_delay_seconds": list(RETRY_DELAYS),
    "retry_condition_fn": _worth_it,
    "persist_result": False,
    "cache_policy": NO_CACHE,
}
"""What holds for every task of a run."""
