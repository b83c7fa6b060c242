"""A retriever for LangChain. Needs `langchain-core`, which Docweave has anyway."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from docweave import Hit, Index
from docweave.passages import about, passage_id


class DocweaveRetriever(BaseRetriever):
    """Finds passages for a chain: `DocweaveRetriever(index=Index.open("docweave.yaml"), k=5)`.

    A document's metadata are as `docweave.passages.about` has them.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: Index
    k: int = 10
    options: dict[str, Any] = Field(default_factory=dict)
    """More options of `Index.search`, such as {"where": "year >= 2024", "mode": "text"}."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        del run_manager  # it has nothing to tell on the way
        return [_document(hit) for hit in self.index.search(query, limit=self.k, **self.options)]


def _document(hit: Hit) -> Document:
    return Document(id=passage_id(hit), page_content=hit.text, metadata=about(hit))
