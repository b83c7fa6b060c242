"""Rows of JSON Lines and Parquet files: the contract on each, and what is particular to them."""

from __future__ import annotations

import gc
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import obstore
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import S3Store
from pydantic import SecretStr, ValidationError

from connectors.rows import JsonlConnector, JsonlSettings, ParquetConnector, ParquetSettings
from connectors.rows.field_paths import value_at
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from pipeline.ingest import ingest_source
from pipeline.stores.memory import MemoryStore
from tests.contract.connector_contract import CannotOccur, ConnectorContract, SourceOfTests, listed
from tests.fakes import OracleEmbedder
from tests.s3 import KEY, SECRET, Bucket
from tests.world import World

FIELDS: dict[str, object] = {"key_field": "id", "text_field": "body"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the machine's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "docweave"


def jsonl(path: object, **settings: object) -> JsonlConnector:
    place = {"url": path} if "://" in str(path) else {"path": str(path)}
    chosen = {"type": "jsonl", **place, **FIELDS, **settings}
    return JsonlConnector(source="docs", settings=JsonlSettings.model_validate(chosen))


def parquet(path: object, **settings: object) -> ParquetConnector:
    place = {"url": path} if "://" in str(path) else {"path": str(path)}
    chosen = {"type": "parquet", **place, **FIELDS, **settings}
    return ParquetConnector(source="docs", settings=ParquetSettings.model_validate(chosen))


@dataclass
class Rows:
    """One file of rows, which is written anew when something changes."""

    file: Path
    connect: Callable[..., JsonlConnector | ParquetConnector]
    settings: dict[str, object] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    torn: bool = False
    """Whether the end of the file is missing."""

    def connector(self, **settings: object) -> JsonlConnector | ParquetConnector:
        self.write()
        return self.connect(self.file, **{**self.settings, **settings})

    def put(self, key: str, content: bytes) -> None:
        version = self.rows.get(key, {}).get("version", 0) + 1
        self.rows[key] = {"id": key, "body": content, "version": version}
        if self.file.exists():
            self.write()

    def drop(self, key: str) -> None:
        del self.rows[key]
        self.write()

    def write(self) -> None:
        if self.file.suffix == ".parquet":
            write_parquet(self.file, list(self.rows.values()))
        else:
            write_jsonl(self.file, self.rows.values())
        if self.torn:
            self.file.write_bytes(self.file.read_bytes()[:-20])


def write_jsonl(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    plain = [
        {
            name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    content = "".join(json.dumps(row) + "\n" for row in plain).encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def write_parquet(file: Path, rows: Sequence[Mapping[str, Any]], group: int = 7) -> None:
    schema = pa.schema([("id", pa.string()), ("body", pa.binary()), ("version", pa.int64())])
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file, row_group_size=group)


class RowsContract(ConnectorContract):
    """The contract, on the rows of a file."""

    def outage(self, place: Rows) -> AbstractContextManager[None]:
        raise CannotOccur(
            "a file of this machine is there, or is refused; one in a bucket is as the bucket is"
        )

    def refusal(self, place: Rows) -> AbstractContextManager[None]:
        raise CannotOccur("a file of this machine asks nobody; one in a bucket is as the bucket is")

    @contextmanager
    def half(self, place: Rows) -> Iterator[None]:
        place.torn = True
        yield
        place.torn = False

    @contextmanager
    def repeating(self, place: Rows) -> Iterator[None]:
        place.rows["again"] = place.rows["3/3.md"]
        yield

    async def test_the_media_type_follows_the_name(self, place: SourceOfTests) -> None:
        assert isinstance(place, Rows)
        place.put("a", b"# A")
        connector = place.connector(media_type="text/markdown")
        [ref] = await listed(connector)
        assert (await connector.load(ref)).media_type == "text/markdown"


class TestJsonLines(RowsContract):
    rereads = False

    def holds(self, content: bytes, given: bytes) -> bool:
        return content == given.decode("utf-8", "replace").encode()

    @pytest.fixture
    def place(self, tmp_path: Path) -> Rows:
        return Rows(tmp_path / "rows.jsonl", jsonl)


class TestPackedJsonLinesWithVersions(TestJsonLines):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Rows:
        return Rows(tmp_path / "rows.jsonl.gz", jsonl, {"version_field": "version"})


class TestParquet(RowsContract):
    half_is = SourceRefused

    @pytest.fixture
    def place(self, tmp_path: Path) -> Rows:
        return Rows(tmp_path / "rows.parquet", parquet)


class TestParquetWithVersions(RowsContract):
    half_is = SourceRefused

    @pytest.fixture
    def place(self, tmp_path: Path) -> Rows:
        return Rows(tmp_path / "rows.parquet", parquet, {"version_field": "version"})


NESTED = {
    "id": 7,
    "lang": "de",
    "body": {"text": "Grüße"},
    "author": {"name": "Ada", "full.name": "Ada L."},
    "tags": ["a", {"label": "b"}],
    "link": "https://x/7",
    "seen": None,
}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
async def test_fields_are_named_by_their_way(tmp_path: Path, kind: str) -> None:
    row: dict[str, Any] = (
        dict(NESTED) if kind == "jsonl" else {**NESTED, "tags": [{"label": "a"}, {"label": "b"}]}
    )
    file = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        write_jsonl(file, [row])
    else:
        pq.write_table(pa.Table.from_pylist([row]), file)
    connector = (jsonl if kind == "jsonl" else parquet)(
        file,
        key_field=["id", "lang"],
        text_field="body.text",
        title_field="author.name",
        url_field="link",
        metadata_fields={
            "by": 'author["full.name"]',
            "second": "tags[1].label",
            "tags": "tags",
            "seen": "seen",
        },
    )
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    assert ref.key == "7/de"
    assert (raw.content.decode(), raw.title, raw.url) == ("Grüße", "Ada", "https://x/7")
    assert raw.metadata == {"by": "Ada L.", "second": "b", "tags": row["tags"], "seen": None}
    assert raw.ref == ref


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a", {"b": [{"c": 1}, "x"]}),
        ("a.b[0].c", 1),
        ('a["b"][1]', "x"),
        ("a.b[2]", None),
        ("a.b.c", None),
        ("a.b[1].c", None),
        ("a.b[1][0]", None),
        ("none.of.it", None),
        ("with space", 2),
        ('["dot.ted"]', 3),
    ],
)
def test_the_value_at_a_path(path: str, value: object) -> None:
    row = {"a": {"b": [{"c": 1}, "x"]}, "with space": 2, "dot.ted": 3}
    assert value_at(row, path) == value


@pytest.mark.parametrize("path", ["", ".a", "a.", "a..b", "[0]", "a[", "a[x]", "a[-1]", "a[0]b", 'a["', "a]"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match=r"no way to a field|is empty"):
        JsonlSettings.model_validate({"type": "jsonl", "path": "x", "key_field": path, "text_field": "a"})


async def test_dates_decimals_and_numbers_of_parquet_are_metadata(tmp_path: Path) -> None:
    when = datetime(2026, 11, 21, 12, tzinfo=UTC)
    row = {"id": 1, "body": "x", "when": when, "price": Decimal("2.50"), "nan": float("nan"), "raw": b"\xff"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows.parquet")
    connector = parquet(tmp_path / "rows.parquet", metadata_fields=["when", "price", "nan", "raw"])
    [ref] = await listed(connector)
    metadata = (await connector.load(ref)).metadata
    assert metadata == {"when": "2026-11-21T12:00:00+00:00", "price": 2.5, "nan": None, "raw": "ff"}
    assert json.dumps(metadata)


async def test_only_fields_that_are_read_make_another_version(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_jsonl(file, [{"id": 1, "body": "x", "views": 1, "team": "a"}])
    connector = jsonl(file, metadata_fields=["team"])
    [first] = await listed(connector)
    write_jsonl(file, [{"team": "a", "views": 2, "body": "x", "id": 1}])
    assert await listed(connector) == [first]
    write_jsonl(file, [{"team": "b", "views": 2, "body": "x", "id": 1}])
    assert await listed(connector) != [first]


async def test_a_broken_line_costs_itself_and_is_reported_by_its_place(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"id": "a", "body": "first"}',
        b'{"id": "b", "body": ',
        b"",
        b'{"body": "no key"}',
        b"[1, 2]",
        b'{"id": "c", "body": "\xff"}',
        b"[" * 100_000,
        b'{"id": "long", "body": "' + b"x" * 300_000 + b'"}',
        b'{"id": {"a": 1}, "body": ""}',
        b'{"id": "z", "body": null}',
    ]
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\r\n".join(lines))
    connector = jsonl(file, max_bytes=200_000)
    refs = {ref.key: ref for ref in await listed(connector)}
    assert list(refs) == ["a", *(f"rows.jsonl:{number}" for number in (2, 4, 5, 6, 7, 8, 9)), "z"]
    assert (await connector.load(refs["a"])).content == b"first"
    assert (await connector.load(refs["z"])).content == b""
    said = {
        2: "rows.jsonl:2 is no JSON",
        4: "has no id",
        5: "is no object",
        6: "is no JSON",
        7: "is no JSON",
        8: r"more than sources\.docs\.max_bytes: 200,000",
        9: "has no id",
    }
    for number, words in said.items():
        with pytest.raises(ItemUnreadable, match=words):
            await connector.load(refs[f"rows.jsonl:{number}"])


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
async def test_a_file_that_was_cut_short_fails_the_listing(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows.{suffix}"
    write_jsonl(file, [{"id": number, "body": f"text {number}"} for number in range(1000)])
    content = (tmp_path / f"rows.{suffix}").read_bytes()
    file.write_bytes(content[: len(content) - 20])
    with pytest.raises(SourceUnavailable, match=rf"rows\.{suffix} ends in the middle of a row"):
        await listed(jsonl(file))


async def test_what_is_no_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(b'{"id": 1}')
    with pytest.raises(SourceRefused, match="no whole gzip file"):
        await listed(jsonl(tmp_path / "rows.jsonl.gz"))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
async def test_two_rows_with_one_key_are_refused_also_over_files(tmp_path: Path, kind: str) -> None:
    rows = [{"id": "a", "body": b"1"}, {"id": "b", "body": b"2"}]
    write, connect = (write_jsonl, jsonl) if kind == "jsonl" else (write_parquet, parquet)
    write(tmp_path / f"1.{kind}", rows)
    write(tmp_path / f"2.{kind}", rows[1:])
    with pytest.raises(SourceRefused, match=rf"2\.{kind} has the key 'b' of another"):
        await listed(connect(tmp_path / f"*.{kind}"))


async def test_files_are_those_that_match_in_their_order(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "a/1.jsonl", "a/deep/3.jsonl", "c.txt", "a/[odd].jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_jsonl(tmp_path / name, [{"id": name, "body": "x"}])

    async def keys(path: str) -> list[str]:
        return [ref.key for ref in await listed(jsonl(tmp_path / path))]

    assert await keys("**/*.jsonl") == ["a/1.jsonl", "a/[odd].jsonl", "a/deep/3.jsonl", "b/2.jsonl"]
    assert await keys("{a,b}/?.jsonl") == ["a/1.jsonl", "b/2.jsonl"]
    assert await keys("a/[odd].jsonl") == ["a/[odd].jsonl"]
    for path, said in (
        ("*.json", "no file matches"),
        ("none.jsonl", "does not exist"),
        ("no/*.x", "does not exist"),
    ):
        with pytest.raises(SourceRefused, match=said):
            await keys(path)


async def test_what_is_no_parquet_or_lacks_a_column_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    file.write_bytes(b"PAR1 but no more")
    with pytest.raises(SourceRefused, match="no whole Parquet file"):
        await listed(parquet(file))
    write_parquet(file, [{"id": "a", "body": b""}])
    with pytest.raises(SourceRefused, match=r"has no column titel; it has id, body, version"):
        await listed(parquet(file, title_field="titel"))
    write_parquet(file, [{"id": "a", "body": b""}, {"id": None, "body": b""}])
    connector = parquet(file)
    refs = await listed(connector)
    assert [ref.key for ref in refs] == ["a", "rows.parquet:2"]
    with pytest.raises(ItemUnreadable, match="has no id"):
        await connector.load(refs[1])


async def test_a_row_over_the_limit_costs_itself(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet", [{"id": "a", "body": bytes(1001)}, {"id": "b", "body": b"b"}])
    connector = parquet(tmp_path / "rows.parquet", max_bytes=1000)
    a, b = await listed(connector)
    with pytest.raises(ItemUnreadable, match=r"1,001 bytes, more than sources\.docs\.max_bytes: 1,000"):
        await connector.load(a)
    assert (await connector.load(b)).content == b"b"


def s3(bucket: Bucket) -> tuple[S3Store, dict[str, object]]:
    config: Any = {"endpoint": bucket.endpoint, "access_key_id": KEY, "secret_access_key": SECRET}
    store = S3Store(
        bucket.name, config={**config, "region": "us-east-1"}, client_options={"allow_http": True}
    )
    options = {
        "endpoint": bucket.endpoint,
        "allow_http": True,
        "aws_access_key_id": SecretStr(KEY),
        "aws_secret_access_key": SecretStr(SECRET),
    }
    return store, options


async def test_lines_in_a_bucket_are_read_as_a_stream(bucket: Bucket, tmp_path: Path) -> None:
    store, options = s3(bucket)
    for name in ("1.jsonl.gz", "2.jsonl", "3.txt"):
        write_jsonl(tmp_path / name, [{"id": f"{name}/{row}", "body": "x" * 50} for row in range(100)])
        obstore.put(store, f"exports/{name}", (tmp_path / name).read_bytes())
    connector = jsonl(f"s3://{bucket.name}/exports/*.{{jsonl,jsonl.gz}}", options=options)
    refs = await listed(connector)
    assert len(refs) == 200
    assert (await connector.load(refs[0])).content == b"x" * 50
    assert len(await listed(jsonl(f"s3://{bucket.name}/exports/2.jsonl", options=options))) == 100
    for name, said in (("4.jsonl", "is not there"), ("*.json", "no file matches")):
        with pytest.raises(SourceRefused, match=said):
            await listed(jsonl(f"s3://{bucket.name}/exports/{name}", options=options))


async def test_of_parquet_in_a_bucket_only_the_columns_that_are_needed_are_read(
    bucket: Bucket, tmp_path: Path
) -> None:
    store, options = s3(bucket)
    rows = [{"id": str(row), "body": bytes([row]) * 100_000, "version": row} for row in range(40)]
    schema = pa.schema([("id", pa.string()), ("body", pa.binary()), ("version", pa.int64())])
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(
        table, tmp_path / "rows.parquet", row_group_size=10, compression="none", use_dictionary=False
    )
    content = (tmp_path / "rows.parquet").read_bytes()
    obstore.put(store, "rows.parquet", content)
    connector = parquet(f"s3://{bucket.name}/rows.parquet", options=options, version_field="version")
    refs = await listed(connector)
    asked = bucket.requests()
    assert [ref.version for ref in refs] == [str(row) for row in range(40)]
    assert (await connector.load(refs[25])).content == rows[25]["body"]
    assert (await connector.load(refs[20])).content == rows[20]["body"]
    assert (bucket.requests() - asked)["GET"] < 20
    obstore.put(store, "rows.parquet", content[:-1] + b"X")
    with pytest.raises(SourceRefused, match="no whole Parquet"):
        await connector.load(refs[0])


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
async def test_a_file_that_has_not_changed_is_not_read_again(
    bucket: Bucket, tmp_path: Path, kind: str
) -> None:
    store, options = s3(bucket)
    file = tmp_path / f"rows.{kind}"
    rows = [{"id": str(row), "body": b"text", "version": 1} for row in range(30)]
    write, connect = (write_parquet, parquet) if kind == "parquet" else (write_jsonl, jsonl)
    write(file, rows)
    obstore.put(store, file.name, file.read_bytes())

    def again(**settings: object) -> JsonlConnector | ParquetConnector:
        return connect(f"s3://{bucket.name}/{file.name}", options=options, **settings)

    world = World(store=MemoryStore(OracleEmbedder().space))
    report = await ingest_source(again(), world.pipeline, metadata={})
    assert (report.listed, report.added) == (30, 30)
    asked = bucket.requests()
    report = await ingest_source(again(), world.pipeline, metadata={})
    assert (report.listed, report.unchanged) == (30, 30)
    assert bucket.requests() - asked == {"HEAD": 1}
    connector = again()
    refs = await listed(connector)
    raws = [await connector.load(ref) for ref in refs]
    assert [raw.ref for raw in raws] == refs
    assert {raw.content for raw in raws} == {b"text"}
    assert await listed(again(metadata_fields=["version"])) != refs
    rows[3]["body"] = b"another text"
    write(file, rows)
    obstore.put(store, file.name, file.read_bytes())
    changed = [new.key for old, new in zip(refs, await listed(again()), strict=True) if old != new]
    assert changed == ["3"]


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_what_is_remembered_may_be_damaged(tmp_path: Path, cache: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"id": row, "body": f"text {row}"} for row in range(2000)])
    refs = await listed(jsonl(tmp_path / "rows.jsonl"))
    [remembered] = files_in(cache)
    whole = remembered.read_bytes()
    for damaged in (b"", b"no gzip", gzip.compress(b"no JSON"), gzip.compress(b'"another version"\n')):
        remembered.write_bytes(damaged)
        assert await listed(jsonl(tmp_path / "rows.jsonl")) == refs
    remembered.write_bytes(whole[:-2000])
    with pytest.raises(SourceUnavailable, match="is damaged, and was deleted"):
        await listed(jsonl(tmp_path / "rows.jsonl"))
    assert await listed(jsonl(tmp_path / "rows.jsonl")) == refs
    assert files_in(cache) == [remembered]


async def test_a_listing_that_fails_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"id": row // 2, "body": "x"} for row in range(10)])
    with pytest.raises(SourceRefused):
        await listed(jsonl(tmp_path / "rows.jsonl"))
    assert files_in(cache) == []
    with pytest.raises(SourceRefused, match=r"sources\.docs\.cache: .* cannot be written"):
        await listed(jsonl(tmp_path / "rows.jsonl", cache=str(tmp_path / "rows.jsonl" / "no folder")))


async def test_parquet_that_changes_while_it_is_read_fails_the_listing(
    bucket: Bucket, tmp_path: Path
) -> None:
    store, options = s3(bucket)
    write_parquet(
        tmp_path / "rows.parquet", [{"id": str(row), "body": b"x"} for row in range(3000)], group=1000
    )
    content = (tmp_path / "rows.parquet").read_bytes()
    obstore.put(store, "rows.parquet", content)
    refs = parquet(f"s3://{bucket.name}/rows.parquet", options=options).list_items()
    await anext(refs)
    obstore.put(store, "rows.parquet", content + content)
    with pytest.raises(SourceUnavailable, match=r"rows.parquet changed while it was read"):
        async for _ in refs:
            pass


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
async def test_a_hundred_thousand_rows_need_little_memory(tmp_path: Path, kind: str) -> None:
    """Of 100 MB of texts, at no time more than a few."""
    count, text, file = 100_000, "x" * 1000, tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        with file.open("w") as lines:
            lines.writelines(f'{{"id": "{n}", "body": "{text}", "version": 1}}\n' for n in range(count))
    else:
        schema = pa.schema([("id", pa.string()), ("body", pa.string()), ("version", pa.int64())])
        with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
            for start in range(0, count, 10_000):
                rows = [{"id": f"{n}", "body": text, "version": 1} for n in range(start, start + 10_000)]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    connector = (jsonl if kind == "jsonl" else parquet)(file, version_field="version")
    process = psutil.Process()
    before = peak = process.memory_info().rss
    refs = []
    async for ref in connector.list_items():
        refs.append(ref)
        if len(refs) % 1000 == 0:
            peak = max(peak, process.memory_info().rss)
    assert len(refs) == count
    for ref in refs[:50] + refs[-50:]:
        assert (await connector.load(ref)).content == text.encode()
    peak = max(peak, process.memory_info().rss)
    assert peak - before < 90_000_000  # 50 MB are the items and their places


async def test_a_listing_that_is_left_closes_its_file(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"id": row, "body": "x"} for row in range(5000)])
    connector = jsonl(tmp_path / "rows.jsonl")
    process = psutil.Process()
    for _ in range(3):
        with anyio.CancelScope() as scope:
            async for _ref in connector.list_items():
                scope.cancel()
                await anyio.lowlevel.checkpoint()
    gc.collect()
    await anyio.sleep(0.05)
    assert [one.path for one in process.open_files() if one.path.endswith("rows.jsonl")] == []
