"""Tables on object storage: one that keeps the store's contract, one that cannot, and what goes wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.abc
import pytest

from config.build import build_pipeline, connectors
from config.check import check as check_all
from config.load import load_settings
from pipeline.errors import StoreBusy, StoreError, StoreRefused, StoreUnavailable
from pipeline.ingest import ingest_source
from pipeline.protocols import Store
from pipeline.records import EmbeddingSpace
from pipeline.report import SourceReport
from pipeline.stores import _lease
from pipeline.stores.lance import LanceStore
from pipeline.stores.lance_reader import LanceReader
from tests.contract.store_contract import EVERYTHING, SPACE, StoreContract, embedded, places
from tests.flow.test_crash import content, write_corpus
from tests.flow.test_overlap import start
from tests.s3 import FAR, KEY, SECRET, Bucket, new_bucket


class TestS3Store(StoreContract):
    @pytest.fixture(autouse=True)
    def _on(self, bucket: Bucket) -> None:
        self.bucket = bucket

    async def open_store(
        self, tmp_path: Path, space: EmbeddingSpace = SPACE, journal_bytes: int = 2_000_000_000
    ) -> Store:
        return await LanceStore.open(
            self.bucket.uri, self.bucket.options, space=space, journal_bytes=journal_bytes
        )


for elsewhere in (  # what these are about is the same wherever the tables are, and they take long
    "test_upkeep_changes_nothing_that_is_read",
    "test_hostile_keys_are_data",
    "test_hostile_metadata_names_are_data",
    "test_the_journal_stays_within_its_size_and_loses_the_oldest",
    "test_a_filter_gives_all_that_it_names_and_nothing_else",
    "test_nearest_is_what_comparing_with_every_vector_gives",
    "test_a_vector_of_zeros_is_near_to_nothing_but_zero_bits_are_as_good_as_any",
    "test_what_is_not_of_the_space_is_neither_stored_nor_searched_for",
):
    assert hasattr(StoreContract, elsewhere)
    setattr(TestS3Store, elsewhere, None)


async def opened(bucket: Bucket) -> LanceStore:
    return await LanceStore.open(bucket.uri, bucket.options, space=SPACE)


async def written(uri: str, options: Mapping[str, str]) -> None:
    store = await LanceStore.open(uri, options, space=SPACE)
    await store.replace([embedded("a.md", "word")])


class TestConditionalWrites:
    async def test_are_tried_once_before_the_first_write_and_leave_nothing(self, bucket: Bucket) -> None:
        store = await opened(bucket)
        await store.marks("notes")
        assert not bucket.requests()["PUT"]
        async with store.lease("trying"):
            first = bucket.requests()
        await (await opened(bucket)).replace([embedded("a.md", "word")])
        assert not [key for key in bucket.objects() if "docweave-check" in key]
        assert bucket.requests()["POST"] == first["POST"] == 1, "it was deleted, and not tried again"

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ("careless", "overwrites objects that it was asked to leave alone"),
            ("ignorant", "does not know conditional writes"),
        ],
    )
    async def test_that_are_not_honoured_are_a_reason_to_write_nothing(
        self, bucket: Bucket, kind: str, reason: str
    ) -> None:
        unfit = new_bucket(bucket.endpoint, f"{kind}-{bucket.name}")
        store = await opened(unfit)
        with pytest.raises(StoreRefused, match=reason) as caught:
            await store.replace([embedded("a.md", "word")])
        assert unfit.uri in str(caught.value)
        assert bucket.endpoint in str(caught.value)
        assert "or a folder as store.uri" in str(caught.value)
        with pytest.raises(StoreRefused, match=reason):
            async with store.lease("ingesting notes"):
                pass
        assert unfit.objects() == {}
        assert await (await LanceReader.open(unfit.uri, unfit.options)).space() is None

    async def test_are_tried_by_check(self, bucket: Bucket, tmp_path: Path) -> None:
        (tmp_path / "a.md").write_text("# A\n\nSome words.")
        unfit = new_bucket(bucket.endpoint, f"careless-{bucket.name}")
        for place, ok, words in (
            (bucket, True, f"{bucket.uri} can be written, honours conditional writes, and is empty so far"),
            (unfit, False, "overwrites objects that it was asked to leave alone"),
        ):
            findings = {finding.what: finding for finding in await check_all(settings_in(tmp_path, place))}
            assert findings["store"].ok == ok
            assert words in findings["store"].message
            assert place.objects() == {}


def settings_in(folder: Path, bucket: Bucket, corpus: Path | None = None) -> Path:
    """Keys as files, as a container is given them."""
    folder.mkdir(exist_ok=True)
    (folder / "id").write_text(KEY)
    (folder / "secret").write_text(SECRET)
    options = {**bucket.options, "aws_access_key_id": "file:id", "aws_secret_access_key": "file:secret"}
    settings = {
        "store": {"uri": bucket.uri, "options": options},
        "sources": {"notes": {"type": "files", "path": str(corpus or folder), "include": ["**/*.md"]}},
    }
    path = folder / "docweave.yaml"
    path.write_text(json.dumps(settings))
    return path


class TestWhatOpensIt:
    async def reached(self, bucket: Bucket, options: Mapping[str, str]) -> None:
        await written(bucket.uri, options)
        assert bucket.requests()["PUT"]

    async def test_may_stand_in_the_environment(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        await self.reached(bucket, {})

    async def test_may_stand_in_a_profile(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "config").write_text(f"[profile work]\nendpoint_url = {bucket.endpoint}\n")
        keys = f"aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
        (tmp_path / "credentials").write_text(f"[work]\n{keys}")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_PROFILE", "work")
        await self.reached(bucket, {"allow_http": "true"})

    async def test_in_the_settings_goes_before_the_environment(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_REGION", FAR)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something-else")
        short = {name.removeprefix("aws_"): value for name, value in bucket.options.items()}
        await self.reached(bucket, short)

    async def test_must_be_a_key_where_conditional_writes_are_tried(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        answer = json.dumps({"Version": 1, "AccessKeyId": KEY, "SecretAccessKey": SECRET})
        (tmp_path / "answer").write_text(answer)
        (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path / 'answer'}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        keyless = {name: value for name, value in bucket.options.items() if "key" not in name}
        with pytest.raises(StoreRefused, match=r"the AWS profile default names none\. Set AWS_ACCESS_KEY_ID"):
            await written(bucket.uri, keyless)


async def test_what_goes_wrong_is_said_with_what_to_do_and_no_key(bucket: Bucket) -> None:
    far, locked = (new_bucket(bucket.endpoint, f"{kind}-{bucket.name}") for kind in ("far", "locked"))
    key = {"aws_access_key_id": "AKIA-of-somebody-else"}
    keyless = {"aws_access_key_id": None, "aws_secret_access_key": None}
    cases: list[tuple[Bucket, Mapping[str, str | None], type[StoreError], str]] = [
        (bucket, key, StoreRefused, "the storage does not accept the key: see aws_access_key_id"),
        (bucket, keyless, StoreRefused, "there is no key: set aws_access_key_id and aws_secret"),
        (Bucket(bucket.endpoint, "missing"), {}, StoreRefused, "there is no bucket missing: make it"),
        (far, {}, StoreRefused, f"is in the region {FAR}: set region: {FAR} in store.options"),
        (locked, {}, StoreRefused, f"it has to list, read, write and delete objects below {locked.uri}"),
        (bucket, {"allow_http": "false"}, StoreRefused, "is not encrypted, and allow_http: true is not set"),
        (bucket, {"endpoint": "http://127.0.0.1:9"}, StoreUnavailable, "http://127.0.0.1:9 does not answer"),
        (bucket, {"endpoint": "http://no.invalid"}, StoreUnavailable, "http://no.invalid does not answer"),
    ]
    outcomes: list[StoreError | None] = [None] * len(cases)

    async def fail(number: int, place: Bucket, wrong: Mapping[str, str | None]) -> None:
        options = {name: value for name, value in {**place.options, **wrong}.items() if value is not None}
        try:
            await written(place.uri, options)
        except StoreError as error:
            outcomes[number] = error

    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for number, (place, wrong, _, _) in enumerate(cases):
            tasks.start_soon(fail, number, place, wrong)
    assert time.monotonic() - began < 20, "and not after minutes of trying"
    for (place, _, kind, words), error in zip(cases, outcomes, strict=True):
        assert type(error) is kind, words
        said = str(error)
        assert said.startswith(f"{place.uri}: ")
        assert words in said
        assert not [secret for secret in (KEY, SECRET, "AKIA-of") if secret in said]


async def test_storage_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stores._place.OPENING_SECONDS", 0.5)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:
        port = silent.listeners[0].extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - is no Django
        endpoint = f"http://127.0.0.1:{port}"
        place = Bucket(endpoint, "bucket")
        with pytest.raises(StoreUnavailable, match=f"{endpoint} has not answered for 0.5 s"):
            await LanceReader.open(place.uri, place.options)


WRITE = """
import asyncio, json, sys
from pipeline.stores.lance import LanceStore
from tests.contract.store_contract import SPACE, embedded

async def main():
    uri, options, name = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    print("ready", flush=True)
    sys.stdin.readline()
    store = await LanceStore.open(uri, options, space=SPACE)
    for turn in range(2):
        same = [embedded(f"same {n}", f"word {turn}", "more") for n in range(10)]
        await store.replace([*same, embedded(f"{name} {turn}", "word of its own")])

import lancedb
asyncio.run(main())
"""


def test_writers_of_the_same_and_of_other_documents_lose_and_double_nothing(bucket: Bucket) -> None:
    command = [sys.executable, "-c", WRITE, bucket.uri, json.dumps(bucket.options)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    writers = [subprocess.Popen([*command, name], text=True, **pipes) for name in ("a", "b", "c")]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], errors

    async def check() -> None:
        reader = await LanceReader.open(bucket.uri, bucket.options)
        assert await reader.counts() == {"notes": (16, 26)}
        stored = [(key, ordinal) for _, key, ordinal, _ in await places(reader)]
        own = [(f"{name} {turn}", 0) for name in "abc" for turn in range(2)]
        assert stored == sorted([*own, *((f"same {n}", ordinal) for n in range(10) for ordinal in (0, 1))])
        assert len(await reader.matching("word", limit=100, where=EVERYTHING)) == 16

    anyio.run(check)


async def test_a_second_run_waits_and_an_abandoned_lease_is_taken_over(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_lease, "ABANDONED_AFTER", 1.5)
    first, second, third = [await opened(bucket) for _ in range(3)]
    order: list[str] = []

    async def wait() -> None:
        async with second.lease("ingesting wiki", wait=30, tell=order.append):
            order.append("second")
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as tasks, first.lease("ingesting handbook"):
        tasks.start_soon(wait)
        await anyio.sleep(1)
        with pytest.raises(StoreBusy, match="which has been ingesting handbook"):
            async with third.lease("ingesting blog"):
                pass
        order.append("first")
    assert order[0].startswith("waiting for the run on")
    assert order[1:] == ["first", "second"]

    told: list[str] = []
    silent = _lease._claim("live", "ingesting handbook")
    await first._tenure._leases._take(silent, 0, told.append)  # and is not heard of again
    async with third.lease("ingesting blog", wait=30, tell=told.append):
        pass
    assert told[-1].startswith("taking over from the run on")
    assert "it has not been heard of for" in told[-1]


def in_a_folder(settings: Path) -> Path:
    """The same settings, but for where the tables are."""
    folder = settings.parent.with_name("folder")
    folder.mkdir()
    path = folder / settings.name
    path.write_text(json.dumps({**json.loads(settings.read_text()), "store": {"uri": "db"}}))
    return path


async def ingest(path: Path) -> SourceReport:
    settings = load_settings(path)
    [(connector, metadata)] = connectors(settings)
    async with build_pipeline(settings) as pipeline, pipeline.store.lease("ingesting notes"):
        return await ingest_source(connector, pipeline, metadata=metadata)


class TestIngesting:
    async def test_an_edit_and_a_removal_end_where_they_do_in_a_folder(
        self, bucket: Bucket, tmp_path: Path
    ) -> None:
        corpus = tmp_path / "corpus"
        write_corpus(corpus, 6)
        settings = settings_in(tmp_path / "s3", bucket, corpus)
        assert (await ingest(settings)).added == 6
        (corpus / "3" / "note 3.md").write_text("# Note 3\n\nIt was edited.")
        (corpus / "5" / "note 5.md").unlink()
        second = await ingest(settings)
        assert (second.changed, second.removed, second.unchanged) == (1, 1, 4)
        assert (await ingest(settings)).unchanged == 5
        assert (await ingest(folder := in_a_folder(settings))).added == 5
        assert await content(settings) == await content(folder)

    async def test_a_run_that_was_killed_is_followed_by_one_that_completes_it(
        self, bucket: Bucket, tmp_path: Path
    ) -> None:
        corpus = tmp_path / "corpus"
        write_corpus(corpus, 40)
        settings = settings_in(tmp_path / "s3", bucket, corpus)
        with start(settings) as killed:
            assert killed.stdout
            while not (line := killed.stdout.readline()).startswith("done") or line == "done 0\n":
                assert line, "it ended by itself"
            killed.send_signal(signal.SIGKILL)
        report = await ingest(settings)
        assert report.added + report.changed + report.unchanged == 40
        await ingest(folder := in_a_folder(settings))
        assert await content(settings) == await content(folder)
