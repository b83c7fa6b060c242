"""Every embedder keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from pipeline.embedders.local import LocalEmbedder
from pipeline.embedders.perplexity import PerplexityEmbedder
from pipeline.protocols import Embedder
from tests.contract.embedder_contract import EmbedderContract
from tests.embedding_service import EmbeddingService, serving


@pytest.fixture(scope="module")
async def local() -> AsyncIterator[Embedder]:
    """Loaded once: it has no state."""
    embedder = LocalEmbedder()
    yield embedder
    await embedder.aclose()


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


class TestPerplexityEmbedder(EmbedderContract):
    """Against the stand-in in place of the network."""

    @pytest.fixture
    async def embedder(self) -> AsyncIterator[Embedder]:
        service = EmbeddingService()
        embedder = PerplexityEmbedder(
            model="pplx-embed-context-v1-0.6b",
            dimensions=256,
            api_key="test-key",
            transport=service.transport(),
        )
        yield embedder
        await embedder.aclose()
        assert not service.refused


class TestPerplexityEmbedderOverHttp(EmbedderContract):
    """Against the stand-in over real connections."""

    @pytest.fixture
    async def embedder(self, base_url: str) -> AsyncIterator[Embedder]:
        embedder = PerplexityEmbedder(
            model="pplx-embed-context-v1-4b", dimensions=2560, api_key="test-key", base_url=base_url
        )
        yield embedder
        await embedder.aclose()
