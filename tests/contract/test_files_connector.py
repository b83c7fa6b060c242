"""The files connector: the contract, and what is particular to a file system."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import pytest

from connectors.files import FilesConnector, FilesSettings
from connectors.media_types import media_type
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from tests.contract.connector_contract import CannotOccur, ConnectorContract, listed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and odd names as POSIX has them")
reads_anything = os.name == "posix" and os.geteuid() == 0


@dataclass(frozen=True)
class Folder:
    root: Path
    settings: dict[str, object]

    def connector(self, **settings: object) -> FilesConnector:
        chosen = {"type": "files", "path": str(self.root), **self.settings, **settings}
        return FilesConnector(source="docs", settings=FilesSettings.model_validate(chosen))

    def put(self, key: str, content: bytes = b"x") -> None:
        file = self.root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def drop(self, key: str) -> None:
        (self.root / key).unlink()

    async def keys(self, **settings: object) -> list[str]:
        return [ref.key for ref in await listed(self.connector(**settings))]


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    (tmp_path / "root").mkdir()
    return Folder(root=tmp_path / "root", settings={"include": ["**/*"]})


class TestFilesConnector(ConnectorContract):
    """The contract, on a folder."""

    def outage(self, place: Folder) -> AbstractContextManager[None]:
        raise CannotOccur("a folder of this machine is there, or is refused")

    def refusal(self, place: Folder) -> AbstractContextManager[object]:
        return patch("connectors.folder.os.scandir", side_effect=PermissionError(errno.EACCES, "No"))

    @contextmanager
    def half(self, place: Folder) -> Iterator[None]:
        scandir = os.scandir

        def failing(path: str) -> object:
            if Path(path).name == "3":
                raise OSError(errno.EIO, "Input/output error")
            return scandir(path)

        with patch("connectors.folder.os.scandir", failing):
            yield

    def repeating(self, place: Folder) -> AbstractContextManager[None]:
        raise CannotOccur("a folder has each name once")


async def test_keys_come_in_their_order_across_folders(place: Folder) -> None:
    for key in ("a/z.md", "a.md", "a-b/c.md", "a b.md", "B.md", "ä.md", "a/b/c.md"):
        place.put(key)
    keys = await place.keys()
    assert keys == sorted(keys)
    assert len(keys) == 7


async def test_only_what_is_included_and_not_excluded_is_listed(place: Folder) -> None:
    for key in ("a.md", "a.txt", "drafts/b.md", "x/drafts/c.md", "x/d.md", "x/old/e/f.md"):
        place.put(key)
    everywhere = ["a.md", "drafts/b.md", "x/d.md", "x/drafts/c.md", "x/old/e/f.md"]
    assert await place.keys(include=["**/*.md"]) == everywhere
    kept = ["a.md", "x/d.md", "x/drafts/c.md"]
    assert await place.keys(include=["**/*.md"], exclude=["drafts", "**/old"]) == kept
    assert await place.keys(include=["*.txt", "x/*.md"]) == ["a.txt", "x/d.md"]


async def test_hidden_files_and_folders_are_listed_only_when_asked_for(place: Folder) -> None:
    for key in (".hidden.md", ".git/config", "a/.b/c.md", "a/d.md"):
        place.put(key)
    assert await place.keys() == ["a/d.md"]
    assert await place.keys(hidden=True) == [".git/config", ".hidden.md", "a/.b/c.md", "a/d.md"]


ODD_NAMES = [
    "it's.md",
    'say "hi".md',
    "line\nbreak.md",
    "tab\t.md",
    "100%.md",
    "a#b?c.md",
    "中文.md",
    "é.md",
    "e\u0301.md",
]


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_an_odd_name_is_a_key_as_it_stands(place: Folder, name: str) -> None:
    place.put(f"odd/{name}", name.encode())
    connector = place.connector()
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    assert ref.key == f"odd/{name}"
    assert raw.content == name.encode()
    assert raw.url is not None
    assert Path(unquote(urlsplit(raw.url).path)) == place.root / "odd" / name


async def test_a_name_that_is_not_utf8_is_listed_to_be_reported(place: Folder) -> None:
    try:
        (place.root / os.fsdecode(b"caf\xe9.md")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no such name")
    place.put("caf\\xe9.md", b"the very key that the other is shown under")
    connector = place.connector()
    refs = {ref.key: ref for ref in await listed(connector)}
    assert sorted(refs) == ["caf\\xe9.md", "caf\\xe9.md~"]
    assert (await connector.load(refs["caf\\xe9.md"])).content.startswith(b"the very key")
    with pytest.raises(ItemUnreadable, match="not UTF-8"):
        await connector.load(refs["caf\\xe9.md~"])


async def test_links_to_files_are_followed_inside_the_root_and_nowhere_else(
    place: Folder, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.md").write_bytes(b"secret")
    (tmp_path / "root-beside").mkdir()
    (tmp_path / "root-beside" / "near.md").write_bytes(b"secret")
    place.put("real/a.md", b"a")
    links = {
        "inside.md": place.root / "real/a.md",
        "folder": place.root / "real",
        "out.md": tmp_path / "outside/secret.md",
        "out": tmp_path / "outside",
        "beside": tmp_path / "root-beside",
        "dangling.md": place.root / "nothing.md",
        "itself": place.root / "itself",
    }
    for name, target in links.items():
        (place.root / name).symlink_to(target)
    connector = place.connector()
    refs = await listed(connector)
    assert [ref.key for ref in refs] == ["inside.md", "real/a.md"]
    assert {(await connector.load(ref)).content for ref in refs} == {b"a"}


async def test_a_root_that_is_a_link_is_followed(place: Folder, tmp_path: Path) -> None:
    place.put("a.md", b"a")
    (tmp_path / "link").symlink_to(place.root)
    connector = place.connector(path=str(tmp_path / "link"))
    [ref] = await listed(connector)
    assert (await connector.load(ref)).content == b"a"


async def test_a_file_that_became_a_link_to_the_outside_is_not_read(place: Folder, tmp_path: Path) -> None:
    place.put("a.md", b"a")
    connector = place.connector()
    [ref] = await listed(connector)
    (tmp_path / "secret").write_bytes(b"secret")
    place.drop("a.md")
    (place.root / "a.md").symlink_to(tmp_path / "secret")
    with pytest.raises(ItemUnreadable, match="outside"):
        await connector.load(ref)


async def test_what_a_link_to_a_folder_shows_is_listed_once_under_its_own_path(place: Folder) -> None:
    place.put("a/a.md")
    place.put("b/b.md")
    (place.root / "a" / "up").symlink_to(place.root)
    (place.root / "a" / "b").symlink_to(place.root / "b")
    (place.root / "b" / "a").symlink_to(place.root / "a")
    assert await place.keys() == ["a/a.md", "b/b.md"]


async def test_documents_are_what_is_listed_where_the_settings_say_nothing(place: Folder) -> None:
    for name in ("a.md", "b.pdf", "c.png", "d.exe", "e", "sub/f.docx"):
        place.put(name)
    del place.settings["include"]
    assert await place.keys() == ["a.md", "b.pdf", "sub/f.docx"]


async def test_a_missing_root_is_refused_with_its_path_and_key(tmp_path: Path) -> None:
    folder = Folder(root=tmp_path / "nowhere", settings={})
    with pytest.raises(SourceRefused, match=rf"sources\.docs\.path: {tmp_path}/nowhere does not exist"):
        await folder.keys()


async def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(SourceRefused, match="is not a folder"):
        await Folder(root=tmp_path / "file", settings={}).keys()


@pytest.mark.skipif(reads_anything, reason="root reads what nobody may")
async def test_a_folder_that_may_not_be_read_ends_the_listing_with_an_error(place: Folder) -> None:
    place.put("a.md")
    place.put("locked/b.md")
    (place.root / "locked").chmod(0)
    try:
        with pytest.raises(SourceUnavailable, match="locked cannot be read"):
            await place.keys()
        assert await place.keys(exclude=["locked"]) == ["a.md"]
    finally:
        (place.root / "locked").chmod(0o755)


@pytest.mark.skipif(reads_anything, reason="root reads what nobody may")
async def test_a_file_that_may_not_be_read_costs_itself_only(place: Folder) -> None:
    place.put("a.md")
    (place.root / "a.md").chmod(0)
    connector = place.connector()
    [ref] = await listed(connector)
    with pytest.raises(ItemUnreadable, match="cannot be read"):
        await connector.load(ref)


async def test_a_folder_that_vanishes_during_the_walk_ends_the_listing_with_an_error(
    place: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a.md")
    place.put("b/c.md")
    scandir = os.scandir

    def vanishing(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("connectors.folder.os.scandir", vanishing)
    with pytest.raises(SourceUnavailable, match="/b cannot be read"):
        await place.keys()


async def test_a_root_that_vanishes_after_the_listing_is_no_fault_of_the_item(place: Folder) -> None:
    place.put("a.md")
    connector = place.connector()
    [ref] = await listed(connector)
    place.root.rename(place.root.with_name("moved"))
    with pytest.raises(SourceUnavailable, match=r"sources\.docs\.path"):
        await connector.load(ref)


async def test_a_file_over_the_limit_is_listed_and_refused_by_name_of_the_setting(place: Folder) -> None:
    place.put("large.md", b"x" * 1001)
    place.put("small.md", b"x" * 1000)
    connector = place.connector(max_bytes=1000)
    large, small = await listed(connector)
    with pytest.raises(ItemUnreadable, match=r"1,001 bytes, more than sources\.docs\.max_bytes: 1,000"):
        await connector.load(large)
    assert len((await connector.load(small)).content) == 1000


async def test_pipes_are_neither_listed_nor_waited_for(place: Folder) -> None:
    place.put("a.md")
    connector = place.connector()
    [ref] = await listed(connector)
    place.drop("a.md")
    os.mkfifo(place.root / "a.md")
    assert await listed(connector) == []
    with pytest.raises(ItemUnreadable, match="not a file"):
        await connector.load(ref)


async def test_a_file_that_keeps_changing_is_read_whole_or_not_at_all(place: Folder) -> None:
    place.put("a.md", b"a" * 200_000)
    connector = place.connector()
    [ref] = await listed(connector)
    done = threading.Event()

    def write() -> None:
        letter = 0
        with (place.root / "a.md").open("r+b", buffering=0) as file:
            while not done.is_set():
                letter = (letter + 1) % 26
                file.seek(0)
                file.write(bytes([97 + letter]) * (200_000 + letter))
                file.truncate()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            try:
                raw = await connector.load(ref)
            except ItemUnreadable as error:
                assert "changed while it was read" in str(error)  # noqa: PT017 - either outcome is right
            else:
                assert raw.ref.version.endswith(f"-{len(raw.content)}")
    finally:
        done.set()
        writer.join()


async def test_a_file_that_grows_during_the_read_is_read_again(
    place: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a.md", b"old")
    connector = place.connector()
    [ref] = await listed(connector)
    fstat, calls = os.fstat, []

    def growing(file: int) -> os.stat_result:
        found = fstat(file)
        calls.append(found)
        if len(calls) == 1:
            place.put("a.md", b"older and longer")
        return found

    monkeypatch.setattr("connectors.files.local.os.fstat", growing)
    raw = await connector.load(ref)
    monkeypatch.undo()
    [new] = await listed(connector)
    assert (raw.content, raw.ref.version) == (b"older and longer", new.version)
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.md", "text/markdown"),
        ("A.MD", "text/markdown"),
        ("x.y/a.rst", "text/x-rst"),
        ("a.pdf", "application/pdf"),
        ("a.tsx", "application/typescript"),
        ("a.py", "text/x-python"),
        ("README", "application/octet-stream"),
        ("a.html.gz", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
    ],
)
def test_the_media_type_of_a_name_is_the_same_on_every_machine(path: str, expected: str) -> None:
    assert media_type(path) == expected
