"""One HTTP exchange, with its limits: what `connectors._http` does several times over.

httpcore, the engine below httpx, is used as it is: its network backend is where a name becomes an address,
and httpx would follow redirects, unpack without a limit, and log every URL.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus

import anyio
import httpcore

from connectors._reach import Reach
from connectors._refusals import oversize
from connectors._url import shown
from pipeline.errors import ItemUnreadable, SourceUnavailable

_CONNECT_SECONDS = 15.0
_NEXT_ADDRESS_SECONDS = 3.0
"""How long an address is tried while there is another one."""
_PIECE = 65_536
_WITHOUT_CONTENT = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Backend(httpcore.AnyIOBackend):
    """Connects to addresses that were looked at, never to a name."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore has it
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first of the host's addresses that takes one."""
        *others, last = await self._reach.addresses(host, port)
        for address in others:
            within = min(_NEXT_ADDRESS_SECONDS, timeout or _NEXT_ADDRESS_SECONDS)
            try:
                return await super().connect_tcp(address, port, within, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await super().connect_tcp(last, port, timeout, local_address, socket_options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)
    seconds: float
    """For all of it, the body included."""
    max_bytes: int
    limit_name: str
    """The setting that `max_bytes` comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """By names in lower case; of several with one name, their values with commas between."""
    content: bytes


def pool(reach: Reach, connections: int) -> httpcore.AsyncConnectionPool:
    """Connections that stay within reach. No proxy of the environment is used: it would resolve names."""
    return httpcore.AsyncConnectionPool(
        ssl_context=_trust(), max_connections=connections, network_backend=Backend(reach)
    )


async def exchange(connections: httpcore.AsyncConnectionPool, request: Request) -> Reply:
    """Send one request and read its reply to the end; a redirect is a reply like any other.

    Raises:
        ItemUnreadable: the reply is larger than the limit, packed in a way that nobody asked for, or from
            an address that is out of reach.
        SourceUnavailable: no connection, no answer in time, or half of one.
    """
    where = shown(request.url)
    try:
        with anyio.fail_after(request.seconds):
            return await _exchanged(connections, request, where)
    except (TimeoutError, httpcore.TimeoutException):
        trouble = f"gave no whole answer within {request.seconds:g} s"
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ConnectionNotAvailable, OSError) as error:
        trouble = f"could not be read: {type(error).__name__}: {error}"
    # Raised here, without its cause: the frames below an httpcore error hold the headers that were sent.
    raise SourceUnavailable(f"{where} {trouble}")


async def _exchanged(connections: httpcore.AsyncConnectionPool, request: Request, where: str) -> Reply:
    timeout = {
        "connect": min(_CONNECT_SECONDS, request.seconds),
        "read": request.seconds,
        "write": request.seconds,
    }
    async with connections.stream(
        request.method,
        request.url,
        headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in request.headers.items()],
        content=request.content,
        extensions={"timeout": timeout},
    ) as response:
        headers = _joined(response.headers)
        if request.method == "HEAD" or response.status in _WITHOUT_CONTENT:
            content = await response.aread()  # nothing; read to its end, the connection serves again
        else:
            content = await _content(response.aiter_stream(), headers, request, where)
        return Reply(status=response.status, headers=headers, content=content)


async def _content(
    pieces: AsyncIterator[bytes], headers: Mapping[str, str], request: Request, where: str
) -> bytes:
    """The body, unpacked, and read no further than the limit."""
    too_large = oversize(f"{where} has more than {request.limit_name}: {request.max_bytes:,} bytes")
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > request.max_bytes:
        raise too_large
    unpack = _unpacker(headers.get("content-encoding", ""), where)
    content = bytearray()
    async for piece in pieces:
        rest, out = piece, b"."
        while rest or out:
            out, rest = unpack.some(rest, request.max_bytes + 1 - len(content))
            content += out
            if len(content) > request.max_bytes:
                raise too_large
    if not unpack.is_whole():
        raise SourceUnavailable(f"{where} ended before its content did")
    return bytes(content)


def unpacked(content: bytes, most: int, where: str) -> bytes:
    """What a gzip file holds.

    Raises:
        ItemUnreadable: more than `most` bytes.
        SourceUnavailable: it ends early.
    """
    unpack, found = _Packed("gzip", where), bytearray()
    rest, out = content, b"."
    while rest or out:
        out, rest = unpack.some(rest, most + 1 - len(found))
        found += out
        if len(found) > most:
            raise oversize(f"{where} unpacks to more than {most:,} bytes")
    if not unpack.is_whole():
        raise SourceUnavailable(f"{where} ends early")
    return bytes(found)


class _Plain:
    def some(self, piece: bytes, most: int) -> tuple[bytes, bytes]:
        return piece[:most], piece[most:]

    def is_whole(self) -> bool:
        return True


class _Packed:
    """gzip or deflate, a bounded piece at a time: a kilobyte may stand for a megabyte."""

    def __init__(self, encoding: str, where: str) -> None:
        self._gzip = encoding != "deflate"
        self._where = where
        self._member: zlib._Decompress | None = None
        self._any = False

    def some(self, piece: bytes, most: int) -> tuple[bytes, bytes]:
        if self._member is None:
            if not piece or (self._any and not piece.strip(b"\0")):
                return b"", b""  # nothing, or padding after the last member
            self._member = zlib.decompressobj(self._window(piece))
            self._any = True
        try:
            out = self._member.decompress(piece, max(1, min(most, _PIECE)))
        except zlib.error as error:
            raise ItemUnreadable(f"{self._where} is packed wrongly: {error}") from error
        if self._member.eof:
            rest, self._member = self._member.unused_data, None
            return out, rest if self._gzip else b""
        return out, self._member.unconsumed_tail

    def is_whole(self) -> bool:
        return self._member is None

    def _window(self, piece: bytes) -> int:
        if self._gzip:
            return 16 + zlib.MAX_WBITS
        # "deflate" is zlib by the standard, and bare deflate by some servers.
        return zlib.MAX_WBITS if piece[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS


def _unpacker(encoding: str, where: str) -> _Plain | _Packed:
    match encoding.strip().lower():
        case "" | "identity":
            return _Plain()
        case "gzip" | "x-gzip" | "deflate" as known:
            return _Packed(known, where)
        case other:
            raise ItemUnreadable(f"{where} is packed as {other[:40]!r}: gzip and deflate were asked for")


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


@cache
def _trust() -> ssl.SSLContext:
    """Whom TLS believes: the usual authorities, the system's, and those of SSL_CERT_FILE and SSL_CERT_DIR."""
    return httpcore.default_ssl_context()
