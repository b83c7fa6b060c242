"""The embedding models behind OpenRouter, and servers that are asked as OpenAI's is.

None of them is contextual: each chunk is embedded by itself, and may be told in words where it stands.

https://openrouter.ai/docs/api/api-reference/embeddings/create-embeddings
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pipeline.embedders import models
from pipeline.embedders._reply import amount, fields
from pipeline.embedders._service import Endpoint, ServiceEmbedder
from pipeline.embedders.models import ModelInfo
from pipeline.errors import ServiceUnavailable
from pipeline.records import EmbedLimits, JsonValue

if TYPE_CHECKING:
    import httpx

    from pipeline.embedders._http import Account, Patience
    from pipeline.embedders._pace import Pace

URL = "https://openrouter.ai/api/v1"
KEY_NAME = "OPENROUTER_API_KEY"
"""The environment variable of the key, where the settings name no other."""

MODELS = models.models_of(models.OPENROUTER)
"""What is documented, by the models' names."""

QWEN_TASK = "Given a web search query, retrieve relevant passages that answer the query"
"""The task of Qwen3-Embedding's own examples (https://huggingface.co/Qwen/Qwen3-Embedding-4B)."""

_LISTING_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How OpenRouter is asked, beside model and dimensions."""

    encoding_format: Literal["float", "base64"] = "float"
    send_dimensions: bool = True
    """False for a model of one length, whose server refuses to be asked for it."""
    input_type: bool = False
    """Whether to say what is a document and what a question, for models that encode them unalike."""
    query_instruction: str = ""
    """The task that a question is given in, as Qwen3-Embedding expects it; empty for none."""
    routing: Mapping[str, JsonValue] = field(default_factory=dict)
    """Which of a model's upstreams may be asked: what OpenRouter calls `provider`."""
    user: str = ""
    """Whom requests are made for."""
    referer: str = ""
    """The address of the application that asks."""
    app_title: str = ""
    """Its name."""


class OpenRouterEmbedder(ServiceEmbedder):
    """Embeds each chunk by itself, its lead in front of it. Vectors are of unit length, in float16."""

    def __init__(  # noqa: PLR0913 - what the settings say, by name
        self,
        *,
        model: str,
        dimensions: int,
        api_key: str,
        key_name: str = KEY_NAME,
        limits: EmbedLimits | None = None,
        usd_per_million_tokens: float | None = None,
        options: Options | None = None,
        base_url: str = URL,
        timeout_seconds: float = 120,
        pace: Pace | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Opens no connection yet.

        Args:
            model: One of `MODELS`, or any other that is served there.
            dimensions: The length of a vector.
            api_key: May be empty, for a server that asks for none.
            key_name: Where the user keeps it, for messages.
            limits: In place of the model's own.
            usd_per_million_tokens: In place of the list price; without either it is 0.
            options: How it is asked.
            base_url: Of the service, up to /embeddings.
            timeout_seconds: How long the fullest request may take to be answered; a small one a quarter.
            pace: How fast it may ask.
            transport: In place of the network, for tests.
            patience: How long to retry.

        Raises:
            SettingsError: the address is none, or the key, `referer` or `app_title` cannot stand in a header.
        """
        # httpx takes 0.2 s to import; the settings read MODELS without it.
        from pipeline.embedders._http import JsonService  # noqa: PLC0415

        known, options = MODELS.get(model), options or Options()
        if usd_per_million_tokens is None:
            usd_per_million_tokens = (known and known.usd_per_million_tokens) or 0.0
        task = options.query_instruction
        endpoint = Endpoint(
            service="OpenRouter",
            provider=models.OPENROUTER,
            path="/embeddings",
            model=model,
            dimensions=dimensions,
            encoding_format=options.encoding_format,
            contextual=False,
            limits=limits or model_limits(model),
            usd_per_million_tokens=usd_per_million_tokens,
            fields=_fields(dimensions, options),
            document_fields={"input_type": "search_document"} if options.input_type else {},
            question_fields={"input_type": "search_query"} if options.input_type else {},
            # No blank after the last colon: https://huggingface.co/Qwen/Qwen3-Embedding-4B
            question=(lambda text: f"Instruct: {task}\nQuery:{text}") if task else str,
        )
        account = _account(base_url, api_key, options, key_name)
        super().__init__(
            endpoint,
            JsonService(
                account, timeout_seconds=timeout_seconds, pace=pace, transport=transport, patience=patience
            ),
        )


def model_limits(
    model: str,
    *,
    max_tokens: int | None = None,
    request_tokens: int | None = None,
    request_texts: int | None = None,
) -> EmbedLimits:
    """What one request to the model may hold. What is left out is as documented, or as upstreams have it."""
    known = MODELS.get(model)
    return models.limits(
        contextual=False,
        max_tokens=max_tokens or (known.max_tokens if known else 32_000),
        request_tokens=request_tokens or models.REQUEST_TOKENS,
        request_texts=request_texts or models.REQUEST_TEXTS,
    )


def default_instruction(model: str) -> str:
    """The task that the model's questions are given in where nobody said: Qwen3-Embedding's, else none."""
    return QWEN_TASK if models.bare(model).startswith("qwen3-embedding") else ""


async def list_models(
    base_url: str = URL, *, api_key: str = "", transport: httpx.AsyncBaseTransport | None = None
) -> list[ModelInfo]:
    """The embedding models that are offered today, by name.

    Dimensions are told of those that are known here: the listing does not hold them.

    Raises:
        SettingsError: the address is none, or the key cannot stand in a header.
        EmbedError: as `JsonService.get`.
    """
    from pipeline.embedders._http import JsonService  # noqa: PLC0415 - as above

    service = JsonService(_account(base_url, api_key, Options()), transport=transport)
    try:
        return await service.get("/embeddings/models", _listed, within=_LISTING_SECONDS)
    finally:
        await service.aclose()


def _account(base_url: str, api_key: str, options: Options, key_name: str = KEY_NAME) -> Account:
    from pipeline.embedders._http import Account  # noqa: PLC0415 - as above

    headers = {"HTTP-Referer": options.referer, "X-Title": options.app_title}
    return Account(
        service="OpenRouter",
        base_url=base_url,
        api_key=api_key,
        key_name=key_name,
        headers={name: value for name, value in headers.items() if value},
    )


def _fields(dimensions: int, options: Options) -> Mapping[str, JsonValue]:
    told: dict[str, JsonValue] = {}
    if options.send_dimensions:
        told["dimensions"] = dimensions
    if options.routing:
        told["provider"] = dict(options.routing)
    if options.user:
        told["user"] = options.user
    return told


def _listed(reply: JsonValue) -> list[ModelInfo]:
    items = fields(reply).get("data")
    if not isinstance(items, list) or not items:
        raise ServiceUnavailable("OpenRouter's list of models does not add up: it holds none")
    return sorted(map(_model, map(fields, items)), key=lambda model: model.name)


def _model(item: Mapping[str, JsonValue]) -> ModelInfo:
    name = item.get("id")
    if not isinstance(name, str) or not name:
        raise ServiceUnavailable("OpenRouter's list of models does not add up: one has no id")
    known = MODELS.get(name)
    upstream = fields(item.get("top_provider"))
    return ModelInfo(
        provider=models.OPENROUTER,
        name=name,
        contextual=False,
        least_dimensions=known.least_dimensions if known else 0,
        most_dimensions=known.most_dimensions if known else 0,
        max_tokens=int(amount(item.get("context_length")) or amount(upstream.get("context_length")) or 0),
        usd_per_million_tokens=_per_million(fields(item.get("pricing")).get("prompt")),
    )


def _per_million(price: JsonValue) -> float | None:
    """USD for a million tokens; the listing has it for one, as text."""
    try:
        each = amount(float(price)) if isinstance(price, str | int | float) else None
    except ValueError:
        return None
    return None if each is None else round(each * 1e6, 9)
