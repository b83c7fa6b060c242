"""What the YAML may say. `config.load` fills these, `config.build` makes live objects of them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from connectors.registry import SourceSettings
from connectors.settings import FromEnvironment, OneOf, Secret, StrictModel, absolute, literal_secret
from pipeline.embedders.perplexity import MODELS

PERPLEXITY_URL = "https://api.perplexity.ai"
PERPLEXITY_KEY = "PERPLEXITY_API_KEY"
"""The environment variable of the key, where the settings name no other."""

SOURCE_NAME = r"^[a-z0-9][a-z0-9_-]*$"
OBJECT_STORES = ("s3", "gs", "az")

_SECRET_OPTION = re.compile("key|secret|token|password", re.IGNORECASE)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


class _LiteralSecret:
    """Stands for an option that is called a secret and is written down: refused in its place."""


def _by_name(name: str, value: object) -> object:
    """The value of an option, as a secret where it is called one."""
    if not _SECRET_OPTION.search(name) or isinstance(value, SecretStr):
        return value
    return SecretStr(value) if isinstance(value, FromEnvironment) else _LiteralSecret()


def _option(value: object) -> object:
    if isinstance(value, _LiteralSecret):
        raise literal_secret()
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if not isinstance(value, str | SecretStr):
        raise PydanticCustomError("option_type", "must be text, a number, true or false")
    return value


StoreOption: TypeAlias = Annotated[
    str | SecretStr, BeforeValidator(_option, json_schema_input_type=str | float | bool)
]
"""LanceDB takes text only: `true` is "true"."""


class StoreSettings(StrictModel):
    """Where the vectors are kept."""

    uri: str = Field(
        default=".docweave/lancedb",
        validate_default=True,
        description="A folder (relative to the YAML file), or s3://bucket/prefix, gs://… or az://…",
    )
    options: dict[str, StoreOption] = Field(
        default_factory=dict,
        description="For object storage: region, endpoint, aws_access_key_id … as LanceDB names them. "
        "What is called a key, secret, token or password must come from the environment: ${NAME}.",
    )

    @field_validator("uri")
    @classmethod
    def _absolute(cls, uri: str, info: ValidationInfo) -> str:
        if not (scheme := _SCHEME.match(uri)):
            return absolute(uri, info)
        if "@" in urlsplit(uri).netloc:
            raise ValueError("must be an address without keys in it; they go to store.options")
        if scheme[1] not in OBJECT_STORES or not urlsplit(uri).netloc:
            places = ", ".join(f"{known}://bucket/…" for known in OBJECT_STORES)
            raise ValueError(f"must be a folder, or one of {places}")
        return uri

    @field_validator("options", mode="before")
    @classmethod
    def _mark_literal_secrets(cls, options: object) -> object:
        if not isinstance(options, dict):
            return options
        return {key: _by_name(str(key), value) for key, value in options.items()}


class AnyEmbedding(StrictModel):
    """What may be said of every embedder."""

    concurrency: int = Field(default=4, ge=1, le=64, description="Requests in flight at the same time.")


class LocalEmbedding(AnyEmbedding):
    """The embedded default: in process, without a key or a server."""

    provider: Literal["local"] = Field(default="local", description="Embeds in this process; takes no model.")


class PerplexityEmbedding(AnyEmbedding):
    """Perplexity's contextualized embeddings, or a compatible server."""

    provider: Literal["perplexity"] = Field(description="Perplexity, or a compatible server at base_url.")
    base_url: str = Field(
        default=PERPLEXITY_URL, description="The service's address, without /v1/contextualizedembeddings."
    )
    model: str = Field(
        default="pplx-embed-context-v1-0.6b",
        min_length=1,
        description=f"One of {', '.join(MODELS)}; at another base_url, any that the server knows.",
        examples=list(MODELS),
    )
    dimensions: int | None = Field(
        default=None,
        ge=1,
        validate_default=True,
        description="The length of a vector. "
        + "; ".join(f"{m.name}: {m.least_dimensions} to {m.most_dimensions}" for m in MODELS.values())
        + ". Left out: the most the model has.",
    )
    api_key: Secret | None = Field(
        default=None, description=f"Only as ${{NAME}}. Left out: the environment variable {PERPLEXITY_KEY}."
    )
    timeout_seconds: float = Field(
        default=120.0, gt=0, le=3600, description="How long the fullest request may take to be answered."
    )

    @property
    def official(self) -> bool:
        """Whether it is Perplexity's own service."""
        return self.base_url == PERPLEXITY_URL

    @property
    def width(self) -> int:
        """The length of a vector, also where the settings leave it to the model."""
        return self.dimensions or MODELS[self.model].most_dimensions

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

    @field_validator("model")
    @classmethod
    def _contextual(cls, model: str, info: ValidationInfo) -> str:
        if model not in MODELS and info.data.get("base_url") == PERPLEXITY_URL:
            raise PydanticCustomError(
                "unknown_name",
                "is no contextual model of Perplexity's",
                {"given": model, "known": list(MODELS)},
            )
        return model

    @field_validator("dimensions")
    @classmethod
    def _in_range(cls, dimensions: int | None, info: ValidationInfo) -> int | None:
        if "model" not in info.data:
            return dimensions
        name = info.data["model"]
        model = MODELS.get(name)
        if dimensions is None and model is None:
            raise ValueError("must be given: how long the vectors of this model are is not known here")
        if dimensions and model and not model.least_dimensions <= dimensions <= model.most_dimensions:
            raise ValueError(f"must be from {model.least_dimensions} to {model.most_dimensions} for {name}")
        return dimensions


EmbeddingSettings: TypeAlias = Annotated[
    LocalEmbedding | PerplexityEmbedding, OneOf("provider", default="local")
]
"""The settings of any embedder, told apart by `provider`."""


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
        default=ChunkingSettings(), description="How documents are cut into passages."
    )
    sources: dict[SourceName, SourceSettings] = Field(
        min_length=1, description="Where the documents are: a name of yours, and its settings."
    )
