"""What answers questions, by the settings: one for every face, so that all give the same hits."""

from __future__ import annotations

from config.build import build_embedder, open_reader
from config.rerank import reranker_of
from config.settings import Settings
from pipeline.query_desk import Desk
from pipeline.telemetry_stages import traced_embedder


def desk_of(settings: Settings) -> Desk:
    """What answers. Opens nothing yet; `aclose` it when done.

    Raises:
        SettingsError: as `build_embedder`.
    """
    return Desk(
        open_reader=lambda: open_reader(settings),
        embedder=traced_embedder(build_embedder(settings)),
        reranker=reranker_of(settings.rerank),
    )
