"""How connectors ask over HTTP: against a site on loopback, and names that resolve as a test says."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import logging
import random
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from time import time

import anyio
import anyio.lowlevel
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from connectors import _wire
from connectors._http import USER_AGENT, Credentials, Http, Manners, Patience, whole
from connectors._reach import Reach
from connectors._url import host_of, shown
from pipeline.errors import DocweaveError, ItemUnreadable, SourceRefused, SourceUnavailable
from tests.web_server import LOOPBACK, Answered, Site, serving

PRIVATE = (ipaddress.ip_network(LOOPBACK),)


@dataclass
class Waits:
    """A clock that a test need not wait for."""

    seconds: float = 1000.0
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await anyio.lowlevel.checkpoint()

    def clock(self) -> float:
        return self.seconds


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site


@pytest.fixture
def waits() -> Waits:
    return Waits()


def http(
    site: Site, waits: Waits | None = None, credentials: Credentials | None = None, **manners: object
) -> Http:
    reach = Reach(source="docs", hosts=frozenset({host_of(site.url)}), private=PRIVATE)
    clock = waits or Waits()
    patience = Patience(sleep=clock.sleep, clock=clock.clock)
    return Http(reach, manners=Manners(patience=patience, **manners), credentials=credentials)  # type: ignore[arg-type]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """What names resolve to: the first list, then the next one, and the last for ever."""
    table: dict[str, list[list[str]]] = {}

    async def resolve(host: str, port: int) -> list[str]:
        await anyio.lowlevel.checkpoint()
        answers = table[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr("connectors._reach.resolve", resolve)
    return table


class TestWhatComesBack:
    async def test_content_headers_and_the_final_url_are_given(self, site: Site) -> None:
        site.redirect("/old", "/new?q=1#part")
        site.put(
            "/new?q=1", "Grüße".encode("latin-1"), headers={"Content-Type": 'Text/HTML; Charset="ISO-8859-1"'}
        )
        answer = await http(site).get(f"{site.url}/old")
        assert (answer.url, answer.status) == (f"{site.url}/new?q=1", 200)
        assert (answer.media_type, answer.charset) == ("text/html", "iso-8859-1")
        assert answer.content.decode(answer.charset) == "Grüße"
        assert site.asked[0].headers["user-agent"] == USER_AGENT

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "bare deflate", "two members"])
    async def test_what_is_packed_is_unpacked(self, site: Site, encoding: str) -> None:
        text = b"words " * 50_000
        bare = zlib.compressobj(wbits=-15)
        packed = {
            "gzip": gzip.compress(text),
            "deflate": zlib.compress(text),
            "bare deflate": bare.compress(text) + bare.flush(),
            "two members": gzip.compress(text[:99]) + gzip.compress(text[99:]),
        }[encoding]
        name = "deflate" if "deflate" in encoding else "gzip"
        site.put("/", packed, headers={"Content-Encoding": name})
        assert (await http(site).get(site.url)).content == text

    async def test_names_paths_and_queries_with_anything_in_them_arrive(self, site: Site) -> None:
        site.otherwise = lambda _: Answered(body=b"x")
        await http(site).get(f"{site.url}/ä b/%2Fc\r\nX: 1?q=ü&r=%20")
        assert site.asked[0].path == "/%C3%A4%20b/%2FcX:%201?q=%C3%BC&r=%20"

    async def test_an_unchanged_page_is_told_and_not_sent(self, site: Site) -> None:
        site.put("/", b"content")
        first = await http(site).get(site.url)
        conditions = {"If-None-Match": first.headers["etag"]}
        second = await http(site).get(site.url, headers=conditions, returned={304})
        assert (second.status, second.content) == (304, b"")

    async def test_json_that_is_none_is_an_outage(self, site: Site) -> None:
        site.put("/", b"<html>maintenance")
        answer = await http(site).get(site.url)
        with pytest.raises(SourceUnavailable, match=r"17 bytes .* that are no JSON"):
            answer.json()


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (401, SourceRefused),
            (403, SourceRefused),
            (404, ItemUnreadable),
            (410, ItemUnreadable),
            (451, ItemUnreadable),
            (400, ItemUnreadable),
            (429, SourceUnavailable),
            (500, SourceUnavailable),
            (503, SourceUnavailable),
        ],
    )
    async def test_each_status_says_what_to_do_about_it(
        self, site: Site, status: int, error: type[Exception]
    ) -> None:
        site.put("/a?key=s3cret", b"a body that no message shows", status=status)
        with pytest.raises(error, match=rf"/a\?… answered {status} ") as raised:
            await http(site).get(f"{site.url}/a?key=s3cret")
        assert "s3cret" not in str(raised.value)
        assert "body" not in str(raised.value)
        assert len(site.asked) == (4 if error is SourceUnavailable else 1)

    async def test_an_outage_that_passes_is_waited_out(self, site: Site, waits: Waits) -> None:
        answers = [Answered(status=503), Answered(status=502), Answered(body=b"at last")]
        site.answers("/", lambda _: answers.pop(0))
        assert (await http(site, waits).get(site.url)).content == b"at last"
        assert len(waits.slept) == 2

    @pytest.mark.parametrize("form", ["seconds", "date"])
    async def test_retry_after_is_waited_for(self, site: Site, waits: Waits, form: str) -> None:
        after = "17" if form == "seconds" else formatdate(time() + 18, usegmt=True)
        answers = [Answered(status=503, headers={"Retry-After": after}), Answered()]
        site.answers("/", lambda _: answers.pop(0))
        await http(site, waits).get(site.url)
        assert sum(waits.slept) >= 16

    async def test_who_wants_to_be_left_alone_for_long_is(self, site: Site, waits: Waits) -> None:
        site.put("/", status=429, headers={"Retry-After": "3600"})
        with pytest.raises(SourceUnavailable, match="left alone for 3600 s"):
            await http(site, waits).get(site.url)
        assert (len(site.asked), waits.slept) == (1, [])

    async def test_a_limit_of_requests_that_is_told_by_403_is_no_refusal(
        self, site: Site, waits: Waits
    ) -> None:
        ends = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time()) + 20)}
        answers = [Answered(status=403, headers=ends), Answered()]
        site.answers("/", lambda _: answers.pop(0))
        assert (await http(site, waits).get(site.url)).status == 200
        assert sum(waits.slept) >= 18

    async def test_half_an_answer_is_an_outage(self, site: Site) -> None:
        site.put("/", b"x" * 1000, cut_at=500)
        with pytest.raises(SourceUnavailable, match="could not be read"):
            await http(site).get(site.url)
        assert len(site.asked) == 4

    async def test_half_a_packed_answer_is_an_outage(self, site: Site) -> None:
        site.put("/", gzip.compress(b"x" * 1000)[:-9], headers={"Content-Encoding": "gzip"})
        with pytest.raises(SourceUnavailable, match="ended before its content did"):
            await http(site).get(site.url)

    async def test_nobody_there_is_an_outage(self, site: Site) -> None:
        url = "http://127.0.0.1:9/"
        asking = Http(Reach.of("docs", url), manners=Manners(patience=Patience(attempts=1)))
        with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1:9/ could not be read: ConnectError"):
            await asking.get(url)

    async def test_a_server_that_trickles_is_given_up(self, site: Site) -> None:
        site.put("/", b"x" * 1000, trickle=0.02)
        asking = http(site, seconds=0.2)
        started = anyio.current_time()
        with pytest.raises(SourceUnavailable, match=r"gave no whole answer within 0\.2 s"):
            await asking.get(site.url)
        assert anyio.current_time() - started < 3

    async def test_more_than_the_limit_is_not_read(self, site: Site) -> None:
        site.put("/declared", b"x" * 1001)
        site.put("/exact", b"x" * 1000)
        site.put(
            "/chunked", b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", headers={"Transfer-Encoding": "chunked"}
        )
        asking = http(site, max_bytes=1000)
        for path in ("/declared", "/chunked"):
            with pytest.raises(ItemUnreadable, match=r"has more than sources\.docs\.max_bytes: 1,000 bytes"):
                await asking.get(site.url + path)
        assert len((await asking.get(f"{site.url}/exact")).content) == 1000

    async def test_a_bomb_is_not_unpacked_beyond_the_limit(self, site: Site) -> None:
        packer, bomb = zlib.compressobj(9, wbits=31), bytearray()
        for _ in range(50):
            bomb += packer.compress(bytes(1_000_000))
        site.put("/", bytes(bomb) + packer.flush(), headers={"Content-Encoding": "gzip"})
        with pytest.raises(ItemUnreadable, match="max_bytes: 100,000 bytes"):
            await http(site, max_bytes=100_000).get(site.url)

    @pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
    async def test_what_nobody_asked_for_is_not_unpacked(self, site: Site, encoding: str) -> None:
        site.put("/", b"x", headers={"Content-Encoding": encoding})
        with pytest.raises(ItemUnreadable, match="gzip and deflate were asked for"):
            await http(site).get(site.url)

    async def test_what_a_listing_cannot_do_without_is_refused_with_its_setting(self, site: Site) -> None:
        with (
            pytest.raises(SourceRefused, match=r"sources\.docs\.url: .*/x answered 404"),
            whole("sources.docs.url"),
        ):
            await http(site).get(f"{site.url}/x")

    async def test_a_cancelled_request_leaves_no_connection(self, site: Site) -> None:
        site.put("/", b"x" * 1000, trickle=0.05)
        with anyio.move_on_after(0.15) as scope:
            await http(site).get(site.url)
        assert scope.cancelled_caught
        await site.until_closed()

    async def test_nothing_of_a_request_is_logged_above_info(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        site.put("/?token=s3cret")
        await http(site).get(f"{site.url}/?token=s3cret")
        assert "s3cret" not in caplog.text

    async def test_a_redirect_in_bytes_of_utf8_is_followed_as_it_is_meant(self, site: Site) -> None:
        site.redirect("/", "/größe".encode().decode("latin-1"))
        site.put("/gr%C3%B6%C3%9Fe", b"here")
        assert (await http(site).get(site.url)).content == b"here"


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_a_server_sends_is_an_answer_or_an_error_of_ours(seed: int) -> None:
    chance, sent = random.Random(seed), bytearray()
    packed = gzip.compress(b"words " * 100)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes(sent))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        patience = Patience(attempts=1)
        asking = Http(Reach.of("docs", url), manners=Manners(seconds=2, patience=patience))
        for _ in range(40):
            sent[:] = head + packed
            for _ in range(chance.choice([1, 2, 10])):
                place = chance.randrange(len(sent))
                sent[place : place + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
            try:
                answered = await asking.get(url)
            except DocweaveError as error:
                assert str(error)  # noqa: PT017 - either outcome is right
            else:
                assert answered.status < 400


class TestPace:
    async def test_requests_begin_no_faster_than_said(self, site: Site, waits: Waits) -> None:
        site.put("/")
        asking = http(site, waits, per_second=4)
        async with asking.opened():
            for _ in range(5):
                await asking.get(site.url)
        assert waits.slept == [0.25] * 4

    async def test_connections_are_used_again_and_closed_at_the_end(self, site: Site) -> None:
        site.put("/")
        asking, most = http(site, connections=3), 0

        async def get() -> None:
            nonlocal most
            for _ in range(5):
                await asking.get(site.url)
                most = max(most, len(site.serving))

        async with asking.opened(), anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(get)
        assert (len(site.asked), most) == (50, 3)
        await site.until_closed()


class TestReach:
    @pytest.mark.parametrize(
        "target",
        [
            "http://127.0.0.2/secret",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://metadata.google.internal/",
            "file:///etc/passwd",
            "gopher://127.0.0.1/",
            "http://user:password@example.org/",
        ],
    )
    async def test_a_redirect_out_of_reach_is_not_followed(self, site: Site, target: str) -> None:
        site.redirect("/", target)
        with pytest.raises(ItemUnreadable) as raised:
            await http(site).get(site.url)
        assert "password" not in str(raised.value)
        assert len(site.asked) == 1

    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "0.0.0.0",  # noqa: S104 - an address to be refused
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1%eth0",
            "fd00:ec2::254",
            "ff02::1",
        ],
    )
    async def test_a_name_that_leads_to_an_address_that_is_not_public_is_refused(
        self, names: dict[str, list[list[str]]], address: str
    ) -> None:
        names["example.org"] = [["93.184.216.34", address]]
        asking = Http(Reach(source="docs"))
        with pytest.raises(ItemUnreadable, match=r"no public address: .* sources\.docs\.private_networks"):
            await asking.get("http://example.org/")

    @pytest.mark.parametrize(
        "host", ["2130706433", "0x7f.1", "017700000001", "localhost", "LOCALHOST.", "127.1"]
    )
    async def test_no_way_of_writing_this_machine_gets_through(self, site: Site, host: str) -> None:
        port = site.url.rpartition(":")[2]
        asking = Http(Reach(source="docs"), manners=Manners(patience=Patience(attempts=1)))
        with pytest.raises((ItemUnreadable, SourceUnavailable)):
            await asking.get(f"http://{host}:{port}/")
        assert site.asked == []

    @pytest.mark.parametrize(
        "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
    )
    async def test_public_addresses_are_reached(
        self, names: dict[str, list[list[str]]], address: str
    ) -> None:
        names["example.org"] = [[address]]
        assert await Reach(source="docs").addresses("example.org", 80) == [address]

    async def test_a_name_that_resolves_otherwise_a_moment_later_is_connected_to_what_was_looked_at(
        self, site: Site, names: dict[str, list[list[str]]]
    ) -> None:
        names["rebound.example"] = [["127.0.0.1"], ["169.254.169.254"]]
        port = site.url.rpartition(":")[2]
        site.put("/", b"the address that was looked at")
        asking = Http(Reach(source="docs", private=PRIVATE), manners=Manners(patience=Patience(attempts=1)))
        answer = await asking.get(f"http://rebound.example:{port}/")
        assert answer.content == b"the address that was looked at"
        with pytest.raises(ItemUnreadable, match=r"169\.254\.169\.254, which is no public address"):
            await asking.get(f"http://rebound.example:{port}/")  # a new connection: looked at again

    async def test_of_several_addresses_one_that_answers_is_enough(
        self, site: Site, names: dict[str, list[list[str]]]
    ) -> None:
        names["two.example"] = [["127.0.0.3", "127.0.0.1"]]
        port = site.url.rpartition(":")[2]
        site.put("/", b"here")
        asking = Http(Reach(source="docs", private=PRIVATE))
        assert (await asking.get(f"http://two.example:{port}/")).content == b"here"

    @pytest.mark.parametrize(
        ("hosts", "url", "allowed"),
        [
            ({"example.org"}, "https://example.org/", True),
            ({"example.org"}, "https://EXAMPLE.org.:443/", True),
            ({"example.org"}, "https://example.org:8443/", True),
            ({"example.org:8443"}, "https://example.org/", False),
            ({"example.org"}, "https://www.example.org/", False),
            ({"*.example.org"}, "https://a.b.example.org/", True),
            ({"*.example.org"}, "https://example.org/", False),
            ({"*.example.org"}, "https://badexample.org/", False),
            ({"example.org"}, "https://example.org.evil.net/", False),
            ({"example.org"}, "https://evil.net/?example.org", False),
            ({"example.org"}, "https://example.org@evil.net/", False),
            ({"*"}, "https://evil.net/", True),
            ({"[::1]:80"}, "http://[::1]:8080/", False),
            ({"xn--mller-kva.example"}, "https://Müller.example/", True),
            ({"example.org"}, "https://[/", False),
        ],
    )
    def test_hosts_are_compared_whole(self, hosts: set[str], url: str, allowed: object) -> None:
        assert Reach(source="docs", hosts=frozenset(hosts)).allows(url) is allowed

    async def test_proxies_of_the_environment_are_not_used(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        site.put("/", b"direct")
        assert (await http(site).get(site.url)).content == b"direct"


@dataclass(frozen=True)
class Certified:
    """A server's certificate for one name, which is its own authority."""

    file: Path
    context: ssl.SSLContext


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "docs.example")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("docs.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = tmp_path / "certificate.pem", tmp_path / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem, secret)
    return Certified(pem, context)


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Whom we believe, for one test."""

    def only(file: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        _wire._trust.cache_clear()

    yield only
    _wire._trust.cache_clear()


async def test_tls_is_checked_against_the_name_though_an_address_is_connected_to(
    names: dict[str, list[list[str]]], certified: Certified, trust: Callable[[Path], None]
) -> None:
    trust(certified.file)
    names["docs.example"] = names["other.example"] = [["127.0.0.1"]]
    asking = Http(Reach(source="docs", private=PRIVATE), manners=Manners(patience=Patience(attempts=1)))
    async with serving(certified.context) as site:
        site.put("/", b"safe")
        port = site.url.rpartition(":")[2]
        assert (await asking.get(f"https://docs.example:{port}/")).content == b"safe"
        with pytest.raises(SourceUnavailable, match="Hostname mismatch"):
            await asking.get(f"https://other.example:{port}/")


async def test_a_certificate_that_nobody_vouches_for_is_not_believed(
    names: dict[str, list[list[str]]], certified: Certified
) -> None:
    names["docs.example"] = [["127.0.0.1"]]
    asking = Http(Reach(source="docs", private=PRIVATE), manners=Manners(patience=Patience(attempts=1)))
    async with serving(certified.context) as site:
        port = site.url.rpartition(":")[2]
        with pytest.raises(SourceUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await asking.get(f"https://docs.example:{port}/")
        assert site.asked == []


class TestCredentials:
    @pytest.mark.parametrize(
        ("how", "expected"),
        [
            ({}, {"authorization": "Bearer s3cret"}),
            ({"user": "me"}, {"authorization": "Basic bWU6czNjcmV0"}),
            ({"header": "X-Api-Key", "form": "{}"}, {"x-api-key": "s3cret"}),
        ],
    )
    async def test_they_are_sent_as_the_service_wants_them(
        self, site: Site, how: Mapping[str, str], expected: Mapping[str, str]
    ) -> None:
        site.put("/")
        credentials = Credentials(secret=SecretStr("s3cret"), url=site.url, **how)
        await http(site, credentials=credentials).get(site.url)
        assert expected.items() <= site.asked[0].headers.items()

    @pytest.mark.parametrize("secret", ["s3cret\n", "s3cret\r\nX-Other: 1", "s3crét"])
    async def test_a_secret_that_no_header_can_hold_is_refused_and_not_shown(
        self, site: Site, secret: str
    ) -> None:
        credentials = Credentials(secret=SecretStr(secret), url=site.url)
        with pytest.raises(SourceRefused, match="cannot be sent as Authorization") as raised:
            await http(site, credentials=credentials).get(site.url)
        assert "s3cr" not in str(raised.value)
        assert site.asked == []

    async def test_another_origin_does_not_see_them(self, site: Site) -> None:
        async with serving() as other:
            site.redirect("/", f"{other.url}/")
            other.put("/")
            hosts = frozenset({host_of(site.url), host_of(other.url)})
            credentials = Credentials(secret=SecretStr("s3cret"), url=site.url)
            asking = Http(Reach(source="docs", hosts=hosts, private=PRIVATE), credentials=credentials)
            await asking.get(site.url)
            assert "authorization" in site.asked[0].headers
            assert "authorization" not in other.asked[0].headers

    async def test_a_refusal_does_not_show_them(self, site: Site) -> None:
        site.put("/", status=401)
        credentials = Credentials(secret=SecretStr("s3cret"), url=site.url)
        with pytest.raises(SourceRefused, match="the credentials are not accepted") as raised:
            await http(site, credentials=credentials).get(site.url)
        assert "s3cret" not in str(raised.value) + repr(credentials)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:pw@example.org/a?key=1#x", "https://example.org/a?…"),
        ("https://example.org", "https://example.org"),
        ("http://[", "what is no URL"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, expected: str) -> None:
    assert shown(url) == expected
