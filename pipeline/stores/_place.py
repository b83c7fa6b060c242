"""Where a database is, and what its failures are called here."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from pipeline.errors import StoreRefused, StoreUnavailable
from pipeline.stores._s3_options import endpoint_of, misspelt, s3_options

REFUSALS = re.compile(
    r"permission ?denied|access ?denied|unauthori[sz]ed|forbidden|invalid ?access ?key"
    r"|signature ?does ?not ?match|no space left|storage ?full|quota"
    r"|read-only file system|no ?such ?bucket|unable to created? |status: 40[13]\b"
    r"|BadScheme|builder error|authorization header is malformed|PermanentRedirect|CredentialsNotLoaded"
    r"|NotImplemented|501 Not|resolve region|bucket does not exist|credentials require both",
    re.IGNORECASE,
)
"""What waiting does not mend."""
PASSING = re.compile(
    r"conflict|concurrent|contention|retr(y|ies)|time[d ]?-?out|connect|\bio\b|\bi/o\b|unavailable|os error"
    r"|not found|object at location",  # a file of a version that was cleaned up while it was read
    re.IGNORECASE,
)
"""What may be gone when it is tried again."""
SOURCE_LINE = re.compile(r",? ?(location: .*|\S*\.cargo/.*)", re.DOTALL)
"""Where in LanceDB's own code an error arose: of no use to a reader."""
OBJECT_STORE_SAYS = re.compile(r"<Message>([^<]+)</Message>")
"""The part of an object store's answer that is meant for people."""
LONGEST = 300
ITS_ERRORS = (ValueError, RuntimeError, OSError)
"""LanceDB's core raises these three for everything."""
OPENING_SECONDS = 30.0
"""LanceDB itself asks a storage that is silent for ten minutes and more."""
SECRET = re.compile("key|secret|token|password", re.IGNORECASE)
"""Options, and names in the environment, whose values are nobody's business."""

EXPLAINED = {
    r"InvalidAccessKeyId|SignatureDoesNotMatch|key id you provided|does not match the signature": (
        "the storage does not accept the key: see aws_access_key_id and aws_secret_access_key in "
        "store.options, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ),
    r"CredentialsNotLoaded|Failed to get AWS credentials|/latest/api/token|latest/meta-data": (
        "there is no key: set aws_access_key_id and aws_secret_access_key in store.options, or "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    ),
    r"credentials require both": "aws_access_key_id and aws_secret_access_key are both needed",
    r"NoSuchBucket|specified bucket does not exist": (
        "there is no bucket {bucket}: make it, or correct store.uri"
    ),
    r"(?:is wrong; expecting|<Region>)\W*([a-z0-9-]+)": (
        "the bucket {bucket} is in the region {found}: set region: {found} in store.options, or AWS_REGION"
    ),
    r"PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint": (
        "the bucket {bucket} is in another region: set region in store.options, or AWS_REGION"
    ),
    r"Failed to resolve region|BucketNotFound": (
        "AWS does not tell in which region the bucket {bucket} is: correct store.uri, set region in "
        "store.options, or set endpoint, if it is no bucket of AWS"
    ),
    r"AccessDenied|Access Denied": (
        "the key may not do that: it has to list, read, write and delete objects below {place}"
    ),
    r"501 Not Implemented|<Code>NotImplemented": (
        "{endpoint} does not know conditional writes (If-None-Match), without which commits get lost: take a "
        "newer version of it, another service, or a folder as store.uri"
    ),
    r"BadScheme|builder error": (
        "{endpoint} is not encrypted, and allow_http: true is not set in store.options"
    ),
    r"Connection ?[Rr]efused|dns error|failed to lookup|tcp connect|error sending request|TimedOut": (
        "{endpoint} does not answer: correct endpoint in store.options, or AWS_ENDPOINT_URL"
    ),
}
"""What an object store's client says, and what there is to do."""

Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class Place:
    """A database's address and the options that open it."""

    uri: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def at(cls, uri: str, options: Mapping[str, str]) -> Place:
        """A folder's path is made absolute: LanceDB takes any address that begins with "db" for its cloud."""
        if uri.startswith("s3://"):
            return cls(uri, s3_options(options, os.environ))
        return cls(uri if "://" in uri else str(Path(uri).expanduser().absolute()), options)

    def __str__(self) -> str:
        """The address, without what it may say of credentials."""
        if "://" not in self.uri:
            return self.uri
        parts = urlsplit(self.uri)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @contextmanager
    def during(self, what: str, *also: type[Exception]) -> Iterator[None]:
        """Translate what LanceDB and Arrow raise, and `also`.

        Raises:
            StoreUnavailable: a commit conflict or an outage.
            StoreRefused: no permission, no space, or data that LanceDB will not take.
        """
        errors: tuple[type[Exception], ...] = (*ITS_ERRORS, *also)
        try:
            yield
        except errors as error:
            said = str(error) or type(error).__name__
            message = f"{self}: cannot {what}: {self._explained(said) or self._plain(said)}"
            if REFUSALS.search(said):
                raise StoreRefused(message) from error
            if isinstance(error, OSError) or PASSING.search(said):
                raise StoreUnavailable(message) from error
            raise StoreRefused(message) from error

    async def opened(self, opening: Awaitable[Opened]) -> Opened:
        """A database that is opened, on object storage in a time that one can wait for.

        Raises:
            StoreUnavailable: the storage does not answer.
            StoreRefused: as `during`.
        """
        with self.during("open the database"):
            if "://" not in self.uri:
                return await opening
            try:
                async with asyncio.timeout(OPENING_SECONDS):
                    return await opening
            except TimeoutError as error:
                at = endpoint_of(self.options) or "it"
                raise StoreUnavailable(f"{self}: {at} has not answered for {OPENING_SECONDS:g} s") from error

    def _explained(self, reason: str) -> str | None:
        """What there is to do about what an object store says, where that is known."""
        if "://" not in self.uri:
            return None
        for pattern, words in EXPLAINED.items():
            if found := re.search(pattern, reason):
                explained = words.format(
                    bucket=urlsplit(str(self)).netloc,
                    found=found[1] if found.re.groups else "",
                    endpoint=endpoint_of(self.options) or "the storage",
                    place=self,
                )
                meant = [f"; {wrong} is no option: {right}?" for wrong, right in misspelt(self.options)]
                return "".join([explained, *meant])
        return None

    def _plain(self, reason: str) -> str:
        """The library's words, in one line, without the options' secrets."""
        if said := OBJECT_STORE_SAYS.search(reason):
            reason = said[1]
        text = " ".join(SOURCE_LINE.sub("", reason).split())
        text = text.replace(self.uri, str(self))
        for name, value in (*self.options.items(), *_of_clouds(os.environ)):
            if len(value) > 4 and SECRET.search(name):
                text = text.replace(value, "…")
        # What was tried stands at the beginning, and what came of it at the end.
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def _of_clouds(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What LanceDB reads of the environment, too."""
    return ((name, environ[name]) for name in environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_")))
