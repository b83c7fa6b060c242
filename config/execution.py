"""What the YAML may say of who does the work, and each worker's part of what a service allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator

from config.any_embedding import AnyEmbedding, ServiceEmbedding
from connectors.settings import StrictModel

if TYPE_CHECKING:
    from config.settings import Settings

LOCAL, DASK, RAY, PREFECT_WORKERS = "local", "dask", "ray", "prefect-workers"


class ExecutionSettings(StrictModel):
    """Who works off what a source owes, where it is much."""

    engine: Literal["local", "dask", "ray", "prefect-workers"] = Field(
        default="local",
        description="Where the workers are: processes of this machine; dask or ray (at `address`, or a "
        "cluster on this machine); prefect-workers, those of the work pool `work_pool`. On other machines "
        "they need the same settings at the same path, and the tables and documents within reach.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="How many work on one source at a time. What the embedding service allows in all "
        "(concurrency, requests and tokens a minute) and budgets are shared out among them.",
    )
    shard_tokens: int = Field(
        default=2_000_000,
        ge=1_000,
        description="About how much of a source a worker takes at a time: enough for several rounds of its "
        "requests in flight. A source that owes no more is done by the run itself.",
    )
    address: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="Of the scheduler, for dask (tcp://host:8786) and ray (ray://host:10001). Left out: a "
        "cluster on this machine, for the time of the run.",
    )
    work_pool: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="For prefect-workers: the pool whose workers do it (`prefect worker start --pool NAME`).",
    )

    @field_validator("address")
    @classmethod
    def _of_a_cluster(cls, address: str | None, info: ValidationInfo) -> str | None:
        if address and info.data.get("engine") not in {DASK, RAY, None}:
            raise ValueError(f"does nothing with `engine: {info.data['engine']}`: delete this")
        return address

    @field_validator("work_pool")
    @classmethod
    def _of_prefect(cls, pool: str | None, info: ValidationInfo) -> str | None:
        engine = info.data.get("engine")
        if engine == PREFECT_WORKERS and not pool:
            raise ValueError("must be given for `engine: prefect-workers`")
        if pool and engine not in {PREFECT_WORKERS, None}:
            raise ValueError(f"does nothing with `engine: {engine}`: delete this")
        return pool

    @property
    def shares(self) -> bool:
        """Whether a source may be worked off by others than the run itself."""
        return self.workers > 1 or self.engine != LOCAL


def part_of(settings: Settings) -> Settings:
    """The settings of one of the workers: with its part of what the service allows."""
    chosen, workers = settings.embedding, settings.execution.workers
    if not isinstance(chosen, ServiceEmbedding):
        return settings
    part = {
        name: None if value is None else value // workers
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute")
        for value in [getattr(chosen, name)]
    }
    return settings.model_copy(update={"embedding": chosen.model_copy(update=part)})


def check_parts(chosen: AnyEmbedding, workers: int) -> None:
    """Refuse to share among so many what would leave each of them nothing.

    Raises:
        ValueError: it would.
    """
    if not isinstance(chosen, ServiceEmbedding):
        return
    least = {"concurrency": 1, "requests_per_minute": 1, "tokens_per_minute": chosen.limits.group_tokens}
    for name, needed in least.items():
        value = getattr(chosen, name)
        if value is not None and value // workers < needed:
            raise ValueError(
                f"cannot share embedding.{name} ({value:,}) among {workers} workers: each needs at least "
                f"{needed:,}. Set workers to at most {max(1, value // needed)}, or raise embedding.{name}"
            )
