"""What may be said of every source that is read from URLs which documents, too, may name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, ByteSize, Field, WithJsonSchema

from connectors._http import USER_AGENT, Credentials, Http, Manners, Patience
from connectors._reach import Reach
from connectors._url import PORTS, host_of, split
from connectors.settings import Secret, SharedSettings


def _url(url: str) -> str:
    parts = split(url)
    if parts is None or parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("must be a URL that begins with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or password: write username and password beside it")
    return url


def _host(host: str) -> str:
    name = host.removeprefix("*.")
    if host != "*" and (host_of(f"https://{name}") != name or "/" in name or "*" in name):
        raise ValueError("must be a host in lower case as example.org, localhost:8080, *.example.org, or *")
    return host


def _header(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("must be printable ASCII: it is sent as a header")
    return value


def _network(network: str) -> str:
    try:
        ipaddress.ip_network(network)
    except ValueError as error:
        raise ValueError("must be an address or a network as 10.0.0.0/8 or fd00::/8") from error
    return network


WebUrl: TypeAlias = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "format": "uri"})]
Host: TypeAlias = Annotated[str, AfterValidator(_host)]
HeaderValue: TypeAlias = Annotated[str, AfterValidator(_header)]
NetworkName: TypeAlias = Annotated[str, AfterValidator(_network)]


class HttpSettings(SharedSettings):
    """How a source is asked over HTTP, and where its URLs may lead."""

    allow_hosts: list[Host] = Field(
        default=[],
        description="Hosts that may be read beside those of the URLs above, also by redirect; "
        "*.example.org is every host below example.org, * every public host.",
    )
    private_networks: list[NetworkName] = Field(
        default=[],
        description="Networks that may be read although they are not public, as 10.0.0.0/8. Left out: no "
        "private, local or link-local address is ever asked, whatever a page, a redirect or a name says.",
    )
    username: str | None = Field(
        default=None, description="With password: sent to the host of the first URL."
    )
    password: Secret | None = Field(default=None, description="Belongs to username.")
    token: Secret | None = Field(
        default=None, description="Sent to the host of the first URL as Authorization: Bearer."
    )
    user_agent: HeaderValue = Field(default=USER_AGENT, description="As which the source is asked.")
    requests_per_second: float = Field(
        default=2.0, gt=0, le=1000, description="No more requests are begun. A site may ask for fewer."
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="For one request with the whole of its answer."
    )
    max_bytes: ByteSize = Field(
        default=ByteSize(20_000_000),
        description="Answers larger than this, unpacked, are reported and left out: bytes, or as 20MB.",
    )

    def http(self, source: str, urls: Iterable[str]) -> Http:
        """What asks these URLs' hosts, and those that may be read beside them.

        Args:
            source: Its name in the settings.
            urls: Those of the settings. The first one's host gets the credentials.
        """
        first, *others = urls
        hosts = frozenset({host_of(first), *map(host_of, others), *self.allow_hosts})
        reach = Reach(
            source=source,
            hosts=hosts,
            private=[ipaddress.ip_network(network) for network in self.private_networks],
        )
        manners = Manners(
            seconds=self.timeout_seconds,
            per_second=self.requests_per_second,
            max_bytes=self.max_bytes,
            headers={"User-Agent": self.user_agent},
            patience=Patience(),
        )
        return Http(reach, manners=manners, credentials=self._credentials(first))

    def _credentials(self, url: str) -> Credentials | None:
        if self.token is not None:
            return Credentials(secret=self.token, url=url)
        if self.username is not None and self.password is not None:
            return Credentials(secret=self.password, url=url, user=self.username)
        return None
