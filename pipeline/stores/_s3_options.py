"""What opens S3 storage, under one name each: from the settings, the environment and the AWS profile.

LanceDB takes an option under several names, and the same from the environment. Where the two differ in name
(`endpoint` here, AWS_ENDPOINT_URL there), chance decides which of them counts. So each gets the name that
LanceDB gives it itself, and the settings count.
"""

from __future__ import annotations

from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as BrokenFile
from difflib import get_close_matches
from pathlib import Path
from typing import Final

BARE: Final = frozenset(
    (
        "access_key_id",
        "secret_access_key",
        "session_token",
        "region",
        "endpoint",
        "virtual_hosted_style_request",
        "skip_signature",
        "unsigned_payload",
        "checksum_algorithm",
        "request_payer",
        "s3_express",
        "server_side_encryption",
        "sse_kms_key_id",
        "sse_bucket_key_enabled",
        "sse_customer_key_base64",
    )
)
"""Options that LanceDB knows with and without `aws_` before them."""
ALIASES: Final = {
    "endpoint_url": "aws_endpoint",
    "aws_endpoint_url": "aws_endpoint",
    "endpoint_url_s3": "aws_endpoint_url_s3",
    "default_region": "aws_region",
    "aws_default_region": "aws_region",
    "token": "aws_session_token",
    "aws_token": "aws_session_token",
    "bucket_key_enabled": "aws_sse_bucket_key_enabled",
    "aws_allow_http": "allow_http",
}
ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""Where the environment names an endpoint: the first counts."""
REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
REGION: Final = "us-east-1"
"""What services that have no regions are signed for: LanceDB's own default is another."""
KEY, SECRET, TOKEN = "aws_access_key_id", "aws_secret_access_key", "aws_session_token"


def s3_options(options: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """These options under the names that count, and what the environment adds to the endpoint."""
    named = {_name(option): value for option, value in options.items()}
    ours = _first(named, ("aws_endpoint_url_s3", "aws_endpoint"))
    endpoint = ours or _first(environ, ENDPOINTS) or profile(environ).get("endpoint_url")
    if endpoint:
        # Under both names, or one that stands in the environment would go before the settings' own.
        named |= {"aws_endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
        region = _first(environ, REGIONS) or profile(environ).get("region") or REGION
        named.setdefault("aws_region", region)
        if allowed := _first(environ, ("AWS_ALLOW_HTTP", "ALLOW_HTTP")):
            named.setdefault("allow_http", allowed)
    return named


def endpoint_of(options: Mapping[str, str]) -> str | None:
    """The storage's own address, where it is not AWS itself. `options` are as `s3_options` gives them."""
    return options.get("aws_endpoint")


def misspelt(options: Mapping[str, str]) -> list[tuple[str, str]]:
    """Options that LanceDB passes over, and what each was to be, where that is plain."""
    known = [f"aws_{name}" for name in BARE] + ["allow_http"]
    pairs = [
        (name, get_close_matches(name, known, n=1, cutoff=0.88)) for name in options if name not in known
    ]
    return [(name, close[0]) for name, close in pairs if close and name != "aws_endpoint_url_s3"]


def profile(environ: Mapping[str, str]) -> dict[str, str]:
    """What the AWS files say under the profile that AWS_PROFILE names, or under `default`."""
    name = environ.get("AWS_PROFILE") or "default"
    found: dict[str, str] = {}
    for variable, usual, section in (
        ("AWS_CONFIG_FILE", "~/.aws/config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name),
    ):
        parser = ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(Path(environ.get(variable) or usual).expanduser(), encoding="utf-8")
        except (BrokenFile, UnicodeDecodeError, OSError, RuntimeError):
            continue  # who needs what stands there finds out that it is missing
        if parser.has_section(section):
            found |= dict(parser.items(section))
    return found


def _name(option: str) -> str:
    name = option.lower()
    return ALIASES.get(name) or (f"aws_{name}" if name in BARE else name)


def _first(values: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((values[name] for name in names if values.get(name)), None)
