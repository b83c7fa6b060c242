"""Files over SFTP: the contract on OpenSSH's own server, and how it is asked, trusted and left."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import psutil
import pytest
from pydantic import SecretStr, ValidationError

from config.load import load_settings
from connectors import _ssh
from connectors._ssh import Connection, Login
from connectors.files import FilesSettings, RemoteFiles, files_connector
from connectors.files.sftp import SftpFolder
from pipeline.errors import ItemUnreadable, SettingsError, SourceRefused, SourceUnavailable
from pipeline.ingest import ingest_source
from pipeline.records import ItemRef
from pipeline.stores.memory import MemoryStore
from tests import sshd
from tests.contract.connector_contract import CannotOccur, ConnectorContract, listed
from tests.fakes import OracleEmbedder
from tests.sshd import PASSPHRASE, Sshd
from tests.world import World

NO_SUCH_FILE, DENIED, FAILURE = 2, 3, 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if told := sshd.missing():
        (pytest.fail if os.environ.get("DOCWEAVE_NEED_SSHD") == "1" else pytest.skip)(told)
    with sshd.serving(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@dataclass
class Served:
    """A folder of this machine, and the address under which the server has it."""

    root: Path
    server: Sshd
    port: int

    def connector(self, options: dict[str, object] | None = None, **settings: object) -> RemoteFiles:
        opened = {
            "username": self.server.user,
            "private_key": SecretStr(self.server.key),
            "known_hosts": str(self.server.known_hosts),
            **(options or {}),
        }
        opened = {name: value for name, value in opened.items() if value is not None}
        url = f"sftp://127.0.0.1:{self.port}{self.root}"
        chosen = {"type": "files", "url": url, "options": opened, "include": ["**/*"], **settings}
        connector = files_connector(source="docs", settings=FilesSettings.model_validate(chosen))
        assert isinstance(connector, RemoteFiles)
        return connector

    def put(self, key: str, content: bytes = b"x") -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(content)

    def drop(self, key: str) -> None:
        (self.root / key).unlink()

    async def keys(self, **settings: object) -> list[str]:
        return [ref.key for ref in await listed(self.connector(**settings))]


@pytest.fixture
def place(server: Sshd, tmp_path: Path) -> Served:
    (tmp_path / "served").mkdir()
    return Served(tmp_path / "served", server, server.port)


@pytest.fixture
def fronted(place: Served) -> Served:
    """The same, through what notes the requests and fails on demand."""
    place.server.rule()
    place.port = place.server.front
    return place


@pytest.fixture
def other_key(tmp_path: Path) -> Path:
    """The file of a private key that nobody knows; beside it the public one."""
    sshd.new_key(tmp_path / "other")
    return tmp_path / "other"


def running() -> dict[int, str]:
    """The processes of this one that are ssh, with their arguments."""
    gc.collect()  # connectors of other tests
    children = psutil.Process().children()
    return {one.pid: " ".join(one.cmdline()) for one in children if one.name() == "ssh"}


class TestOverSftp(ConnectorContract):
    """The contract, on OpenSSH's server."""

    odd_keys = (
        *ConnectorContract.odd_keys,
        "line\nbreak.md",
        "-oProxyCommand=x.md",
        "$(x) `y`.md",
        "back\\slash.md",
    )

    @contextmanager
    def outage(self, place: Served) -> Iterator[None]:
        """Those who are connected are hung up on, and nobody else is let in."""
        for pid in running():
            os.kill(pid, signal.SIGKILL)
        with patch.object(Login, "command", lambda *_: ["ssh", "-F", "none", "-p", "9", "127.0.0.1"]):
            yield

    def refusal(self, place: Served) -> AbstractContextManager[object]:
        return patch.object(Sshd, "user", "nobody-at-all")

    @contextmanager
    def half(self, place: Served) -> Iterator[None]:
        place.server.rule("hang-up READDIR 5")
        with patch.object(place, "port", place.server.front):
            yield

    def repeating(self, place: Served) -> AbstractContextManager[None]:
        raise CannotOccur("a folder has each name once")


async def test_a_second_ingest_opens_no_file(fronted: Served) -> None:
    for number in range(5):
        fronted.put(f"sub/{number}.md", f"# Number {number}".encode())
    world = World(store=MemoryStore(OracleEmbedder().space))
    await ingest_source(fronted.connector(), world.pipeline, metadata={})
    assert len(fronted.server.asked("OPEN")) == 5
    fronted.server.rule()
    report = await ingest_source(fronted.connector(), world.pipeline, metadata={})
    assert report.unchanged == 5
    assert fronted.server.asked("OPEN") == []
    assert len(fronted.server.asked("OPENDIR")) == 2


async def test_only_folders_that_may_hold_a_file_are_opened(fronted: Served) -> None:
    for name in ("docs/a.md", "docs/b.png", "docs/old/c.md", "docs/.git/d.md", "other/e.md"):
        fronted.put(name)
    assert await fronted.keys(include=["docs/**/*.md"], exclude=["**/old"]) == ["docs/a.md"]
    assert [Path(path).name for path in fronted.server.asked("OPENDIR")] == [fronted.root.name, "docs"]


@pytest.mark.parametrize(
    "rule",
    [
        "hang-up READDIR 2",
        "hang-up OPENDIR 3",
        f"refuse READDIR 1 {FAILURE}",
        f"refuse READDIR 2 {FAILURE}",
        f"refuse OPENDIR 2 {NO_SUCH_FILE}",
        f"refuse /b {DENIED}",
    ],
)
async def test_half_a_listing_is_none(fronted: Served, rule: str) -> None:
    for number in range(150):
        fronted.put(f"{number}.md")
    for name in ("a/a.md", "b/b.md"):
        fronted.put(name)
    fronted.server.rule(rule)
    with pytest.raises(SourceUnavailable):
        await listed(fronted.connector())


async def test_a_folder_that_may_not_be_read_can_be_left_out(fronted: Served) -> None:
    for name in ("a.md", "b/b.md"):
        fronted.put(name)
    fronted.server.rule(f"refuse /b {DENIED}")
    with pytest.raises(SourceUnavailable, match=r"b/ may not be read, .* leave it out with exclude"):
        await listed(fronted.connector())
    assert await fronted.keys(exclude=["b"]) == ["a.md"]


@pytest.mark.parametrize(
    ("rule", "error", "said"),
    [
        (f"refuse OPEN 1 {DENIED}", ItemUnreadable, "a.md may not be read"),
        (f"refuse OPEN 1 {NO_SUCH_FILE}", ItemUnreadable, "a.md is not there, or no longer"),
        (f"refuse READ 1 {FAILURE}", ItemUnreadable, "a.md cannot be read"),
        ("hang-up READ 1", SourceUnavailable, "closed the connection"),
        (f"refuse /served {NO_SUCH_FILE}", SourceUnavailable, "there is no such folder"),
    ],
)
async def test_what_goes_wrong_with_one_file_costs_that_alone(
    fronted: Served, rule: str, error: type[Exception], said: str
) -> None:
    fronted.server.rule(rule)
    connector = fronted.connector()
    for name in ("a.md", "b.md"):
        fronted.put(name)
    refs = [ItemRef(source="docs", key=name, version="1-1") for name in ("a.md", "b.md")]
    with pytest.raises(error, match=said):
        await connector.load(refs[0])
    if error is ItemUnreadable:
        assert (await connector.load(refs[1])).content == b"x"


async def test_a_large_file_is_not_read_and_a_file_of_many_parts_is_whole(place: Served) -> None:
    content = os.urandom(5_000_011)
    place.put("a.bin", content)
    place.put("b.bin", bytes(6_000_000))
    connector = place.connector(max_bytes=5_500_000)
    a, b = await listed(connector)
    raw = await connector.load(a)
    assert raw.content == content
    assert raw.url == f"sftp://127.0.0.1:{place.port}{place.root}/a.bin"
    with pytest.raises(
        ItemUnreadable, match=r"6,000,000 bytes, more than sources\.docs\.max_bytes: 5,500,000"
    ):
        await connector.load(b)


async def test_links_lead_to_files_inside_and_to_nothing_else(place: Served, tmp_path: Path) -> None:
    place.put("a/real.md", b"real")
    (tmp_path / "outside.md").write_bytes(b"outside")
    os.mkfifo(place.root / "pipe.md")
    for name, target in (
        ("link.md", "a/real.md"),
        ("out.md", str(tmp_path / "outside.md")),
        ("gone.md", "nowhere"),
        ("loop.md", "loop.md"),
        ("folder", "a"),
        ("up", ".."),
    ):
        (place.root / name).symlink_to(target)
    connector = place.connector()
    refs = {ref.key: ref for ref in await listed(connector)}
    assert sorted(refs) == ["a/real.md", "link.md"]
    assert (await connector.load(refs["link.md"])).content == b"real"
    (place.root / "link.md").unlink()
    (place.root / "link.md").symlink_to(tmp_path / "outside.md")
    with pytest.raises(ItemUnreadable, match="leads outside"):
        await connector.load(refs["link.md"])


@pytest.mark.parametrize("name", [b"caf\xe9.md", b"caf\xe9/a.md"])
async def test_a_name_that_is_not_utf8_is_listed_to_be_reported(place: Served, name: bytes) -> None:
    try:
        place.put(os.fsdecode(name))
    except OSError:
        pytest.skip("this file system takes no such name")
    connector = place.connector()
    [ref] = await listed(connector)
    assert ref.key == name.decode("utf-8", "backslashreplace")
    with pytest.raises(ItemUnreadable, match="not UTF-8"):
        await connector.load(ref)


async def test_what_is_no_folder_is_refused(place: Served) -> None:
    place.put("a.md")
    for path, said in (("nowhere", "there is no such folder"), ("a.md", "is a file: give its folder")):
        url = f"sftp://127.0.0.1:{place.port}{place.root}/{path}"
        with pytest.raises(SourceRefused, match=said):
            await listed(place.connector(url=url))


async def test_a_folder_may_be_named_from_the_home_folder_on(place: Served) -> None:
    place.put("a.md", b"here")
    above = "../" * len(Path.home().parts[1:])
    connector = place.connector(url=f"sftp://127.0.0.1:{place.port}/~/{above}{str(place.root)[1:]}")
    [ref] = await listed(connector)
    assert (await connector.load(ref)).content == b"here"


async def test_a_host_key_that_is_not_known_is_not_trusted(
    place: Served, other_key: Path, tmp_path: Path
) -> None:
    place.put("a.md")
    key = " ".join(other_key.with_suffix(".pub").read_text().split()[:2])
    hosts = tmp_path / "known hosts"
    for content, said in (
        ("", "host key is not known: put it into"),
        (f"[127.0.0.1]:{place.port} {key}\n", "shows another host key than the known one"),
        (f"@revoked {place.server.known_hosts.read_text().splitlines()[0]}\n", "revoked"),
    ):
        hosts.write_text(content)
        with pytest.raises(SourceRefused, match=said):
            await listed(place.connector({"known_hosts": str(hosts)}))
        assert hosts.read_text() == content, "nothing is written into it"
    hosts.write_text(place.server.known_hosts.read_text())
    assert [ref.key for ref in await listed(place.connector({"known_hosts": str(hosts)}))] == ["a.md"]


async def test_bad_credentials_are_refused_and_never_shown(place: Served, other_key: Path) -> None:
    place.put("a.md")
    locked = SecretStr(place.server.locked_key)
    unknown = SecretStr(other_key.read_text())  # noqa: ASYNC240 - a short one
    for options, said in (
        ({"private_key": unknown}, "the user name, key or password is not accepted"),
        ({"private_key": SecretStr("no key at all")}, "is no private key"),
        ({"private_key": locked}, "passphrase is not right"),
        ({"private_key": locked, "passphrase": SecretStr("wrong-pass")}, "passphrase is not right"),
        ({"private_key": None, "password": SecretStr("wrong-pass")}, "not accepted"),
        ({"username": "nobody-at-all"}, "not accepted"),
    ):
        connector = place.connector(options)
        with pytest.raises(SourceRefused, match=said) as caught:
            await listed(connector)
        assert "wrong-pass" not in f"{caught.value}{connector!r}"
        assert "PRIVATE KEY" not in f"{caught.value}{connector!r}"
    good = {"private_key": locked, "passphrase": SecretStr(PASSPHRASE)}
    assert len(await listed(place.connector(good))) == 1


async def test_no_secret_is_an_argument_or_stays_in_a_file(
    place: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / ("long" * 30)  # ssh shows no more than a part of it
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    place.put("a.md")
    good = {"private_key": SecretStr(place.server.locked_key), "passphrase": SecretStr(PASSPHRASE)}
    connector = place.connector(good)
    assert len(await listed(connector)) == 1
    [told] = running().values()
    assert "StrictHostKeyChecking=yes" in told
    assert PASSPHRASE not in told
    assert [*temporary.iterdir()] == []


def test_a_jump_host_gets_neither_password_nor_passphrase(tmp_path: Path) -> None:
    by_password = Login(host="h", password=SecretStr("p"))
    assert "ProxyCommand=none" in by_password.command(str(tmp_path)), "and so no jump host is asked"
    by_key = Login(host="h", private_key=SecretStr("k"), passphrase=SecretStr(PASSPHRASE))
    environment = by_key.prepare(str(tmp_path))
    for question, answer in (
        (f"Enter passphrase for key '{tmp_path}/key': ", PASSPHRASE),
        ("ada@jump's password: ", ""),
        ("Enter passphrase for key '/home/ada/.ssh/id_rsa': ", ""),
    ):
        asked = [environment["SSH_ASKPASS"], question]
        told = subprocess.run(asked, check=False, capture_output=True, text=True, env=environment).stdout
        assert told.removesuffix("\n") == answer


async def test_an_outage_passes(place: Served, tmp_path: Path) -> None:
    for host, said in (
        ("127.0.0.1:9", "refuses connections"),
        ("x" * 64 + ".invalid", "cannot be resolved"),
    ):
        with pytest.raises(SourceUnavailable, match=said):
            await listed(place.connector(url=f"sftp://{host}/x"))


async def test_a_server_that_says_nothing_is_left(fronted: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ssh, "SECONDS", 0.75)
    fronted.put("a.md")
    fronted.server.rule("silence READDIR 1")
    with pytest.raises(SourceUnavailable, match="has said nothing"):
        await listed(fronted.connector())


async def test_what_is_no_server_of_ssh_is_an_outage(place: Served) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()

        def hang_up() -> None:
            one.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(SourceUnavailable):
            await listed(place.connector(url=f"sftp://127.0.0.1:{one.getsockname()[1]}/x"))
        thread.join()


async def test_connections_are_kept_for_the_next_item_and_end_with_the_connector(place: Served) -> None:
    for number in range(10):
        place.put(f"{number}.md")
    assert running() == {}
    connector = place.connector()
    refs = await listed(connector)
    kept = running()
    assert len(kept) == 1
    for ref in refs:
        await connector.load(ref)
    assert running() == kept
    del connector
    assert running() == {}


async def test_what_is_cancelled_ends_its_connection(fronted: Served) -> None:
    fronted.put("a.md")
    fronted.server.rule("silence READDIR 1")
    connector = fronted.connector()
    with anyio.move_on_after(0.75) as scope:
        await listed(connector)
    assert scope.cancelled_caught
    assert running() == {}


async def test_a_connection_that_ended_meanwhile_is_made_anew(place: Served) -> None:
    place.put("a.md", b"a")
    connector = place.connector()
    [ref] = await listed(connector)
    [pid] = running()
    os.kill(pid, 9)
    assert isinstance(connector.place, SftpFolder)
    connector.place._idle[0]._process.wait()
    assert (await connector.load(ref)).content == b"a"


@pytest.mark.parametrize(
    ("named", "host", "port"),
    [
        ("Archive", "Archive", None),
        ("Archive:22", "Archive", 22),
        ("[::1]", "::1", None),
        ("[::1]:22", "::1", 22),
    ],
)
async def test_ssh_is_told_the_host_as_it_is_written(
    named: str, host: str, port: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Login] = []

    def connect(login: Login, _where: str) -> None:
        told.append(login)
        raise SourceUnavailable("it was asked for")

    monkeypatch.setattr("connectors.files.sftp.Connection", connect)
    settings = FilesSettings.model_validate({"type": "files", "url": f"sftp://{named}/x"})
    with pytest.raises(SourceUnavailable):
        await listed(files_connector(source="docs", settings=settings))
    assert [(login.host, login.port) for login in told] == [(host, port)]


async def test_without_ssh_it_says_what_is_missing(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SourceRefused, match="the command ssh is not installed"):
        await listed(place.connector())


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is run as `ssh`."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    path = tmp_path / "bin" / "ssh"
    path.parent.mkdir()
    return path


def connected() -> Connection:
    return Connection(Login(host="files.example.com"), "sources.docs")


def test_an_ssh_that_may_not_be_run_is_told(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    with pytest.raises(
        SourceRefused, match=r"sources\.docs: the command ssh may not be run; valid: one on PATH"
    ):
        connected()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(SourceUnavailable, match=r"sources\.docs: ssh cannot be started: No such .*TMPDIR"):
        connected()


def test_however_much_ssh_says_it_is_not_held_up_and_the_end_of_it_counts(program: Path) -> None:
    noise = "head -c 3000000 /dev/zero | tr '\\0' x >&2"
    program.write_text(f"#!/bin/sh\n{noise}\necho 'Host key verification failed.' >&2\nexit 255\n")
    program.chmod(0o755)
    with pytest.raises(SourceRefused, match="the server's host key is not known"):
        connected().ask(lambda _: None)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("sftp://ada:pass@h/x", {}, "username"),
        ("sftp://ada@h/x", {}, "username"),
        ("sftp:///x", {}, "must name a host"),
        ("sftp://-oProxyCommand=x/x", {}, "must name a host"),
        ("sftp://h;x/x", {}, "must name a host"),
        ("sftp://h:99999/x", {}, "must name a host"),
        ("sftp://h/x", {"password": SecretStr("p"), "private_key": SecretStr("k")}, "not both"),
        ("sftp://h/x", {"passphrase": SecretStr("p")}, "of a private_key"),
        ("sftp://h/x", {"username": "-oProxyCommand=x"}, "user name"),
        ("sftp://h/x", {"username": "ada\n"}, "user name"),
        ("sftp://h/x", {"token": SecretStr("t")}, "https://"),
        ("https://h/x", {"private_key": SecretStr("k")}, "sftp://"),
        ("zip+sftp://h/x.zip", {}, "cannot be read"),
    ],
)
def test_settings_that_cannot_be_meant(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        FilesSettings.model_validate({"type": "files", "url": url, "options": options})
    assert "pass@" not in str(caught.value)


def test_a_key_in_the_settings_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "docweave.yaml"
    source = "{type: files, url: sftp://h/x, options: {password: p4ss}}"
    text = f"embedding: {{type: local}}\nsources:\n  a: {source}\n"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"sources\.a.*password.*is a secret") as caught:
        load_settings(file)
    assert "p4ss" not in str(caught.value)
