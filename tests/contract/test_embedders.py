"""Every embedder keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from pipeline.embedders.local import LocalEmbedder
from pipeline.embedders.openrouter import OpenRouterEmbedder, Options
from pipeline.embedders.perplexity import PerplexityEmbedder
from pipeline.protocols import Embedder
from tests.contract.embedder_contract import POLICY, EmbedderContract, LeadContract, group_of
from tests.embedding_service import EmbeddingService, serving

KEY = "test-key"


@pytest.fixture(scope="module")
async def local() -> AsyncIterator[Embedder]:
    """Loaded once: it has no state."""
    embedder = LocalEmbedder()
    yield embedder
    await embedder.aclose()


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    """The stand-in, which is as strict as the services' documentation: it must have nothing to refuse."""
    service = EmbeddingService()
    yield service
    assert not service.refused


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    service = EmbeddingService()
    with serving(service) as base_url:
        yield base_url
    assert not service.refused


class TestLocalEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self, local: Embedder) -> Embedder:
        return local


class TestLocalEmbedderWithoutContext(EmbedderContract):
    @pytest.fixture(scope="class")
    def embedder(self) -> Embedder:
        return LocalEmbedder(contextual=False)


class TestPerplexityContextualCodes(EmbedderContract, LeadContract):
    @pytest.fixture
    async def embedder(self, service: EmbeddingService) -> AsyncIterator[Embedder]:
        embedder = PerplexityEmbedder(
            model="pplx-embed-context-v1-0.6b",
            dimensions=256,
            api_key=KEY,
            transport=service.transport(),
        )
        yield embedder
        await embedder.aclose()


class TestPerplexityContextualBits(EmbedderContract, LeadContract):
    @pytest.fixture
    async def embedder(self, service: EmbeddingService) -> AsyncIterator[Embedder]:
        embedder = PerplexityEmbedder(
            model="pplx-embed-context-v1-4b",
            dimensions=1024,
            encoding_format="base64_binary",
            api_key=KEY,
            transport=service.transport(),
        )
        yield embedder
        await embedder.aclose()


class TestPerplexityContextualOverHttp(EmbedderContract, LeadContract):
    """Over real connections."""

    @pytest.fixture
    async def embedder(self, base_url: str) -> AsyncIterator[Embedder]:
        embedder = PerplexityEmbedder(
            model="pplx-embed-context-v1-4b", dimensions=2560, api_key=KEY, base_url=base_url
        )
        yield embedder
        await embedder.aclose()


class TestPerplexityStandardCodes(EmbedderContract, LeadContract):
    @pytest.fixture
    async def embedder(self, service: EmbeddingService) -> AsyncIterator[Embedder]:
        embedder = PerplexityEmbedder(
            model="pplx-embed-v1-4b", dimensions=512, api_key=KEY, transport=service.transport()
        )
        yield embedder
        await embedder.aclose()


class TestPerplexityStandardBits(EmbedderContract, LeadContract):
    @pytest.fixture
    async def embedder(self, service: EmbeddingService) -> AsyncIterator[Embedder]:
        embedder = PerplexityEmbedder(
            model="pplx-embed-v1-0.6b",
            dimensions=256,
            encoding_format="base64_binary",
            api_key=KEY,
            transport=service.transport(),
        )
        yield embedder
        await embedder.aclose()


class TestOpenRouterFloats(EmbedderContract, LeadContract):
    @pytest.fixture
    async def embedder(self, service: EmbeddingService) -> AsyncIterator[Embedder]:
        embedder = OpenRouterEmbedder(
            model="perplexity/pplx-embed-v1-4b",
            dimensions=256,
            api_key=KEY,
            transport=service.transport(),
        )
        yield embedder
        await embedder.aclose()


class TestOpenRouterBase64OverHttp(EmbedderContract, LeadContract):
    """Over real connections, with everything that may be said beside the texts."""

    @pytest.fixture
    async def embedder(self, base_url: str) -> AsyncIterator[Embedder]:
        embedder = OpenRouterEmbedder(
            model="qwen/qwen3-embedding-4b",
            dimensions=1024,
            api_key=KEY,
            base_url=f"{base_url}/api/v1",
            options=Options(
                encoding_format="base64",
                input_type=True,
                query_instruction="Find it",
                routing={"sort": "latency"},
                user="somebody",
                referer="https://example.org",
                app_title="Docweave",
            ),
        )
        yield embedder
        await embedder.aclose()

    async def test_a_question_is_no_document(self, embedder: Embedder) -> None:
        (vectors,) = await self.embed(embedder, group_of(POLICY))
        assert not np.array_equal(await embedder.embed_query(POLICY[0]), vectors[0])
