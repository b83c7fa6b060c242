"""Does S3-compatible storage honour conditional writes? See docs/object-storage.md.

A commit is an object that is written only where there is none (`If-None-Match: *`). A service that takes the
header for nothing overwrites: of several writers each is told that its commit stands, and all but one are
lost. AWS, Google and Azure promise the condition; of everybody else it is asked before the first write.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio

from pipeline.errors import StoreRefused, StoreUnavailable
from pipeline.stores import _s3_options
from pipeline.stores._place import Place

if TYPE_CHECKING:
    from obstore.store import S3Store

AWS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
"""Ends of AWS's own addresses: a gateway's or an access point's, too."""
CLIENT: Final = (
    "allow_http",
    "allow_invalid_certificates",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
)
"""Options about the connection, not about S3."""
SECONDS = 20.0
"""For all of it."""
CONTENT = b"Docweave looks whether objects that are there are left alone. This one may be deleted."

_kept: set[tuple[str, str]] = set()
"""Address and endpoint of those that were found to keep to it, for as long as the process lives."""


async def check_conditional_put(place: Place) -> bool:
    """Whether it was seen that the storage keeps to it; False where that is known, and nothing is tried.

    Four small requests, once in a process: of three writes of one object, two of them at the same time, at
    most one may go through; then it is deleted.

    Raises:
        StoreRefused: it overwrites what is there, cannot tell, or turns us away.
        StoreUnavailable: it does not answer.
    """
    endpoint = _s3_options.endpoint_of(place.options)
    host = urlsplit(endpoint or "").hostname or ""
    if endpoint is None or not place.uri.startswith("s3://") or host.endswith(AWS):
        return False
    if (place.uri, endpoint) in _kept:
        return True
    try:
        with anyio.fail_after(SECONDS):
            kept = await _keeps(place)
    except TimeoutError as error:
        raise StoreUnavailable(f"{place}: {endpoint} has not answered for {SECONDS:g} s") from error
    if not kept:
        raise StoreRefused(
            f"{place}: the storage at {endpoint} overwrites objects that it was asked to leave alone "
            "(If-None-Match: *). Commits of runs that overlap would be lost without a word, so nothing is "
            "written. Take a newer version of this service, one that honours conditional writes (AWS S3, "
            "Cloudflare R2 and MinIO do), or a folder as store.uri"
        )
    _kept.add((place.uri, endpoint))
    return True


async def _keeps(place: Place) -> bool:
    """Whether an object is left alone where `If-None-Match: *` asks for it."""
    from obstore import exceptions  # noqa: PLC0415 - most runs write to a folder

    name = f".docweave-check-{uuid.uuid4().hex}"
    written = 0

    async def write() -> None:
        nonlocal written
        # None may go through, too: an answer was lost, and the request sent again.
        with suppress(exceptions.AlreadyExistsError):
            await store.put_async(name, CONTENT, mode="create")
            written += 1

    with place.during("try a conditional write", exceptions.BaseError):
        store = opened_s3(place, timeout="8s")
        try:
            await asyncio.gather(write(), write())
            await write()
        except NotImplementedError:
            return False
        await store.delete_async(name)
    return written <= 1


def opened_s3(place: Place, *, timeout: str) -> S3Store:
    """The same place, through the client that LanceDB has inside. `timeout`: for one request."""
    from obstore.store import S3Store  # noqa: PLC0415 - most runs write to a folder

    at = urlsplit(place.uri)
    options = place.options
    config = {
        name: options[name]
        for name in (*(f"aws_{bare}" for bare in _s3_options.BARE), "aws_endpoint_url_s3")
        if name in options
    }
    client = {name: options[name] for name in CLIENT if name in options}
    return S3Store(
        at.netloc,
        prefix=at.path.strip("/") or None,
        config={**config, **_keys(place)},  # type: ignore[arg-type]
        client_options={**client, "timeout": timeout, "connect_timeout": "4s"},  # type: ignore[arg-type]
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=SECONDS / 2)},
    )


def _keys(place: Place) -> dict[str, str]:
    """The key that stands in the AWS files, where neither the settings nor the environment have one.

    Raises:
        StoreRefused: the profile gets its key in a way that only LanceDB knows.
    """
    both = (_s3_options.KEY, _s3_options.SECRET)
    if all(name in place.options or os.environ.get(name.upper()) for name in both):
        return {}
    profile = _s3_options.profile(os.environ)
    if all(name in profile for name in both):
        return {name: profile[name] for name in (*both, _s3_options.TOKEN) if name in profile}
    if any(name.startswith(("sso_", "role_", "credential_")) for name in profile):
        named = os.environ.get("AWS_PROFILE") or "default"
        raise StoreRefused(
            f"{place}: whether this storage honours conditional writes is tried with a key, and the AWS "
            f"profile {named} names none. Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN "
            f"(`aws configure export-credentials --profile {named} --format env` prints them)"
        )
    return {}  # those of the machine or the container
