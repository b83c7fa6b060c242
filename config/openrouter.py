"""What the YAML may say of `provider: openrouter`."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from config.any_embedding import ServiceEmbedding, key_from, ranges
from config.routing import Routing
from connectors.settings import Secret
from pipeline.embedders import models, openrouter
from pipeline.records import EmbedLimits, Grouping, Lead


class OpenRouterEmbedding(ServiceEmbedding):
    """The embedding models behind OpenRouter, or a compatible server. None of them is contextual."""

    documented = openrouter.MODELS
    key_name = openrouter.KEY_NAME

    provider: Literal["openrouter"] = Field(
        description="OpenRouter, or a server at base_url that is asked as OpenAI's embeddings are."
    )
    base_url: str = Field(default=openrouter.URL, description="The service's address, up to /embeddings.")
    model: str = Field(
        default="perplexity/pplx-embed-v1-4b",
        min_length=1,
        description=f"{', '.join(openrouter.MODELS)}; or any other, with dimensions, max_tokens and "
        "usd_per_million_tokens stated. `docweave models --provider openrouter` lists them.",
        examples=list(openrouter.MODELS),
    )
    dimensions: int | None = Field(
        default=None, ge=1, validate_default=True, description=ranges(openrouter.MODELS)
    )
    api_key: Secret | None = Field(default=None, description=key_from(openrouter.KEY_NAME))
    usd_per_million_tokens: float | None = Field(
        default=None,
        ge=0,
        validate_default=True,
        description="The price, where it is another than the list's. Must be given for a model that is not "
        "known here.",
    )
    lead: Lead | None = Field(
        default=None,
        description="What is put in front of each chunk: none, title, headings (title and headings) or "
        "opening (title and first words of the document). Left out: headings.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=64,
        validate_default=True,
        description="The most tokens that the model takes of one text, as its page tells. Must be given for "
        "a model that is not known here.",
    )
    request_tokens: int = Field(
        default=models.REQUEST_TOKENS,
        ge=64,
        description="The most tokens that the model's upstreams take in one request.",
    )
    request_texts: int = Field(
        default=models.REQUEST_TEXTS,
        ge=1,
        le=16_000,
        description="The most texts that the model's upstreams take in one request.",
    )
    encoding_format: Literal["float", "base64"] = Field(
        default="float",
        description="How numbers are sent: the same ones; base64 takes a quarter of the traffic.",
    )
    send_dimensions: bool = Field(
        default=True,
        description="false for a server that refuses to be asked for dimensions, of a model of one length.",
    )
    input_type: bool = Field(
        default=False,
        description="Whether to say which texts are documents and which are questions (search_document, "
        "search_query): for models that encode the two unalike.",
    )
    query_instruction: str | None = Field(
        default=None,
        max_length=1000,
        description="The task in which a question is asked, one sentence in English, for Qwen3-Embedding and "
        "models that take it in the same form. Left out: for Qwen3-Embedding, that of its own examples. "
        "Empty: none.",
    )
    routing: Routing = Field(default=Routing(), description="Which of a model's upstreams may be asked.")
    user: str = Field(default="", max_length=256, description="Whom requests are made for: a name of yours.")
    referer: str = Field(
        default="", description="The address of your application, sent as HTTP-Referer: https://…"
    )
    app_title: str = Field(default="", description="Its name, sent as X-Title.")

    @property
    def official(self) -> bool:
        """Whether it is OpenRouter's own service, in any of its regions."""
        host = urlsplit(self.base_url).hostname or ""
        return host == "openrouter.ai" or host.endswith(".openrouter.ai")

    @property
    def limits(self) -> EmbedLimits:
        """What one request may hold."""
        return openrouter.model_limits(
            self.model,
            max_tokens=self.max_tokens,
            request_tokens=self.request_tokens,
            request_texts=self.request_texts,
        )

    @property
    def grouping(self) -> Grouping:
        """Each chunk by itself, with its lead."""
        return Grouping(overlap_tokens=0, lead=self.lead or Lead.HEADINGS, lead_tokens=self.lead_tokens)

    @property
    def options(self) -> openrouter.Options:
        """How it is asked, beside model and dimensions."""
        task = self.query_instruction
        return openrouter.Options(
            encoding_format=self.encoding_format,
            send_dimensions=self.send_dimensions,
            input_type=self.input_type,
            query_instruction=openrouter.default_instruction(self.model) if task is None else task.strip(),
            routing=self.routing.body(),
            user=self.user,
            referer=self.referer,
            app_title=self.app_title,
        )

    @field_validator("usd_per_million_tokens", "max_tokens")
    @classmethod
    def _stated_if_unknown(cls, value: float | None, info: ValidationInfo) -> float | None:
        name = info.data.get("model")
        if value is None and name is not None and cls.documented.get(name) is None:
            raise ValueError(f"must be given: nothing is known here of {name}; its page at OpenRouter tells")
        return value

    @field_validator("max_tokens")
    @classmethod
    def _not_more_than_it_takes(cls, max_tokens: int | None, info: ValidationInfo) -> int | None:
        model = cls.documented.get(info.data.get("model", ""))
        if max_tokens and model and max_tokens > model.max_tokens:
            raise ValueError(f"must be at most {model.max_tokens:,} for {model.name}")
        return max_tokens

    @field_validator("send_dimensions")
    @classmethod
    def _only_for_all_of_them(cls, send_dimensions: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - as pydantic calls it
        model, dimensions = cls.documented.get(info.data.get("model", "")), info.data.get("dimensions")
        if not send_dimensions and model and dimensions not in {None, model.most_dimensions}:
            raise ValueError(f"must be true: by itself {model.name} gives {model.most_dimensions}")
        return send_dimensions

    @field_validator("query_instruction")
    @classmethod
    def _only_where_taken(cls, task: str | None, info: ValidationInfo) -> str | None:
        model = cls.documented.get(info.data.get("model", ""))
        if task and model and not openrouter.default_instruction(model.name):
            raise ValueError(f"does nothing good: {model.name} takes questions as they are; delete this")
        return task

    @field_validator("referer")
    @classmethod
    def _a_web_address(cls, referer: str) -> str:
        if referer and not (referer.startswith(("http://", "https://")) and _printable(referer)):
            raise ValueError("must be an address in ASCII that begins with http:// or https://")
        return referer

    @field_validator("app_title")
    @classmethod
    def _a_header(cls, title: str) -> str:
        if not _printable(title) or title != title.strip():
            raise ValueError("must be printable ASCII on one line, with no blank at either end")
        return title


def _printable(text: str) -> bool:
    """Whether a header can hold it."""
    return text.isascii() and text.isprintable()
