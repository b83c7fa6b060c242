"""Where a connector's requests may go: which hosts, and which addresses these may have."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import anyio

from connectors._url import PORTS, host_of, shown, split
from pipeline.errors import ItemUnreadable, SourceUnavailable

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

EVERY_NETWORK: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
"""For a host that the settings name on purpose: it may be anywhere."""
_TOLD_APART: tuple[Network, ...] = (
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's own services, at a public address
    ipaddress.ip_network("192.0.0.0/24"),  # Oracle's metadata among others
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The hosts and addresses that requests of one source may go to.

    Every address that a name resolves to is looked at, and the connection is made to an address that was:
    a name that resolves differently a moment later changes nothing.
    """

    source: str
    hosts: frozenset[str] | None = None
    """Names in lower case, with or without a port; `*.example.org` is any name below. None, or `*`: all."""
    private: Sequence[Network] = ()
    """Networks that may be reached although they are not public."""
    settings: tuple[str, str] = ("allow_hosts", "private_networks")
    """What the two are called in the settings of this source, for messages."""

    @classmethod
    def of(cls, source: str, url: str) -> Self:
        """The host of this URL alone, wherever it is: for the one service that the settings name."""
        return cls(source=source, hosts=frozenset({host_of(url)}), private=EVERY_NETWORK)

    def check(self, url: str) -> None:
        """Refuse a URL that leads elsewhere. No name is resolved yet.

        Raises:
            ItemUnreadable: by scheme, host, or a password in it.
        """
        parts = split(url)
        if parts is None or parts.scheme not in PORTS or not host_of(url):
            raise ItemUnreadable(f"{shown(url)} is no http or https URL")
        if parts.username is not None or parts.password is not None:
            raise ItemUnreadable(f"{shown(url)} holds a user name: only headers of the settings are sent")
        if not self.allows(url):
            raise ItemUnreadable(
                f"{shown(url)} is on {parts.hostname}, which sources.{self.source} does not read: "
                f"name it in {self.settings[0]} if it is meant"
            )

    async def addresses(self, host: str, port: int) -> list[str]:
        """Where the host is: all of its addresses, in the order in which they are to be tried.

        Raises:
            ItemUnreadable: one of them is private, or of this machine, or otherwise not public.
            SourceUnavailable: its name cannot be resolved.
        """
        try:
            found = await resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise SourceUnavailable(f"the host name {host} cannot be resolved: {error}") from error
        for address in found:
            if not self._admits(ipaddress.ip_address(address.partition("%")[0])):
                raise ItemUnreadable(
                    f"{host} is at {address}, which is no public address: if it is meant, put its network "
                    f"in sources.{self.source}.{self.settings[1]}"
                )
        return found

    def allows(self, url: str) -> bool:
        """Whether the URL's host is one of `hosts`."""
        if self.hosts is None or "*" in self.hosts:
            return True
        whole = host_of(url)
        name = whole.partition("]:")[0] if whole.startswith("[") else whole.partition(":")[0]
        return bool(self.hosts & {whole, name, *_above(name)})

    def _admits(self, address: Address) -> bool:
        named = list(_named(address))
        if any(one in network for one in named for network in self.private):
            return True
        return all(_is_public(one) for one in named)


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host name, by the system's resolver.

    Raises:
        OSError: it has none.
    """
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


def _above(name: str) -> Iterator[str]:
    """`*.example.org` and `*.org` for `www.example.org`."""
    rest = name
    while rest:
        rest = rest.partition(".")[2]
        if rest:
            yield f"*.{rest}"


def _named(address: Address) -> Iterator[Address]:
    """The address, and those of version 4 that it stands for."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        inner: Iterable[ipaddress.IPv4Address | None] = (
            address.ipv4_mapped,
            address.sixtofour,
            *(address.teredo or ()),
            ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None,
            ipaddress.IPv4Address(int(address)) if 1 < int(address) < 1 << 32 else None,
        )
        yield from (one for one in inner if one is not None)


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in _NAT64):
        return True  # what matters is the address inside
    inside = any(address in network for network in _TOLD_APART)
    return address.is_global and not address.is_multicast and not inside
