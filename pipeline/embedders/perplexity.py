"""Perplexity's embeddings, contextualized and standard, and compatible servers under the same paths.

https://docs.perplexity.ai/api-reference/contextualized-embeddings-post
https://docs.perplexity.ai/api-reference/embeddings-post
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.embedders import models
from pipeline.embedders._service import Endpoint, ServiceEmbedder

if TYPE_CHECKING:
    import httpx

    from pipeline.embedders._http import Patience
    from pipeline.embedders._pace import Pace

URL = "https://api.perplexity.ai"
KEY_NAME = "PERPLEXITY_API_KEY"
"""The environment variable of the key, where the settings name no other."""

MODELS = models.models_of(models.PERPLEXITY)
"""What is documented, by the models' names."""


class PerplexityEmbedder(ServiceEmbedder):
    """Embeds the chunks of a group in view of each other, or, with a standard model, each by itself.

    Vectors are int8 codes, not normalised, or bits.
    """

    def __init__(  # noqa: PLR0913 - what the settings say, by name
        self,
        *,
        model: str,
        dimensions: int,
        api_key: str,
        key_name: str = KEY_NAME,
        encoding_format: Literal["base64_int8", "base64_binary"] = "base64_int8",
        contextual: bool = True,
        usd_per_million_tokens: float | None = None,
        base_url: str = URL,
        timeout_seconds: float = 120,
        pace: Pace | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Opens no connection yet.

        Args:
            model: One of `MODELS`, or what a compatible server calls its own.
            dimensions: Within the model's range; for bits divisible by 8.
            api_key: May be empty, for a server that asks for none.
            key_name: Where the user keeps it, for messages.
            encoding_format: Codes, or bits.
            contextual: Of a model that is none of `MODELS`: whether it reads the chunks of a document
                together.
            usd_per_million_tokens: In place of the list price; without either it is 0.
            base_url: Of the service, without the path.
            timeout_seconds: How long the fullest request may take to be answered; a small one a quarter.
            pace: How fast it may ask.
            transport: In place of the network, for tests.
            patience: How long to retry.

        Raises:
            SettingsError: the address is none, or the key cannot stand in a header.
        """
        # httpx takes 0.2 s to import; the settings read MODELS without it.
        from pipeline.embedders._http import Account, JsonService  # noqa: PLC0415

        known = MODELS.get(model)
        contextual = known.contextual if known else contextual
        if usd_per_million_tokens is None:
            usd_per_million_tokens = (known and known.usd_per_million_tokens) or 0.0
        endpoint = Endpoint(
            service="Perplexity",
            provider=models.PERPLEXITY,
            path="/v1/contextualizedembeddings" if contextual else "/v1/embeddings",
            model=model,
            dimensions=dimensions,
            encoding_format=encoding_format,
            contextual=contextual,
            limits=models.limits(contextual=contextual),
            usd_per_million_tokens=usd_per_million_tokens,
            fields={"dimensions": dimensions},
        )
        account = Account(service="Perplexity", base_url=base_url, api_key=api_key, key_name=key_name)
        super().__init__(
            endpoint,
            JsonService(
                account, timeout_seconds=timeout_seconds, pace=pace, transport=transport, patience=patience
            ),
        )
