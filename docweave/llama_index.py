"""A retriever for LlamaIndex: pip install 'docweave[llama_index]'."""

from __future__ import annotations

from typing import Any

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from docweave import Hit, Index
from docweave.passages import about, passage_id


class DocweaveRetriever(BaseRetriever):
    """Finds passages for a query engine: `DocweaveRetriever(Index.open(), similarity_top_k=5)`.

    A node's metadata are as `docweave.passages.about` has them; models and embeddings of LlamaIndex see the
    text alone.
    """

    def __init__(self, index: Index, *, similarity_top_k: int = 10, **options: Any) -> None:
        """Ask an index. `options` are more of `Index.search`, such as where="year >= 2024"."""
        super().__init__()
        self._index = index
        self._k = similarity_top_k
        self._options = options

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._index.search(query_bundle.query_str, limit=self._k, **self._options)
        return [_node(hit) for hit in found]


def _node(hit: Hit) -> NodeWithScore:
    known = about(hit)
    node = TextNode(
        id_=passage_id(hit),
        text=hit.text,
        metadata=known,
        excluded_llm_metadata_keys=list(known),
        excluded_embed_metadata_keys=list(known),
        start_char_idx=hit.start,
        end_char_idx=hit.end,
    )
    return NodeWithScore(node=node, score=hit.score)
