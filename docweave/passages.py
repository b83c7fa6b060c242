"""A hit as other libraries' documents have it."""

from __future__ import annotations

from typing import Any

from apps.http.answers import passage_id
from pipeline.records import Hit

__all__ = ["about", "passage_id"]


def about(hit: Hit) -> dict[str, Any]:
    """What is known of a passage beside its text: the document's metadata, and where it stands."""
    return {
        **hit.metadata,
        "source": hit.source,
        "key": hit.key,
        "ordinal": hit.ordinal,
        "title": hit.title,
        "headings": list(hit.heading_path),
        "page": hit.page,
        "url": hit.url,
        "start": hit.start,
        "end": hit.end,
        "score": hit.score,
        "similarity": hit.similarity,
    }
