"""How an HTTP source is asked, and as whom."""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import anyio
from pydantic import SecretStr

from connectors._url import origin
from pipeline.errors import SourceRefused

USER_AGENT = "Docweave/0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A secret, and who may see it."""

    secret: SecretStr
    url: str
    """Its scheme and host get the secret, and no other: not after a redirect either."""
    header: str = "Authorization"
    form: str = "Bearer {}"
    user: str | None = None
    """With a user name it is a password, sent as HTTP Basic has it; `form` does not count."""

    def header_for(self, url: str) -> Mapping[str, str]:
        """The header with the secret; nothing for another origin.

        Raises:
            SourceRefused: the secret holds what no header can. Never shows it.
        """
        if origin(url) != origin(self.url):
            return {}
        secret = self.secret.get_secret_value()
        if self.user is not None:
            pair = base64.b64encode(f"{self.user}:{secret}".encode()).decode("ascii")
            return {self.header: f"Basic {pair}"}
        if not (secret.isascii() and secret.isprintable()):
            raise SourceRefused(
                f"the secret for {origin(self.url)} cannot be sent as {self.header}: it holds a line break, "
                "or what is no printable ASCII"
            )
        return {self.header: self.form.format(secret)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a request is made. What tells the time is here too, so that a test need not wait."""

    attempts: int = 4
    first_wait_seconds: float = 1.0
    """The first wait is drawn from 0 to this, each next one from twice as much (full jitter)."""
    longest_wait_seconds: float = 60.0
    """A server that asks for a longer one is not asked again in this run."""
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a source is asked."""

    seconds: float = 30.0
    """For one request with the whole of its answer."""
    per_second: float | None = None
    """Requests begun; None for no limit."""
    connections: int = 4
    max_bytes: int = 50_000_000
    """Of one answer, unpacked."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request, to whatever host: nothing secret."""
    patience: Patience = field(default_factory=Patience)
