"""Files in object storage and in archives: the contract on each, S3 being a real server."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote
from xml.sax.saxutils import escape

import anyio
import httpx
import obstore
import pytest
from obstore.store import S3Store
from pydantic import SecretStr, ValidationError

from config.load import load_settings
from connectors.files import FilesSettings, RemoteFiles, files_connector
from connectors.registry import connect as connect_source
from pipeline.errors import ItemUnreadable, SettingsError, SourceRefused, SourceUnavailable
from pipeline.ingest import ingest_source
from pipeline.stores.memory import MemoryStore
from tests.contract.connector_contract import CannotOccur, ConnectorContract, listed
from tests.fakes import OracleEmbedder
from tests.loopback import Asked, Said, hasten, serving
from tests.s3 import FAR, KEY, SECRET, Bucket, new_bucket
from tests.world import World

PAGE = 3
"""Objects that our own storage lists at once."""
ONCE = "a bucket has each key once, and its pages go by the keys"


def connect(url: str, options: Mapping[str, object] | None = None, **settings: object) -> RemoteFiles:
    chosen = {"type": "files", "url": url, "options": dict(options or {}), "include": ["**/*"], **settings}
    connector = files_connector(source="docs", settings=FilesSettings.model_validate(chosen))
    assert isinstance(connector, RemoteFiles)
    return connector


@dataclass(frozen=True)
class S3Folder:
    """A folder of a bucket at moto's server."""

    bucket: Bucket

    @property
    def url(self) -> str:
        return f"s3://{self.bucket.name}/some/folder"

    @property
    def options(self) -> dict[str, object]:
        secrets = {name: SecretStr(value) for name, value in (("id", KEY), ("secret", SECRET))}
        return {
            "endpoint": self.bucket.endpoint,
            "allow_http": True,
            "aws_access_key_id": secrets["id"],
            "aws_secret_access_key": secrets["secret"],
        }

    def connector(self, **settings: object) -> RemoteFiles:
        return connect(self.url, self.options, **settings)

    def put(self, key: str, content: bytes = b"x", about: Any = None) -> None:
        obstore.put(self.store, f"some/folder/{key}", content, attributes=about)

    def drop(self, key: str) -> None:
        obstore.delete(self.store, f"some/folder/{key}")

    @property
    def store(self) -> S3Store:
        key = {"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
        config: Any = {"endpoint": self.bucket.endpoint, **key}
        return S3Store(self.bucket.name, config=config, client_options={"allow_http": True})

    async def keys(self, **settings: object) -> list[str]:
        return [ref.key for ref in await listed(self.connector(**settings))]


@pytest.fixture
def place(bucket: Bucket) -> S3Folder:
    return S3Folder(bucket)


class TestOnS3(ConnectorContract):
    """The contract, on a folder of a bucket."""

    many = 60
    pages = 7

    def outage(self, place: S3Folder) -> AbstractContextManager[None]:
        raise CannotOccur("moto serves all tests at once: see TestOnGoogleStorage, of the same client")

    @contextmanager
    def refusal(self, place: S3Folder) -> Iterator[None]:
        other = place.options | {"aws_access_key_id": SecretStr("another")}
        with patch.object(S3Folder, "options", other):
            yield

    def half(self, place: S3Folder) -> AbstractContextManager[None]:
        raise CannotOccur("moto tells 1,000 objects at once: see TestOnGoogleStorage, of the same client")

    def repeating(self, place: S3Folder) -> AbstractContextManager[None]:
        raise CannotOccur(ONCE)


@dataclass
class Storage:
    """Object storage that answers as the XML API of Google Cloud Storage (and S3) does, a few at a time.

    https://cloud.google.com/storage/docs/xml-api/get-bucket-list
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    failing_from_page: int | None = None
    status: int = 503
    down: bool = False
    url: str = ""

    def answer(self, asked: Asked) -> Said:
        self.asked.append(asked)
        if self.down:
            return Said(status=self.status)
        key = unquote(asked.path).removeprefix("/shelf").removeprefix("/")
        if key:
            return self._object(key, asked)
        return self._page(asked.query)

    def _object(self, key: str, asked: Asked) -> Said:
        if key not in self.objects:
            return Said(status=404, content=b"<Error><Code>NoSuchKey</Code></Error>")
        headers = {"ETag": _tag(self.objects[key]), "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
        return Said(content=self.objects[key], headers=headers)

    def _page(self, query: Any) -> Said:
        after, prefix = query.get("continuation-token", ""), query.get("prefix", "")
        names = sorted(name for name in self.objects if name.startswith(prefix) and name > after)
        if self.failing_from_page is not None and len(self.pages) >= self.failing_from_page:
            return Said(status=self.status, content=b"<Error><Code>InternalError</Code></Error>")
        page, more = names[:PAGE], names[PAGE:]
        rows = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-11-21T10:00:00.000Z</LastModified>"
            f"<ETag>{escape(_tag(self.objects[name]))}</ETag><Size>{len(self.objects[name])}</Size></Contents>"
            for name in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        truncated = str(bool(more)).lower()
        body = f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{token}{rows}</ListBucketResult>"
        return Said(content=body.encode(), headers={"Content-Type": "application/xml"})

    @property
    def pages(self) -> list[Asked]:
        return [asked for asked in self.asked if "list-type" in asked.query]

    def connector(self, scheme: str = "gs", **settings: object) -> RemoteFiles:
        options = {"endpoint": self.url, "allow_http": True, "anonymous": True}
        return connect(f"{scheme}://shelf", options, **settings)

    def put(self, key: str, content: bytes) -> None:
        self.objects[key] = content

    def drop(self, key: str) -> None:
        del self.objects[key]


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'  # noqa: S324 - what S3 has for an ETag


@pytest.fixture
def storage() -> Iterator[Storage]:
    made = Storage()
    with serving(made.answer) as made.url:
        yield made


class TestOnGoogleStorage(ConnectorContract):
    """The contract, through Google's client, on a server that answers as Google documents it."""

    many = 40

    @pytest.fixture
    def place(self, storage: Storage) -> Storage:
        return storage

    @contextmanager
    def outage(self, place: Storage) -> Iterator[None]:
        place.down = True
        yield
        place.down = False

    @contextmanager
    def refusal(self, place: Storage) -> Iterator[None]:
        place.down, place.status = True, 403
        yield
        place.down, place.status = False, 503

    @contextmanager
    def half(self, place: Storage) -> Iterator[None]:
        place.asked.clear()
        place.failing_from_page = 2
        yield
        place.failing_from_page = None

    def repeating(self, place: Storage) -> AbstractContextManager[None]:
        raise CannotOccur(ONCE)


@dataclass(frozen=True)
class Zip:
    """A folder of an archive; what is changed writes it anew."""

    file: Path

    def connector(self, **settings: object) -> RemoteFiles:
        return connect(f"zip://{self.file}!/inside", **settings)

    def contents(self) -> dict[str, bytes]:
        with zipfile.ZipFile(self.file) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def write(self, contents: dict[str, bytes]) -> None:
        new = self.file.with_suffix(".new")
        with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        new.replace(self.file)

    def put(self, key: str, content: bytes) -> None:
        self.write({**self.contents(), f"inside/{key}": content})

    def drop(self, key: str) -> None:
        self.write({name: one for name, one in self.contents().items() if name != f"inside/{key}"})


@pytest.fixture
def archive(tmp_path: Path) -> Zip:
    made = Zip(tmp_path / "backup.zip")
    made.write({"outside.md": b"not in the folder"})
    return made


class TestInAnArchive(ConnectorContract):
    """The contract, on a ZIP archive of this machine."""

    many = 40
    half_is = SourceRefused

    def outage(self, place: Zip) -> AbstractContextManager[None]:
        raise CannotOccur(
            "an archive of this machine is there, or is refused; one in a bucket is as the bucket is"
        )

    def refusal(self, place: Zip) -> AbstractContextManager[None]:
        raise CannotOccur("an archive of this machine asks nobody; one in a bucket is as the bucket is")

    @contextmanager
    def half(self, place: Zip) -> Iterator[None]:
        whole = place.file.read_bytes()
        place.file.write_bytes(whole[: len(whole) - 1000])
        yield
        place.file.write_bytes(whole)

    @contextmanager
    def repeating(self, place: Zip) -> Iterator[None]:
        with zipfile.ZipFile(place.file, "a") as archive, warnings.catch_warnings(action="ignore"):
            archive.writestr("inside/3/3.md", b"again")
        yield

    @pytest.fixture
    def place(self, archive: Zip) -> Zip:
        return archive


@dataclass
class Served:
    """A folder that Python's own web server lists; `asked` has the methods and paths of its requests."""

    root: Path
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    etags: bool = False
    broken: str = ""
    """A path that is answered 503."""

    def connector(self, **settings: object) -> RemoteFiles:
        return connect(self.url + "/", **settings)

    def put(self, key: str, content: bytes) -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(content)

    def drop(self, key: str) -> None:
        (self.root / key).unlink()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    hasten(monkeypatch)
    (tmp_path / "served").mkdir()
    made = Served(tmp_path / "served")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(made.root))

        def send_head(self) -> Any:
            made.asked.append((self.command, unquote(self.path)))
            made.headers.append(self.headers)
            if made.broken and made.broken in self.path:
                return self.send_error(503)
            return super().send_head()

        def end_headers(self) -> None:
            file = Path(self.translate_path(self.path))
            if made.etags and file.is_file():
                self.send_header("ETag", f'W/"{hashlib.sha256(file.read_bytes()).hexdigest()}"')
            super().end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def failing_below(path: str, status: int = 503) -> AbstractContextManager[object]:
    """Python's web server answers so to what has this in its path."""
    send_head = SimpleHTTPRequestHandler.send_head

    def answer(handler: SimpleHTTPRequestHandler) -> Any:
        return handler.send_error(status) if path in handler.path else send_head(handler)

    return patch.object(SimpleHTTPRequestHandler, "send_head", answer)


class TestOnAWebServer(ConnectorContract):
    """The contract, on Python's own web server, which tells the second of the last change."""

    many = 60

    def outage(self, place: Served) -> AbstractContextManager[object]:
        return failing_below("/")

    def refusal(self, place: Served) -> AbstractContextManager[object]:
        return failing_below("/", 401)

    def half(self, place: Served) -> AbstractContextManager[object]:
        return failing_below("/3/")

    @contextmanager
    def repeating(self, place: Served) -> Iterator[None]:
        listdir = os.listdir
        with patch("http.server.os.listdir", lambda path: listdir(path) * 2):
            yield

    @pytest.fixture
    def place(self, served: Served) -> Served:
        return served


class TestOnAWebServerWithEtags(TestOnAWebServer):
    """The contract, where there are ETags, and one more folder above."""

    @pytest.fixture
    def place(self, served: Served) -> Served:
        served.etags = True
        (served.root / "some folder" / "deep").mkdir(parents=True)
        return Served(
            served.root / "some folder" / "deep", url=served.url + "/some%20folder/deep", asked=served.asked
        )


async def test_a_second_ingest_gets_no_file_of_a_web_server(served: Served) -> None:
    for number in range(5):
        served.put(f"sub/{number}.md", f"# Number {number}".encode())
    world = World(store=MemoryStore(OracleEmbedder().space))
    await ingest_source(served.connector(), world.pipeline, metadata={})
    assert sum(method == "GET" and path.endswith(".md") for method, path in served.asked) == 5
    served.asked.clear()
    report = await ingest_source(served.connector(), world.pipeline, metadata={})
    assert report.unchanged == 5
    assert [path for method, path in served.asked if method == "GET"] == ["/", "/sub/"]


async def test_a_web_server_is_asked_about_nothing_that_is_left_out(served: Served) -> None:
    for name in ("docs/a.md", "docs/b.png", "docs/old/c.md", "docs/.git/d.md", "other/e.md"):
        served.put(name, b"x")
    refs = await listed(served.connector(include=["docs/**/*.md"], exclude=["**/old"]))
    assert [ref.key for ref in refs] == ["docs/a.md"]
    assert served.asked == [("GET", "/docs/"), ("HEAD", "/docs/a.md")]


async def test_a_file_of_a_web_server_is_a_source_of_its_own(served: Served) -> None:
    served.put("sub/a b.md", b"# A")
    connector = connect(f"{served.url}/sub/a%20b.md")
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    assert (ref.key, raw.content, raw.url, raw.ref) == ("a b.md", b"# A", f"{served.url}/sub/a%20b.md", ref)


async def test_a_folder_of_a_web_server_that_fails_fails_the_listing(served: Served) -> None:
    for name in ("a.md", "b/c.md", "d.md"):
        served.put(name, b"x")
    for broken in ("/b/", "/c.md", "/d.md"):
        served.broken = broken
        with pytest.raises(SourceUnavailable):
            await listed(served.connector())
    served.broken = ""
    assert len(await listed(served.connector())) == 3


async def test_what_a_web_server_does_not_list_is_refused(served: Served) -> None:
    served.put("a.txt", b"x")
    for path, said in (("none/", "404"), ("a.txt/", "404")):
        with pytest.raises(SourceRefused, match=said):
            await listed(connect(f"{served.url}/{path}"))

    def answer(asked: Asked) -> Said:
        if asked.path == "/binary/":
            return Said(content=b"x", headers={"Content-Type": "application/pdf"})
        if asked.path == "/locked/":
            return Said(status=401)
        if asked.path.startswith("/round/"):
            return Said(content=b"<a href='again/'>again</a>", headers={"Content-Type": "text/html"})
        return Said(status=302, headers={"Location": "http://127.0.0.2:1/"})

    with serving(answer) as url:
        for path, said in (
            ("binary", "is application/pdf, and no listing"),
            ("locked", "401"),
            ("round", "go round in a circle"),
            ("away", r"does not read"),
        ):
            with pytest.raises(SourceRefused, match=said):
                await listed(connect(f"{url}/{path}/"))


async def test_links_that_lead_elsewhere_are_no_files_of_a_listing() -> None:
    links = (
        "../ ?C=M;O=A ./ /etc/passwd //other.example/x.md https://other.example/here/y.md #top mailto:a@b "
        "a.md sub/../b.md sub/deep.md /here/c.md http://[bad d%2Fe.md /here/f%20g.md#part"
    )

    def answer(asked: Asked) -> Said:
        page = "".join(f'<a href="{link}">x</a>' for link in links.split())
        kind = "text/html" if asked.path == "/here/" else "text/markdown"
        return Said(content=page.encode(), headers={"Content-Type": kind})

    with serving(answer) as url:
        connector = connect(f"{url}/here/")
        refs = await listed(connector)
        assert [ref.key for ref in refs] == ["a.md", "b.md", "c.md", "f g.md"]
        assert len({ref.version for ref in refs}) == 1  # of a server that tells none: of the content
        assert (await connector.load(refs[0])).ref == refs[0]


async def test_a_password_is_sent_to_the_web_server_and_not_shown(served: Served) -> None:
    served.put("a.md", b"x")
    options: dict[str, object] = {"username": "me", "password": SecretStr("the-password")}
    connector = connect(served.url + "/", options)
    [ref] = await listed(connector)
    await connector.load(ref)
    assert {headers["Authorization"] for headers in served.headers} == {"Basic bWU6dGhlLXBhc3N3b3Jk"}
    served.broken = "a.md"
    with pytest.raises(SourceUnavailable) as caught:
        await connector.load(ref)
    assert "the-password" not in f"{caught.value}{connector!r}"


async def test_a_second_ingest_asks_for_no_object(place: S3Folder) -> None:
    for number in range(7):
        place.put(f"{number}.md", f"# Number {number}\n\nSome words.".encode())
    world = World(store=MemoryStore(OracleEmbedder().space))
    report = await ingest_source(place.connector(), world.pipeline, metadata={})
    assert (report.listed, report.added) == (7, 7)
    before = place.bucket.requests()
    assert before["GET"] == 7
    place.put("3.md", b"# Another")
    report = await ingest_source(place.connector(), world.pipeline, metadata={})
    assert (report.unchanged, report.changed) == (6, 1)
    between = place.bucket.requests()
    assert between["GET"] == 8
    report = await ingest_source(place.connector(), world.pipeline, metadata={})
    assert report.unchanged == 7
    after = place.bucket.requests()
    assert {name: after[name] - between[name] for name in ("GET", "HEAD", "LIST")} == {
        "GET": 0,
        "HEAD": 0,
        "LIST": 1,
    }


async def test_more_objects_than_a_page_has_come_in_order(storage: Storage) -> None:
    storage.objects |= {f"{number:04}.md": b"x" for number in range(20)}
    assert [ref.key for ref in await listed(storage.connector("s3"))] == sorted(storage.objects)
    assert len(storage.pages) == 7


async def test_globs_choose_and_only_the_folder_that_they_share_is_listed(place: S3Folder) -> None:
    for key in ("a.md", "docs/a.md", "docs/b.txt", "docs/old/c.md", "docs/.hidden/d.md", "docs/x/.e.md"):
        place.put(key)
    for outside in ("some/outside.md", "some/folder-beside/a.md"):
        obstore.put(place.store, outside, b"x")
    assert await place.keys() == ["a.md", "docs/a.md", "docs/b.txt", "docs/old/c.md"]
    assert await place.keys(include=["docs/**/*.md"]) == ["docs/a.md", "docs/old/c.md"]
    assert await place.keys(include=["docs/{old,new}/*.md"]) == ["docs/old/c.md"]
    assert await place.keys(exclude=["**/old", "*.md"]) == ["docs/a.md", "docs/b.txt"]
    hidden = ["docs/.hidden/d.md", "docs/x/.e.md"]
    assert await place.keys(include=["docs/**/.*/*", "docs/**/.*"], hidden=True) == hidden


async def test_only_the_shared_folder_is_asked_for(storage: Storage) -> None:
    storage.objects |= {"docs/a.md": b"a", "x/b.md": b"b", "docs/old/c.md": b"c"}
    refs = await listed(storage.connector(include=["docs/*.md", "docs/old/**"]))
    assert [ref.key for ref in refs] == ["docs/a.md", "docs/old/c.md"]
    assert {asked.query["prefix"] for asked in storage.pages} == {"docs/"}


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"include": ["*"]},
        {"include": ["*/*.md", "b/**"]},
        {"include": ["a/b/**/*.{md,txt}"]},
        {"include": ["a/b/c.md", "a/x/d.md"]},
        {"include": ["**/b/*", "**/.h/*"], "hidden": True},
        {"exclude": ["a/b", "**/*.txt"]},
        {"exclude": ["**"]},
        {"hidden": True, "exclude": ["**/.h"]},
    ],
)
async def test_globs_mean_everywhere_what_they_mean_in_a_folder(
    served: Served, archive: Zip, storage: Storage, chosen: dict[str, object]
) -> None:
    keys = [
        "a.md",
        "a/b/c.md",
        "a/b/c.txt",
        "a/b/.h/d.md",
        "a/x/d.md",
        "a/x/b/e.txt",
        "b/f.md",
        "b/b/g.md",
        ".h/i.md",
        "a/.j.md",
    ]
    for key in keys:
        served.put(key, b"x")
        storage.put(key, b"x")
    archive.write({f"inside/{key}": b"x" for key in keys})
    settings = {"type": "files", "include": ["**/*"], "path": str(served.root), **chosen}
    local = files_connector(source="docs", settings=FilesSettings.model_validate(settings))
    wanted = [ref.key for ref in await listed(local)]
    for place in (served, archive, storage):
        assert sorted([ref.key for ref in await listed(place.connector(**chosen))]) == sorted(wanted)


async def test_marks_of_folders_are_no_files(place: S3Folder) -> None:
    async with httpx.AsyncClient(base_url=place.bucket.endpoint) as client:
        (await client.put(f"/{place.bucket.name}/some/folder/sub/")).raise_for_status()
    place.put("sub/a.md", b"")
    assert await place.keys() == ["sub/a.md"]


async def test_an_object_has_an_address_and_a_media_type(place: S3Folder) -> None:
    place.put("ä b.md", about={"Content-Type": "text/x-unusual"})
    place.put("page", about={"Content-Type": "text/html; charset=utf-8"})
    place.put("data", about={"Content-Type": "binary/octet-stream"})
    connector = place.connector()
    raws = {ref.key: await connector.load(ref) for ref in await listed(connector)}
    assert raws["ä b.md"].url == f"{place.url}/%C3%A4%20b.md"
    assert {key: raw.media_type for key, raw in raws.items()} == {
        "ä b.md": "text/markdown",
        "page": "text/html",
        "data": "application/octet-stream",
    }


async def test_an_object_that_is_kept_packed_is_unpacked_within_the_limit(place: S3Folder) -> None:
    packed = gzip.compress(bytes(100_000))
    place.put("a.md", gzip.compress(b"# A"), about={"Content-Encoding": "gzip"})
    place.put("b.md", packed, about={"Content-Encoding": "gzip"})
    place.put("c.md", b"no gzip", about={"Content-Encoding": "gzip"})
    connector = place.connector(max_bytes=50_000)
    a, b, c = await listed(connector)
    raw = await connector.load(a)
    assert (raw.content, raw.ref) == (b"# A", a)
    with pytest.raises(ItemUnreadable, match=r"more than sources\.docs\.max_bytes: 50,000"):
        await connector.load(b)
    with pytest.raises(ItemUnreadable, match="said to be packed"):
        await connector.load(c)


async def test_an_object_over_the_limit_is_not_asked_for(place: S3Folder) -> None:
    place.put("large.md", bytes(1001))
    connector = place.connector(max_bytes=1000)
    [ref] = await listed(connector)
    with pytest.raises(ItemUnreadable, match=r"1,001 bytes, more than sources\.docs\.max_bytes: 1,000"):
        await connector.load(ref)
    assert place.bucket.requests()["GET"] == 0


async def test_no_such_bucket_is_refused_by_name(place: S3Folder) -> None:
    connector = connect("s3://no-such-bucket/x", place.options)
    with pytest.raises(
        SourceRefused, match=r"sources\.docs\.url: s3://no-such-bucket/x: there is no s3://no"
    ):
        await listed(connector)


async def test_a_wrong_key_is_refused_and_not_shown(place: S3Folder) -> None:
    place.put("a.md")
    [ref] = await listed(place.connector())
    wrong = {"aws_access_key_id": SecretStr("the-wrong-id"), "aws_secret_access_key": SecretStr("the-secret")}
    connector = connect(place.url, place.options | wrong)
    with pytest.raises(SourceRefused, match="does not accept the key") as caught:
        await listed(connector)
    with pytest.raises(SourceRefused, match="does not accept the key") as caught_too:
        await connector.load(ref)
    for error in (caught.value, caught_too.value):
        assert "the-secret" not in f"{error}{error.__cause__}"
        assert "the-wrong-id" not in f"{error}{error.__cause__}"
    assert "the-secret" not in repr(connector)


async def test_a_bucket_of_another_region_says_which(s3_server: str, place: S3Folder) -> None:
    far = new_bucket(s3_server, f"far-{place.bucket.name}")
    with pytest.raises(SourceRefused, match=f"set region: {FAR} in options"):
        await listed(connect(f"s3://{far.name}", place.options))
    assert await listed(connect(f"s3://{far.name}", {**place.options, "region": FAR})) == []


async def test_the_address_of_an_object_is_refused_with_what_to_write(place: S3Folder) -> None:
    place.put("a.md")
    with pytest.raises(
        SourceRefused, match=rf"write s3://{place.bucket.name}/some/folder and include: \[a.md\]"
    ):
        await listed(connect(f"{place.url}/a.md", place.options))
    assert await listed(connect(f"{place.url}/nothing", place.options)) == []


@pytest.mark.parametrize("name", ["a//b.md", "a/../b.md", "a/./b.md"])
async def test_a_name_that_no_path_can_have_is_refused_and_not_passed_over(
    storage: Storage, name: str
) -> None:
    storage.objects |= {"a.md": b"a", name: b"b"}
    with pytest.raises(SourceRefused, match="has an empty part"):
        await listed(storage.connector())


async def test_the_environment_opens_it_and_the_settings_go_before(
    place: S3Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a.md")
    monkeypatch.setenv("AWS_ENDPOINT_URL", place.bucket.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert len(await listed(connect(place.url, {"allow_http": True}))) == 1
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another")
    assert len(await listed(place.connector())) == 1


async def test_the_profile_of_the_aws_files_opens_it(
    place: S3Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a.md")
    files = {
        "AWS_CONFIG_FILE": f"[profile team]\nendpoint_url = {place.bucket.endpoint}\nregion = us-east-1\n",
        "AWS_SHARED_CREDENTIALS_FILE": f"[team]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_PROFILE", "team")
    assert len(await listed(connect(place.url, {"allow_http": True}))) == 1


async def test_a_listing_that_fails_on_a_later_page_raises(storage: Storage) -> None:
    storage.objects |= {f"{number}.md": b"x" for number in range(10)}
    for scheme in ("s3", "gs"):
        storage.failing_from_page, storage.asked = 2, []
        with pytest.raises(SourceUnavailable, match=r"sources\.docs\.url.*answered 503 InternalError"):
            await listed(storage.connector(scheme))
        assert len(storage.pages) > 2
        storage.failing_from_page, storage.asked = None, []
        assert len(await listed(storage.connector(scheme))) == 10


async def test_a_key_that_may_not_list_is_refused(storage: Storage) -> None:
    storage.failing_from_page, storage.status = 0, 403
    with pytest.raises(SourceRefused, match="may not list and read"):
        await listed(storage.connector())


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("az://c", {}, "set azure_storage_account_name"),
        (
            "az://c",
            {"azure_storage_account_name": "a", "azure_storage_account_key": SecretStr("=x=")},
            "is none",
        ),
        ("gs://b", {"google_service_account": "/none.json"}, "no service account's file"),
        ("gs://b", {"google_service_account": __file__}, "no service account's file"),
    ],
)
async def test_what_cannot_be_opened_is_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, url: str, options: dict[str, object], said: str
) -> None:
    for name in os.environ:
        if name.startswith(("AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    with pytest.raises(SourceRefused, match=said) as caught:
        await listed(connect(url, options))
    assert "=x=" not in str(caught.value)


async def test_nobody_at_the_endpoint_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    options = {"endpoint": f"http://127.0.0.1:{port}", "allow_http": True, "anonymous": True}
    with pytest.raises(SourceUnavailable, match=rf"http://127.0.0.1:{port} does not answer"):
        await listed(connect("s3://shelf", options))


async def test_cancelling_ends_a_request_at_once_and_closes_its_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        options = {
            "endpoint": f"http://127.0.0.1:{server.getsockname()[1]}",
            "allow_http": True,
            "anonymous": True,
        }
        started = time.monotonic()
        with anyio.move_on_after(0.3):
            await listed(connect("s3://shelf", options))
        assert time.monotonic() - started < 3
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            while connection.recv(65_536):
                pass  # until it is closed


async def test_a_damaged_archive_is_refused_and_a_missing_one_too(archive: Zip) -> None:
    archive.file.write_bytes(archive.file.read_bytes()[:40])
    with pytest.raises(SourceRefused, match="is no whole ZIP archive"):
        await listed(archive.connector())
    archive.file.unlink()
    with pytest.raises(SourceRefused, match=r"sources\.docs\.url: .*backup\.zip does not exist"):
        await listed(archive.connector())


async def test_a_member_that_is_a_bomb_damaged_or_encrypted_costs_itself_alone(archive: Zip) -> None:
    archive.write(
        {"inside/bomb.md": bytes(5_000_000), "inside/damaged.md": b"abcdefgh" * 9, "inside/a.md": b"a"}
    )
    content = bytearray(archive.file.read_bytes())
    with zipfile.ZipFile(archive.file) as opened:
        start = opened.getinfo("inside/damaged.md").header_offset
    content[start + 30 + len("inside/damaged.md") + 2] ^= 0xFF
    archive.file.write_bytes(content)
    connector = archive.connector(max_bytes=1_000_000)
    refs = {ref.key: ref for ref in await listed(connector)}
    with pytest.raises(ItemUnreadable, match="5,000,000 bytes, more than"):
        await connector.load(refs["bomb.md"])
    with pytest.raises(ItemUnreadable, match="damaged"):
        await connector.load(refs["damaged.md"])
    assert (await connector.load(refs["a.md"])).content == b"a"


async def test_a_member_that_lies_about_its_size_is_not_unpacked_beyond_the_limit(archive: Zip) -> None:
    archive.write({"inside/bomb.md": bytes(5_000_000)})
    content = archive.file.read_bytes()
    archive.file.write_bytes(content.replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    connector = archive.connector(max_bytes=1000)
    [ref] = await listed(connector)
    assert ref.size == 10
    with pytest.raises(ItemUnreadable):
        await connector.load(ref)


async def test_an_archive_in_a_bucket_is_read_in_parts(place: S3Folder, archive: Zip) -> None:
    noise = {f"inside/{number}.bin": os.urandom(400_000) for number in range(10)}
    archive.write({**noise, "inside/a.md": b"# A", "other/b.md": b"b"})
    place.put("backup.zip", archive.file.read_bytes())
    connector = connect(f"zip+{place.url}/backup.zip!/inside", place.options, include=["*.md"])
    [ref] = await listed(connector)
    asked = place.bucket.requests()
    raw = await connector.load(ref)
    assert (raw.content, raw.ref, raw.media_type) == (b"# A", ref, "text/markdown")
    assert raw.url == f"zip:{place.url.replace(':', '%3A')}/backup.zip!/inside/a.md"
    assert (place.bucket.requests() - asked).total() <= 2
    place.put("backup.zip", b"something else")
    [far] = [one for one in await listed(place.connector()) if one.key == "backup.zip"]
    assert far.size == 14
    with pytest.raises(SourceRefused, match="no whole ZIP"):
        await listed(connector)
    with pytest.raises(SourceRefused, match="is not there"):
        await listed(connect(f"zip+{place.url}/none.zip", place.options))


async def test_a_settings_file_names_places_and_where_the_keys_are(
    place: S3Folder, archive: Zip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a.md")
    archive.put("b.md", b"b")
    file = tmp_path / "docweave.yaml"
    text = f"""
store: {{uri: db}}
sources:
  bucket:
    type: files
    url: {place.url}
    options:
      endpoint: {place.bucket.endpoint}
      allow_http: true
      aws_access_key_id: ${{THE_ID}}
      aws_secret_access_key: file:secret
  archive: {{type: files, url: "zip://backup.zip!/inside"}}
"""
    file.write_text(text)
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    monkeypatch.setenv("THE_ID", KEY)
    settings = load_settings(file)
    connectors = [connect_source(name, source) for name, source in settings.sources.items()]
    assert [[ref.key for ref in await listed(one)] for one in connectors] == [["a.md"], ["b.md"]]
    for wrong, said in (
        (text.replace("file:secret", SECRET), "is a secret, which no file should hold"),
        (text.replace("s3://", "s4://"), r"sources\.bucket\.url.* cannot be read: valid: s3://BUCKET"),
        (text.replace("aws_access", "azure_access"), "azure_access_key_id"),
    ):
        file.write_text(wrong)
        with pytest.raises(SettingsError, match=said) as caught:
            load_settings(file)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "either `path` or `url`"),
        ({"path": "/x", "url": "s3://b"}, "either `path` or `url`"),
        ({"path": "/x", "options": {"region": "eu"}}, "has `options`, which are for `url`"),
        ({"url": "s3://"}, "must name a bucket"),
        ({"url": "s3://a/b//c"}, "empty name between two slashes"),
        ({"url": "ftp://host/x"}, "valid: s3://BUCKET/FOLDER"),
        ({"url": "github://o:r@main/x"}, "type: git"),
        ({"url": "https://example.org/x?page=2"}, "a host and a path alone"),
        ({"url": "https://me:secret@example.org/x"}, "is a secret"),
        ({"url": "https://example.org/", "options": {"region": "x"}}, "begin with s3://"),
        ({"url": "https://example.org/", "options": {"username": "x"}}, "belong together"),
        ({"url": "s3://b", "options": {"username": "x"}}, "begin with https://"),
        ({"url": "sftp://me:secret@host/x"}, "is a secret"),
        ({"url": "zip://backup.tar!/x"}, "must name a .zip file"),
        ({"url": "s3://key:secret@bucket/x"}, "is a secret"),
        (
            {"url": "gs://b", "options": {"region": "eu"}},
            "options.region is for addresses that begin with s3://",
        ),
        ({"url": "s3://b", "options": {"azure_storage_account_name": "x"}}, "begin with az://"),
        ({"url": "s3://b", "options": {"endpoint": "http://minio:9000"}}, "set allow_http: true"),
        ({"url": "s3://b", "options": {"endpoint": "minio:9000"}}, "pattern"),
        ({"url": "s3://b", "options": {"aws_access_key_id": SecretStr("x")}}, "belong together"),
        ({"url": "s3://b", "options": {"aws_access_key_id": "literal"}}, "is a secret"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        FilesSettings.model_validate({"type": "files", **settings})
    assert said in str(caught.value)
