"""The page's files and what it asks for beside the search: who gets what, and what is drawn."""

from __future__ import annotations

import gzip
import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from apps.http.server import _also
from apps.page import routes, survey
from apps.page.overview import FailureModel
from apps.page.projection import flat, mean_of
from config.build import build_pipeline
from config.settings import Settings
from pipeline.errors import SourceError
from pipeline.records import EmbeddingSpace
from pipeline.report import SourceReport
from tests import serving
from tests.ingested import ingest_here
from tests.serving import new_key
from tests.serving_page import HOSTILE, indexed

PATHS = ("/v1/freshness", "/v1/map", "/v1/spending")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return indexed(tmp_path_factory.mktemp("served"))


@pytest.fixture(autouse=True)
def _no_keys(settings: Settings) -> None:
    Path(settings.serve.keys).unlink(missing_ok=True)


def asking(settings: Settings) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return serving.asking(settings, also=_also())


async def told(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_failure_tells_no_place_on_the_server() -> None:
    for url, link in (
        ("file:///srv/a.pdf", None),
        ("https://example.com/a.pdf", "https://example.com/a.pdf"),
    ):
        assert FailureModel(key="a.pdf", reason="it is broken", url=url).url == link


async def test_who_sees_everything_is_told_of_every_source_its_runs_and_what_they_paid(
    settings: Settings,
) -> None:
    async with asking(settings) as client:
        fresh = await told(client, "/v1/freshness")
        assert {one["name"]: one["documents"] for one in fresh["sources"]} == {
            "board": 1, "devices": 3, "people": 3
        }  # fmt: skip
        by_name = {one["name"]: one for one in fresh["sources"]}
        assert by_name["devices"]["run"] == {
            "at": "2026-03-01T12:00:00Z",
            "seconds": 1.5,
            "error": None,
            "succeeded_at": "2026-03-01T12:00:00Z",
            "counts": {"listed": 4, "left": 0, "withheld": 1},
            "failed": 2,
            "failures": [{"key": "a.pdf", "reason": HOSTILE, "url": "https://example.com/a.pdf"}],
        }
        assert fresh["runs_known"]
        run = by_name["people"]["run"]
        assert (run["counts"]["added"], run["error"], run["failures"]) == (3, None, [])
        assert by_name["board"]["paid_at"] is None
        assert by_name["people"]["paid_at"] is not None
        assert all(one["newest"] >= one["oldest"] and one["tokens"] > 0 for one in fresh["sources"])
        assert len(fresh["latest"]) == 7
        assert [one["updated_at"] for one in fresh["latest"]] == sorted(
            (one["updated_at"] for one in fresh["latest"]), reverse=True
        )
        spent = await told(client, "/v1/spending")
        assert [(one["source"], one["cost_usd"], one["runs"]) for one in spent["days"]] == [
            ("people", 0.5, 1), ("people", 0.125, 1), ("devices", 0.25, 1)
        ]  # fmt: skip
        assert [one["source"] for one in spent["runs"]] == ["devices", "people", "people"]


@pytest.mark.parametrize(
    ("access", "sees"), [([], 6), (["nobody's", "Board", "board' OR '1'='1"], 6), (["board"], 7)]
)
async def test_a_key_is_told_nothing_of_what_it_may_not_see(
    settings: Settings, access: list[str], sees: int
) -> None:
    everybody = new_key(settings, "all", everything=True)
    some = new_key(settings, "some", *access)
    async with asking(settings) as client:
        # What was made for one who sees everything is not given to another.
        for path in PATHS:
            assert (await client.get(path, headers=everybody)).status_code == 200
        fresh = (await client.get("/v1/freshness", headers=some)).json()
        mapped = (await client.get("/v1/map", headers=some)).json()
        assert (await client.get("/v1/spending", headers=some)).status_code == 403
    assert sum(one["documents"] for one in fresh["sources"]) == mapped["documents"] == sees
    assert len(mapped["points"]) == len(fresh["latest"]) == sees
    assert not fresh["runs_known"]
    assert all(one["run"] is None and one["paid_at"] is None for one in fresh["sources"])
    if sees == 6:
        assert "board" not in str(fresh) + str(mapped)
        assert "erger" not in str(fresh) + str(mapped)


async def test_where_keys_are_needed_the_page_itself_is_open_and_its_answers_are_not(
    settings: Settings,
) -> None:
    new_key(settings, "k")
    async with asking(settings) as client:
        for path in routes.files():
            assert (await client.get(path)).status_code == 200
        for path in PATHS:
            assert (await client.get(path)).status_code == 401
        for path in ("/page/../v1/status", "/page/%2e%2e/v1/status", "//v1/status", "/page/", "/page/x.js"):
            assert (await client.get(path)).status_code in (401, 404)


async def test_every_file_forbids_what_is_not_the_pages_own(settings: Settings) -> None:
    async with asking(settings) as client:
        for path in routes.files():
            answer = await client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            plain = await client.get(path, headers={"Accept-Encoding": "identity"})
            assert plain.content == answer.content


def test_the_page_is_small_and_names_nothing_outside() -> None:
    files = routes.files()
    assert {"/", "/page/app.js", "/page/style.css"} <= files.keys()
    assert sum(len(one.packed) for one in files.values()) < 30_000
    for path, file in files.items():
        assert gzip.decompress(file.packed) == file.content
        text = file.content.decode()
        assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}, path
        for forbidden in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert forbidden not in text, path


async def test_a_map_follows_the_tables_and_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = indexed(tmp_path)
    made = []
    whole = survey.mapped

    async def counted(*given: Any) -> survey.Map:
        made.append(1)
        return await whole(*given)

    monkeypatch.setattr(survey, "mapped", counted)
    async with asking(settings) as client:
        first = await told(client, "/v1/map")
        assert await told(client, "/v1/map") == first
        assert len(made) == 1
        (tmp_path / "docs/devices/fern.md").unlink()
        await ingest_here(tmp_path / "docweave.yaml")
        second = await told(client, "/v1/map")
    assert len(made) == 2
    assert {one["key"] for one in first["points"]} - {one["key"] for one in second["points"]} == {"fern.md"}


async def test_a_source_that_failed_from_the_start_is_told_to_who_sees_everything(tmp_path: Path) -> None:
    from config.load import load_settings  # noqa: PLC0415 - of use here alone

    text = "sources: {people: {type: files, path: docs}}\n"
    (tmp_path / "docweave.yaml").write_text(text, encoding="utf-8")
    settings = load_settings(tmp_path / "docweave.yaml")
    with pytest.raises(SourceError):
        await ingest_here(tmp_path / "docweave.yaml")
    everybody, some = new_key(settings, "all", everything=True), new_key(settings, "some")
    async with asking(settings) as client:
        [seen] = (await client.get("/v1/freshness", headers=everybody)).json()["sources"]
        assert (seen["name"], seen["documents"], seen["run"]["succeeded_at"]) == ("people", 0, None)
        assert "docs" in seen["run"]["error"]
        assert (await client.get("/v1/freshness", headers=some)).json()["sources"] == []


async def test_a_source_whose_first_run_stopped_for_its_budget_is_told(tmp_path: Path) -> None:
    from config.load import load_settings  # noqa: PLC0415 - as above

    config = tmp_path / "docweave.yaml"
    config.write_text("sources: {people: {type: files, path: .}}\n", encoding="utf-8")
    settings = load_settings(config)
    async with build_pipeline(settings) as pipeline:
        await pipeline.store.ran(SourceReport(source="people", left=7).latest(None))
    async with asking(settings) as client:
        [seen] = (await told(client, "/v1/freshness"))["sources"]
    run = seen["run"]
    assert (seen["name"], run["counts"]["left"], run["succeeded_at"]) == ("people", 7, None)


async def test_an_empty_index_has_nothing_to_show(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docweave.yaml").write_text(
        "sources: {people: {type: files, path: docs}}\n", encoding="utf-8"
    )
    from config.load import load_settings  # noqa: PLC0415 - of use here alone

    async with asking(load_settings(tmp_path / "docweave.yaml")) as client:
        fresh = {"sources": [], "latest": [], "runs_known": True}
        assert await told(client, "/v1/freshness") == fresh
        assert await told(client, "/v1/map") == {"documents": 0, "points": [], "explained": [0, 0]}
        assert await told(client, "/v1/spending") == {"days": [], "runs": []}


def test_vectors_of_two_kinds_lie_apart_and_always_in_the_same_places() -> None:
    draw = np.random.default_rng(1)
    centres = draw.standard_normal((2, 256), np.float32)
    rows = np.concatenate([centre + draw.standard_normal((40, 256), np.float32) / 4 for centre in centres])
    places, (first, second) = flat(rows)
    assert places.shape == (80, 2)
    assert np.abs(places).max() == pytest.approx(1)
    one, other = places[:40, 0], places[40:, 0]
    assert one.max() < other.min() or other.max() < one.min()
    assert 0.5 < first < 1
    assert 0 < second < 0.1
    exact = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    assert first == pytest.approx(exact[0] / exact.sum(), abs=1e-3)
    assert np.array_equal(places, flat(rows)[0])


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_few_vectors_or_the_same_have_places_too(rows: int) -> None:
    places, shares = flat(np.ones((rows, 8), np.float32))
    assert places.tolist() == [[0, 0]] * rows
    assert shares == (0, 0)
    if rows == 2:
        places, shares = flat(np.eye(2, 8, dtype=np.float32))
        assert sorted(places[:, 0]) == pytest.approx([-1, 1])
        assert shares[0] == pytest.approx(1)


def test_a_document_is_where_its_vectors_point_together_in_every_encoding() -> None:
    def space(encoding: Any) -> EmbeddingSpace:
        return EmbeddingSpace(provider="p", model="m", dimensions=8, encoding=encoding)

    codes = np.array([[100, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0]], np.float16)
    assert mean_of(codes, space("int8"))[:3] == pytest.approx([0.7071, 0.7071, 0], abs=1e-3)
    bits = np.array([[0b00000001], [0b00000001]], np.uint8)
    assert mean_of(bits, space("binary")) * 8**0.5 == pytest.approx([1, -1, -1, -1, -1, -1, -1, -1], abs=1e-3)
