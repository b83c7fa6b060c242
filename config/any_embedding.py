"""What the YAML may say of every embedder, and of every service."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from connectors.settings import Secret, StrictModel
from pipeline.embedders.models import ModelInfo
from pipeline.pack import CONTEXT_SHARE
from pipeline.records import SEPARATOR_TOKENS, EmbedLimits, Grouping, Lead


class AnyEmbedding(StrictModel, ABC):
    """What may be said of every embedder."""

    concurrency: int = Field(default=4, ge=1, le=64, description="Requests in flight at the same time.")

    @property
    @abstractmethod
    def limits(self) -> EmbedLimits:
        """What one request may hold."""

    @property
    @abstractmethod
    def grouping(self) -> Grouping:
        """How documents are divided into what is embedded together."""

    @property
    def most_chunk_tokens(self) -> int:
        """Of one chunk, so that there is room for what is sent beside it."""
        most, grouping = self.limits.group_tokens, self.grouping
        share = most // CONTEXT_SHARE
        if grouping.lead is not Lead.NONE:
            most -= min(grouping.lead_tokens, share) + SEPARATOR_TOKENS
        return most - 2 * min(grouping.overlap_tokens, share) - SEPARATOR_TOKENS


class ServiceEmbedding(AnyEmbedding):
    """What may be said of every service."""

    documented: ClassVar[Mapping[str, ModelInfo]]
    """The models that are known here, by name."""
    key_name: ClassVar[str]
    """The environment variable of the key, where the settings name no other."""

    base_url: str
    model: str = Field(min_length=1)
    dimensions: int | None = Field(default=None, ge=1, validate_default=True)
    api_key: Secret | None = Field(default=None)
    usd_per_million_tokens: float | None = Field(
        default=None, ge=0, description="The price, where it is another than the list's."
    )
    lead: Lead | None = Field(default=None)
    lead_tokens: int = Field(default=200, ge=16, le=2000, description="The most tokens that a lead may have.")
    concurrency: int = Field(
        default=8,
        ge=1,
        le=64,
        description="The most requests in flight at the same time; fewer while the service has trouble.",
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="The most requests in any minute. Left out: no ceiling."
    )
    tokens_per_minute: int | None = Field(
        default=None, ge=1, description="The most tokens in any minute. Left out: no ceiling."
    )
    timeout_seconds: float = Field(
        default=120.0, gt=0, le=3600, description="How long the fullest request may take to be answered."
    )

    @property
    def known(self) -> ModelInfo | None:
        """What is documented of the model; None for any other."""
        return self.documented.get(self.model)

    @property
    @abstractmethod
    def official(self) -> bool:
        """Whether it is the service itself, and no compatible server: then it asks for a key."""

    @property
    def width(self) -> int:
        """The length of a vector, also where the settings leave it to the model."""
        return self.dimensions or (self.known.most_dimensions if self.known else 0)

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            named = bool(parts.hostname) and parts.port != 0
        except ValueError as error:
            raise ValueError("is not an address") from error
        if parts.scheme not in {"http", "https"} or not named:
            raise ValueError("must begin with http:// or https:// and name a host")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("must be an address without user, query or fragment; the key goes to api_key")
        return url.rstrip("/")

    @field_validator("dimensions")
    @classmethod
    def _in_range(cls, dimensions: int | None, info: ValidationInfo) -> int | None:
        name = info.data.get("model")
        if name is None:
            return dimensions
        model = cls.documented.get(name)
        if dimensions is None and model is None:
            raise ValueError("must be given: how long the vectors of this model are is not known here")
        if dimensions and model and not model.least_dimensions <= dimensions <= model.most_dimensions:
            raise ValueError(f"must be from {model.least_dimensions} to {model.most_dimensions} for {name}")
        return dimensions

    @field_validator("lead_tokens")
    @classmethod
    def _of_a_lead(cls, lead_tokens: int, info: ValidationInfo) -> int:
        if info.data.get("lead") is Lead.NONE:
            raise ValueError("does nothing with `lead: none`: change that, or delete this")
        return lead_tokens


def ranges(known: Mapping[str, ModelInfo]) -> str:
    """What is said of `dimensions`."""
    told = "; ".join(f"{m.name}: {m.least_dimensions} to {m.most_dimensions}" for m in known.values())
    return f"The length of a vector. {told}. Left out: the most the model has."


def key_from(name: str) -> str:
    """What is said of `api_key`."""
    return f"As ${{NAME}}, file:PATH or prefect://secret/NAME. Left out: the environment variable {name}."
