"""A cross-encoder of the user's own reads question and passage together, in this process."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

import httpx
import pytest
from onnxruntime import InferenceSession

from apps.desk import desk_of
from apps.http.app import create_app
from config.load import load_settings
from config.rerank import reranker_of
from pipeline import query_rerank_local
from pipeline.errors import ServiceRefused, ServiceUnavailable, SettingsError
from pipeline.query_rerank_local import PAIRS, LocalReranker
from tests.cross_encoder import written
from tests.serving import SETTINGS, ingested

QUESTION = "how reset the sensor"
TEXTS = [
    "charge battery",
    "reset",
    "reset the sensor",
    "hold button",
    "how reset the sensor",
    "nothing known",
]
MET = [0, 1, 3, 0, 4, 0]


def reranker(folder: Path, *, longest_tokens: int = 64, timeout_seconds: float = 60) -> LocalReranker:
    return LocalReranker(folder, longest_tokens=longest_tokens, timeout_seconds=timeout_seconds)


async def test_each_text_has_the_models_number_between_nought_and_one(tmp_path: Path) -> None:
    scores = await reranker(written(tmp_path)).scores(QUESTION, TEXTS)
    assert scores == pytest.approx([1 / (1 + math.exp(2 - met)) for met in MET], abs=1e-6)


async def test_what_is_read_together_changes_no_number(tmp_path: Path) -> None:
    model = reranker(written(tmp_path))
    texts = [f"{' '.join(['hold'] * n)} {text}" for n, text in enumerate(TEXTS * PAIRS)]
    alone = [score for text in texts for score in await model.scores(QUESTION, [text])]
    assert await model.scores(QUESTION, texts) == pytest.approx(alone, abs=1e-6)
    assert await model.scores(QUESTION, []) == []


async def test_of_a_text_too_long_the_beginning_is_read(tmp_path: Path) -> None:
    model = reranker(written(tmp_path), longest_tokens=16)
    late, early = "hold " * 100 + "reset", "reset " + "hold " * 100
    assert await model.scores("reset", [late, early]) == pytest.approx(
        [1 / (1 + math.e**2), 1 / (1 + math.e)]
    )


async def test_a_model_in_a_folder_named_onnx_is_found(tmp_path: Path) -> None:
    folder = written(tmp_path)
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    assert len(await reranker(folder).scores(QUESTION, TEXTS)) == len(TEXTS)


async def test_of_several_who_ask_first_one_reads_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    session = query_rerank_local._session

    def slowly(model: Path) -> InferenceSession:
        read.append(model)
        time.sleep(0.1)
        return session(model)

    monkeypatch.setattr(query_rerank_local, "_session", slowly)
    model = reranker(written(tmp_path))
    answers = await asyncio.gather(*(model.scores(QUESTION, TEXTS) for _ in range(4)))
    assert [len(scores) for scores in answers] == [len(TEXTS)] * 4
    assert read == [tmp_path / "model.onnx"]


def test_a_folder_without_a_model_is_refused_before_anybody_asks(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"rerank\.path: .*wanted are tokenizer\.json and model\.onnx"):
        reranker(tmp_path)


async def test_what_is_no_cross_encoder_says_so(tmp_path: Path) -> None:
    with pytest.raises(ServiceRefused, match="wanted is one number for each of 6 pairs, and it gives"):
        await reranker(written(tmp_path / "two", outputs=2)).scores(QUESTION, TEXTS)
    with pytest.raises(ServiceRefused, match="it wants pixel_values"):
        await reranker(written(tmp_path / "image", inputs=("pixel_values",))).scores(QUESTION, TEXTS)
    broken = written(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ServiceRefused, match="cannot be read"):
        await reranker(broken).scores(QUESTION, TEXTS)


async def test_one_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="takes longer than"):
        await reranker(written(tmp_path), timeout_seconds=1e-9).scores(QUESTION, TEXTS)


@pytest.fixture
def chosen(tmp_path: Path) -> Path:
    ingested(tmp_path)
    written(tmp_path / "models" / "mine")
    path = tmp_path / "docweave.yaml"
    path.write_text(SETTINGS + "rerank: {provider: local, path: models/mine}\n")
    return path


async def test_the_settings_choose_it_for_every_question(chosen: Path) -> None:
    settings = load_settings(chosen)
    assert isinstance(reranker_of(settings.rerank), LocalReranker)
    transport = httpx.ASGITransport(create_app(desk_of(settings), settings.serve, is_open=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        found = (await client.post("/v1/search", json={"question": "the sensor", "limit": 50})).json()
    scores = [hit["rerank_score"] for hit in found["hits"]]
    assert found["reranked"]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
