"""Object storage to test against: moto's S3, in a process of its own, once a session.

`python -m tests.s3` is that process. In front of moto stands what moto does not do: conditional writes are
one after the other, as S3 promises; requests are counted; and what a bucket is called decides how it fails:

    careless-…   takes the header If-None-Match for nothing, and overwrites
    ignorant-…   does not know that header, and says so
    locked-…     may be read, and not written
    far-…        is in the region eu-north-1, and says so to those who ask elsewhere
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

KEY, SECRET = "docweave-tests-id", "docweave-tests-secret-9f8e7d6c5b4a"
FAR = "eu-north-1"
SIGNED = re.compile(r"Credential=([^/]*)/[^/]+/([^/]+)/s3/aws4_request")
COUNTS = "/-counts"


@dataclass(frozen=True)
class Bucket:
    """An empty place to store in."""

    endpoint: str
    name: str

    @property
    def uri(self) -> str:
        return f"s3://{self.name}/tables"

    @property
    def options(self) -> dict[str, str]:
        """What opens it, as `store.options`."""
        return {
            "endpoint": self.endpoint,
            "allow_http": "true",
            "region": "us-east-1",
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
        }

    def requests(self) -> Counter[str]:
        """How many of each method it has had; LIST is a GET of a listing."""
        return Counter(httpx.get(f"{self.endpoint}{COUNTS}").json().get(self.name, {}))

    def objects(self) -> dict[str, int]:
        """The size of each object, by its key."""
        sizes: dict[str, int] = {}
        after = ""
        while True:
            page = httpx.get(f"{self.endpoint}/{self.name}?list-type=2&start-after={after}").text
            found = re.findall(r"<Key>([^<]*)</Key>.*?<Size>(\d+)</Size>", page, re.DOTALL)
            sizes |= {key: int(size) for key, size in found}
            if "<IsTruncated>true" not in page:
                return sizes
            after = found[-1][0]


@contextmanager
def serving() -> Iterator[str]:
    """A server's address."""
    command = [sys.executable, "-m", "tests.s3"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def new_bucket(endpoint: str, name: str) -> Bucket:
    """An empty bucket."""
    httpx.put(f"{endpoint}/{name}").raise_for_status()
    return Bucket(endpoint, name)


Start = Callable[..., Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]


class Front:
    """What stands before moto: see the module."""

    def __init__(self, moto: Application) -> None:
        self._moto = moto
        self._one_at_a_time = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == COUNTS:
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._counts).encode()]
        bucket = environ["PATH_INFO"].split("/")[1]
        method = environ["REQUEST_METHOD"]
        signed = SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))
        if signed:
            listing = method == "GET" and "list-type=" in environ["QUERY_STRING"]
            self._counts.setdefault(bucket, Counter())["LIST" if listing else method] += 1
            if refusal := _refusal(bucket, environ, *signed.groups()):
                return _say(environ, start, *refusal)
        if bucket.startswith("careless-"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if "HTTP_IF_NONE_MATCH" in environ:
            with self._one_at_a_time:
                return list(self._moto(environ, start))
        return self._moto(environ, start)


def _refusal(bucket: str, environ: Mapping[str, Any], key: str, region: str) -> tuple[str, str, str] | None:
    """What S3 says to a request that it turns away: status, code and message."""
    if key != KEY:
        message = "The AWS Access Key Id you provided does not exist in our records."
        return "403 Forbidden", "InvalidAccessKeyId", message
    if bucket.startswith("far-") and region != FAR:
        message = f"The authorization header is malformed; the region '{region}' is wrong; expecting '{FAR}'"
        return "400 Bad Request", "AuthorizationHeaderMalformed", message
    if bucket.startswith("ignorant-") and "HTTP_IF_NONE_MATCH" in environ:
        return "501 Not Implemented", "NotImplemented", "A header implies functionality that is missing."
    if bucket.startswith("locked-") and environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return "403 Forbidden", "AccessDenied", "Access Denied"
    return None


def _say(environ: dict[str, Any], start: Start, status: str, code: str, message: str) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start(status, [("Content-Type", "application/xml")])
    return [f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()]


def main() -> None:
    """Serve until the end of the tests."""
    from moto.moto_server.werkzeug_app import create_backend_app  # noqa: PLC0415 - a second
    from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Nothing: there are thousands."""

    front = Front(create_backend_app("s3"))
    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201 - the tests read it
    threading.Thread(target=_until_orphaned, args=(os.getppid(),), daemon=True).start()
    server.serve_forever()


def _until_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        threading.Event().wait(1)
    os._exit(0)


if __name__ == "__main__":
    main()
