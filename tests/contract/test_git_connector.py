"""Files of a git repository: the contract, read in place and fetched, and what is particular to git."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import pytest
from pydantic import SecretStr, ValidationError

from connectors.git import GitConnector, GitSettings
from pipeline.errors import ItemUnreadable, SourceRefused, SourceUnavailable
from tests.contract.connector_contract import CannotOccur, ConnectorContract, listed
from tests.loopback import Said, serving

WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
}


@dataclass
class Repository:
    """A repository with a working tree; what is put there is committed before it is read."""

    folder: Path
    address: str
    cache: Path
    settings: dict[str, object] = field(default_factory=dict)
    changed: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("commit", "--quiet", "--allow-empty", "-m", "begin")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, **WHO}
        ).stdout

    def put(self, key: str, content: bytes) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.changed = True

    def drop(self, key: str) -> None:
        (self.folder / key).unlink()
        self.changed = True

    def commit(self) -> None:
        if self.changed:
            self.git("add", "--all")
            self.git("commit", "--quiet", "--allow-empty", "-m", "change")
            self.changed = False

    def connector(self, **settings: object) -> GitConnector:
        self.commit()
        chosen = {
            "type": "git",
            "repository": self.address,
            "cache": str(self.cache),
            "include": ["**/*"],
            **self.settings,
            **settings,
        }
        return GitConnector(source="docs", settings=GitSettings.model_validate(chosen))


@pytest.fixture
def place(tmp_path: Path) -> Repository:
    folder = tmp_path / "repository"
    return Repository(folder=folder, address=str(folder), cache=tmp_path / "cache")


class GitContract(ConnectorContract):
    """The contract, on the files of a commit."""

    rereads = False

    def refusal(self, place: Repository) -> AbstractContextManager[None]:
        raise CannotOccur("a repository of this machine asks nobody who they are")

    @contextmanager
    def half(self, place: Repository) -> Iterator[None]:
        place.commit()
        folder = place.git("rev-parse", "HEAD:3").strip()
        file = place.folder / ".git/objects" / folder[:2] / folder[2:]
        file.rename(file.with_suffix(".gone"))
        yield
        file.with_suffix(".gone").rename(file)

    def repeating(self, place: Repository) -> AbstractContextManager[None]:
        raise CannotOccur("a commit has each path once")


class TestOnALocalRepository(GitContract):
    """The contract, on a repository that is read where it is."""

    def outage(self, place: Repository) -> AbstractContextManager[None]:
        raise CannotOccur("a repository of this machine is there, or is refused")


class TestOverAServer(GitContract):
    """The contract, through what a fetch from a server goes through."""

    @contextmanager
    def outage(self, place: Repository) -> Iterator[None]:
        with patch.object(place, "address", "http://127.0.0.1:9/r.git"):
            yield

    @contextmanager
    def refusal(self, place: Repository) -> Iterator[None]:
        said = Said(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        with serving(lambda _: said) as url, patch.object(place, "address", f"{url}/r.git"):
            yield

    @pytest.fixture
    def place(self, tmp_path: Path) -> Repository:
        folder = tmp_path / "repository"
        return Repository(folder=folder, address=folder.as_uri(), cache=tmp_path / "cache")


async def test_only_what_was_committed_to_the_revision_is_read(place: Repository) -> None:
    place.put("a.md", b"first")
    place.commit()
    place.git("tag", "v1")
    place.git("tag", "-a", "v1-told", "-m", "told")
    place.git("branch", "old")
    place.put("a.md", b"second")
    place.commit()
    (place.folder / "a.md").write_bytes(b"not committed")
    place.changed = False
    remote = place.folder.as_uri()
    for repository in (str(place.folder), remote):
        for revision, content in (
            ("HEAD", b"second"),
            ("main", b"second"),
            ("v1", b"first"),
            ("old", b"first"),
            ("v1-told", b"first"),
        ):
            connector = place.connector(repository=repository, revision=revision)
            [ref] = await listed(connector)
            assert (await connector.load(ref)).content == content


async def test_what_is_unchanged_is_not_fetched_again(
    place: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    run = GitConnector._run

    async def noted(self: GitConnector, *arguments: str) -> bytes:
        ran.extend(word for word in arguments if word in {"fetch", "ls-remote", "cat-file"})
        return await run(self, *arguments)

    monkeypatch.setattr(GitConnector, "_run", noted)
    place.put("a.md", b"a")
    remote = place.folder.as_uri()
    refs = await listed(place.connector(repository=remote))
    assert ran.count("fetch") == 1
    ran.clear()
    assert await listed(place.connector(repository=remote)) == refs
    assert ran == ["ls-remote", "cat-file"], "the last one only looks whether the commit is here"
    place.put("b.md", b"b")
    ran.clear()
    assert [ref.key for ref in await listed(place.connector(repository=remote))] == ["a.md", "b.md"]
    assert ran.count("fetch") == 1


async def test_links_submodules_and_what_is_left_out_are_not_listed(place: Repository) -> None:
    place.put("docs/a.md", b"a")
    place.put("docs/draft/b.md", b"b")
    place.put("src/c.py", b"c")
    (place.folder / "link.md").symlink_to("/etc/passwd")
    place.connector()
    digest = place.git("rev-parse", "HEAD").strip()
    place.git("update-index", "--add", "--cacheinfo", f"160000,{digest},module.md")
    place.git("commit", "--quiet", "-m", "module")
    connector = place.connector(include=["**/*.md"], exclude=["docs/draft"])
    assert [ref.key for ref in await listed(connector)] == ["docs/a.md"]


async def test_what_lfs_keeps_and_what_is_too_large_is_told(place: Repository) -> None:
    place.put("a.pdf", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    place.put("b.md", bytes(101))
    connector = place.connector(max_bytes=100)
    lfs, large = await listed(connector)
    with pytest.raises(ItemUnreadable, match="kept in Git LFS"):
        await connector.load(lfs)
    with pytest.raises(ItemUnreadable, match=r"101 bytes, more than sources\.docs\.max_bytes: 100"):
        await connector.load(large)


@pytest.mark.parametrize(
    ("repository", "settings", "page"),
    [
        ("https://github.com/o/r.git", {}, "https://github.com/o/r/blob/HEAD/a%20b/%C3%BC.md"),
        (
            "git@gitlab.com:g/s/r.git",
            {"revision": "main"},
            "https://gitlab.com/g/s/r/-/blob/main/a%20b/%C3%BC.md",
        ),
        ("ssh://git@codeberg.org/o/r", {}, "https://codeberg.org/o/r/src/branch/HEAD/a%20b/%C3%BC.md"),
        ("https://git.example.org/r", {}, None),
        (
            "https://git.example.org/r",
            {"web": "https://w/{revision}/{path}"},
            "https://w/HEAD/a%20b/%C3%BC.md",
        ),
        ("/srv/r", {}, None),
    ],
)
def test_a_link_leads_to_the_file_on_the_web(
    repository: str, settings: dict[str, object], page: str | None
) -> None:
    chosen = GitSettings.model_validate({"type": "git", "repository": repository, **settings})
    assert GitConnector(source="docs", settings=chosen)._page("a b/ü.md")[0] == page


@pytest.mark.parametrize(
    ("repository", "settings", "anchor"),
    [
        ("https://github.com/o/r.git", {}, "?plain=1#L{line}-L{last_line}"),
        ("git@gitlab.com:g/s/r.git", {}, "?plain=1#L{line}-{last_line}"),
        ("ssh://git@codeberg.org/o/r", {}, "?display=source#L{line}-L{last_line}"),
        ("https://bitbucket.org/o/r", {}, "#lines-{line}:{last_line}"),
        ("https://github.com/o/r.git", {"web": "https://w/{path}"}, None),
        ("https://github.com/o/r.git", {"web_lines": "#n{line}"}, "#n{line}"),
        ("https://git.example.org/r", {"web_lines": "#n{line}"}, None),
        ("/srv/r", {"web": "https://w/{path}", "web_lines": "#n{line}"}, "#n{line}"),
    ],
)
async def test_a_link_leads_to_the_lines_of_a_passage(
    repository: str, settings: dict[str, object], anchor: str | None
) -> None:
    chosen = GitSettings.model_validate({"type": "git", "repository": repository, **settings})
    assert GitConnector(source="docs", settings=chosen)._page("a.md")[1] == anchor


async def test_a_document_brings_the_link_to_its_lines(place: Repository) -> None:
    place.put("a.md", b"# A")
    connector = place.connector(web="https://w/{path}", web_lines="#n{line}")
    [ref] = await listed(connector)
    raw = await connector.load(ref)
    assert (raw.url, raw.anchor) == ("https://w/a.md", "#n{line}")


def test_a_template_of_lines_names_the_line() -> None:
    with pytest.raises(ValidationError, match=r"must have \{line\} in it"):
        GitSettings.model_validate({"type": "git", "repository": "/srv/r", "web_lines": "#top"})


async def test_what_is_not_there_is_refused(place: Repository, tmp_path: Path) -> None:
    place.put("a.md", b"a")
    remote = place.folder.as_uri()
    for settings, said in (
        ({"repository": str(tmp_path / "nowhere")}, "nowhere"),
        (
            {"repository": (tmp_path / "nowhere").as_uri()},
            "does not appear to be a git repository|does not exist",
        ),
        ({"repository": remote, "revision": "no-such"}, "has no branch or tag 'no-such'"),
        ({"repository": str(tmp_path)}, "not a git repository"),
    ):
        with pytest.raises(SourceRefused, match=said):
            await listed(place.connector(**settings))
    assert not list(place.cache.glob("*")), "nothing half-made is left"


async def test_a_server_that_is_away_is_an_outage(place: Repository) -> None:
    with pytest.raises(SourceUnavailable):
        await listed(place.connector(repository="http://127.0.0.1:9/r.git"))


@pytest.fixture
def refusing_server() -> Iterator[tuple[str, list[str]]]:
    """Turns everybody away, and notes how they introduced themselves."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="r"')
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/r.git", seen
        server.shutdown()
        thread.join()


async def test_the_token_goes_to_the_server_and_nowhere_else(
    place: Repository, refusing_server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = refusing_server
    chosen = place.connector(repository=address).settings.model_copy(update={"token": SecretStr("t0ken")})
    with pytest.raises(SourceRefused) as refused:
        await listed(GitConnector(source="docs", settings=chosen))
    assert "t0ken" not in str(refused.value)
    assert base64.b64decode(seen[-1].removeprefix("Basic ")) == b"x-access-token:t0ken"


@pytest.mark.parametrize(
    "settings",
    [
        {"repository": "https://ada:pass@h/r"},
        {"repository": "https://t0ken@h/r"},
        {"repository": "git@h:r", "token": SecretStr("x")},
        {"repository": "r", "revision": "--upload-pack=x"},
        {"repository": "r", "web": "https://no/template"},
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GitSettings.model_validate({"type": "git", **settings})


async def test_nothing_of_the_repository_is_run(place: Repository, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        hook = place.folder / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
        hook.chmod(0o755)
    place.put("a.md", b"a")
    place.put(".gitattributes", b"* filter=evil\n")
    place.connector()
    place.git("config", "filter.evil.smudge", f"touch {ran}; cat")
    ran.unlink(missing_ok=True)
    for repository in (str(place.folder), place.folder.as_uri()):
        connector = place.connector(repository=repository)
        for ref in await listed(connector):
            await connector.load(ref)
    assert not ran.exists()
