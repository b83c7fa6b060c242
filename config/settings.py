"""What the YAML may say. `config.load` fills these, `config.build` makes live objects of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from config.columns import Columns
from config.embedding import EmbeddingSettings, LocalEmbedding, PerplexityEmbedding
from config.execution import ExecutionSettings, check_parts
from config.logging_settings import LoggingSettings
from config.parsing import ParsingSettings
from config.rerank import RerankSettings
from config.schedule import DeploySettings, Schedules, known_name, known_names
from config.serving import ServingSettings
from config.telemetry_settings import TelemetrySettings
from config.upkeep import UpkeepSettings
from connectors.registry import SourceSettings
from connectors.schedule import Scheduled, ScheduleSettings
from connectors.settings import (
    BudgetSettings,
    Hidden,
    StrictModel,
    absolute,
    as_secret,
    folder_of,
)

SOURCE_NAME = r"^[a-z0-9][a-z0-9_-]*$"
OBJECT_STORES = ("s3", "gs", "az")

_SECRET_OPTION = re.compile("key|secret|token|password", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


@dataclass(frozen=True, slots=True)
class _NoSecret:
    """Stands for an option that is called a secret and cannot be one: refused in its place."""

    error: PydanticCustomError


def _by_name(name: str, value: object, info: ValidationInfo) -> object:
    """The value of an option, as a secret where it is called one."""
    if not _SECRET_OPTION.search(name):
        return value
    try:
        return as_secret(value, info)
    except PydanticCustomError as error:
        return _NoSecret(error)


def _option(value: object) -> object:
    if isinstance(value, _NoSecret):
        raise value.error
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if not isinstance(value, str | SecretStr):
        raise PydanticCustomError("option_type", "must be text, a number, true or false")
    return value


StoreOption: TypeAlias = Annotated[
    str | Hidden, BeforeValidator(_option, json_schema_input_type=str | float | bool)
]
"""LanceDB takes text only: `true` is "true"."""


def _tables_name(name: str) -> str:
    if not re.fullmatch(SOURCE_NAME, name):
        raise ValueError("is made of a-z, 0-9, _ and -, and begins with a letter or digit")
    return name


class StoreSettings(StrictModel):
    """Where the vectors are kept."""

    name: Annotated[str, AfterValidator(_tables_name)] | None = Field(
        default=None,
        description="What the tables are called where those of several settings are asked at once. Left out: "
        "the YAML file's name without its ending, or its folder's where the file is docweave.yaml.",
    )
    uri: str = Field(
        default=".docweave/lancedb",
        validate_default=True,
        description="A folder (relative to the YAML file), or s3://bucket/prefix, gs://… or az://…",
    )
    options: dict[str, StoreOption] = Field(
        default_factory=dict,
        description="For object storage: region, endpoint, aws_access_key_id … as LanceDB names them. "
        "What is called a key, secret, token or password must be written as ${NAME}, file:PATH or "
        "prefect://secret/NAME.",
    )

    journal: ByteSize = Field(
        default=ByteSize(2_000_000_000),
        description="How much room the journal of paid vectors may take: bytes, or as 2GB. What is in it is "
        "never paid for again; the oldest goes first. 0: none is kept.",
    )
    when_busy: Literal["wait", "skip", "fail"] = Field(
        default="wait",
        description="What an ingest does while another run writes the same tables: wait for its turn; skip "
        "the source, for another run to do; or fail.",
    )
    wait_minutes: float = Field(
        default=60,
        gt=0,
        allow_inf_nan=False,
        description="How long to wait, before the source fails. For `when_busy: wait`.",
    )
    upkeep: UpkeepSettings = Field(
        default=UpkeepSettings(), description="What upkeep keeps, and what it makes."
    )

    @field_validator("uri")
    @classmethod
    def _absolute(cls, uri: str, info: ValidationInfo) -> str:
        if not (scheme := _SCHEME.match(uri)):
            return absolute(uri, folder_of(info))
        if "@" in urlsplit(uri).netloc:
            raise ValueError("must be an address without keys in it; they go to store.options")
        if scheme[1] not in OBJECT_STORES or not urlsplit(uri).netloc:
            places = ", ".join(f"{known}://bucket/…" for known in OBJECT_STORES)
            raise ValueError(f"must be a folder, or one of {places}")
        return uri

    @field_validator("options", mode="before")
    @classmethod
    def _mark_secrets(cls, options: object, info: ValidationInfo) -> object:
        if not isinstance(options, dict):
            return options
        return {key: _by_name(str(key), value, info) for key, value in options.items()}


class ChunkingSettings(StrictModel):
    """How documents are cut into passages."""

    max_tokens: int = Field(
        default=512,
        ge=16,
        le=8192,
        description="The most tokens that a chunk may have. Chunks do not overlap.",
    )


def _source_name(name: str) -> str:
    if not re.fullmatch(SOURCE_NAME, name):
        raise ValueError("a source's name is made of a-z, 0-9, _ and -, and begins with a letter or digit")
    return name


SourceName: TypeAlias = Annotated[str, AfterValidator(_source_name)]


class Settings(StrictModel):
    """All that one YAML file says."""

    store: StoreSettings = Field(
        default={},  # validated, so that its folder is made absolute too
        validate_default=True,
        description="Where the vectors are kept.",
    )
    embedding: EmbeddingSettings = Field(default=LocalEmbedding(), description="What computes the vectors.")
    chunking: ChunkingSettings = Field(
        default=ChunkingSettings(),
        validate_default=True,
        description="How documents are cut into passages.",
    )
    columns: Columns = Field(
        default_factory=dict,
        description="Values of the documents' metadata that get a column of their own, by its name: to be "
        "filtered by with <, > and =, and by indexes. May be changed at any time; nothing is embedded anew.",
    )
    parsing: ParsingSettings = Field(
        default=ParsingSettings(),
        description="What parsing one document may cost, and whether scanned pages are read.",
    )
    copies: Literal["keep", "once"] = Field(
        default="keep",
        description="What becomes of documents whose text another one has too, in whatever source, for the "
        "same access labels. keep: each is found. once: one of them is. Nothing is paid twice either way.",
    )
    budget: BudgetSettings = Field(
        default=BudgetSettings(),
        description="What one run may spend, over all its sources. The request that would pass it is not "
        "sent; the next run goes on.",
    )
    execution: ExecutionSettings = Field(
        default=ExecutionSettings(), description="Who works off what a source owes, where it is much."
    )
    rerank: RerankSettings | None = Field(
        default=None, description="Who orders the best hits of each question anew."
    )
    serve: ServingSettings = Field(
        default={},  # validated, so that its file's path is made absolute too
        validate_default=True,
        description="How `docweave serve` answers questions over HTTP.",
    )
    logging: LoggingSettings = Field(
        default=LoggingSettings(), description="How runs and servers write their log lines."
    )
    telemetry: TelemetrySettings = Field(
        default=TelemetrySettings(),
        description="Where traces and the figures of runs go. Nowhere, by default.",
    )
    schedules: Schedules = Field(
        default_factory=dict,
        description="Schedules with a name. Sources that name the same one are ingested by one run.",
    )
    schedule: Scheduled = Field(
        default=None,
        description="When the sources are ingested that say nothing themselves: a schedule, or the name of "
        "one of `schedules`. Left out: when somebody says so.",
    )
    deploy: DeploySettings = Field(
        default=DeploySettings(), description="How `docweave deploy` hands the schedules to Prefect."
    )
    timeout_minutes: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="How long one run may take, over all its sources and what it waits for. Sources that are "
        "not done by then fail; what was committed stays, and the next run goes on. Left out: no limit.",
    )
    sources: dict[SourceName, SourceSettings] = Field(
        min_length=1, description="Where the documents are: a name of yours, and its settings."
    )

    @field_validator("sources")
    @classmethod
    def _prices_are_known(
        cls, sources: dict[str, SourceSettings], info: ValidationInfo
    ) -> dict[str, SourceSettings]:
        embedding, budget = info.data.get("embedding"), info.data.get("budget")
        unpriced = isinstance(embedding, PerplexityEmbedding) and not embedding.known
        if embedding and unpriced and embedding.usd_per_million_tokens is None:
            in_usd = [name for name, source in sources.items() if source.budget.usd is not None]
            if in_usd or (budget and budget.usd is not None):
                where = f"sources.{in_usd[0]}.budget" if in_usd else "budget"
                raise ValueError(
                    f"cannot keep to {where} in usd: what {embedding.model} costs is not known here. Set "
                    "embedding.usd_per_million_tokens, or the budget in tokens"
                )
        return sources

    @field_validator("execution")
    @classmethod
    def _enough_for_all(cls, execution: ExecutionSettings, info: ValidationInfo) -> ExecutionSettings:
        if embedding := info.data.get("embedding"):
            check_parts(embedding, execution.workers)
        return execution

    @field_validator("schedule")
    @classmethod
    def _schedule_is_known(
        cls, schedule: ScheduleSettings | str | None, info: ValidationInfo
    ) -> ScheduleSettings | str | None:
        schedules = info.data.get("schedules")
        if schedules is not None:
            known_name(schedule, schedules)
        return schedule

    @field_validator("sources")
    @classmethod
    def _schedules_are_known(
        cls, sources: dict[str, SourceSettings], info: ValidationInfo
    ) -> dict[str, SourceSettings]:
        if {"schedules", "store"} <= info.data.keys():
            known_name(info.data["store"].upkeep.schedule, info.data["schedules"], "store.upkeep.schedule")
            known_names(sources, info.data["schedules"])
        return sources

    @field_validator("chunking")
    @classmethod
    def _fit_for_the_model(cls, chunking: ChunkingSettings, info: ValidationInfo) -> ChunkingSettings:
        embedding = info.data.get("embedding")
        if embedding and chunking.max_tokens > embedding.most_chunk_tokens:
            raise ValueError(
                f"max_tokens must be at most {embedding.most_chunk_tokens:,}: of so long a text the model of "
                f"`embedding` takes no more, beside a lead; here it is {chunking.max_tokens:,}"
            )
        return chunking
