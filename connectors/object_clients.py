"""Opens object storage as the settings, the environment and the AWS files say.

Light to import: obstore is imported when storage is opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from pydantic import SecretStr

from connectors.aws_profile import profile
from connectors.storage import Address, StorageOptions

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore, GCSConfig, GCSStore, S3Config, S3Store

    Client: TypeAlias = S3Store | GCSStore | AzureStore

_CLIENT: Final = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "3600s"}
_RETRIES: Final = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
_REGION: Final = "us-east-1"
"""What services that have no regions are signed for."""


def client(at: Address, options: StorageOptions) -> Client:
    """The client. Nothing is asked yet."""
    from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415 - see the module

    common: Any = {
        "client_options": {**_CLIENT, **({"allow_http": True} if options.allow_http else {})},
        "retry_config": _RETRIES,
    }
    anonymous: dict[str, Any] = {"skip_signature": True} if options.anonymous else {}
    if at.scheme == "s3":
        config = {**_s3(options), **anonymous}
        return S3Store(at.bucket, config=cast("S3Config", config), **_s3_key(options), **common)
    if at.scheme == "gs":
        account = {"service_account": str(options.google_service_account or "")}
        base = {"base_url": options.endpoint or ""}
        config = {**_given(account | base), **anonymous}
        return GCSStore(at.bucket, config=cast("GCSConfig", config), **common)
    named = {
        "account_name": options.azure_storage_account_name or "",
        "endpoint": options.endpoint or "",
        "account_key": _told(options.azure_storage_account_key),
        "sas_key": _told(options.azure_storage_sas_token),
    }
    config = {**_given(named), **anonymous}
    return AzureStore(at.bucket, config=cast("AzureConfig", config), **common)


def _s3(options: StorageOptions) -> dict[str, Any]:
    """What opens S3 storage: from the settings, then the environment, then the AWS files."""
    file = profile(os.environ)
    endpoint = options.endpoint or _from_environment(
        "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"
    )
    endpoint = endpoint or file.get("endpoint_url", "")
    region = options.region or _from_environment("AWS_REGION", "AWS_DEFAULT_REGION") or file.get("region", "")
    flags = {
        "request_payer": options.request_payer,
        "virtual_hosted_style_request": options.virtual_hosted_style_request,
    }
    named = {
        # Under both names, or one that stands in the environment would go before the settings' own.
        "aws_endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,
        "region": region or (_REGION if endpoint else ""),
    }
    return {**_given(named), **{name: True for name, on in flags.items() if on}}


def _s3_key(options: StorageOptions) -> dict[str, Any]:
    """The key of the settings, whole, or that of the AWS files; nothing leaves it to the environment."""
    key, secret = _told(options.aws_access_key_id), _told(options.aws_secret_access_key)
    token = _told(options.aws_session_token)
    if not key and not options.anonymous and not os.environ.get("AWS_ACCESS_KEY_ID"):
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        key, secret, token = (profile(os.environ).get(name, "") for name in names)
    if not key or not secret:
        return {}
    given = {"access_key_id": key, "secret_access_key": secret, "token": token or None, "expires_at": None}
    return {"credential_provider": lambda: given}


def _from_environment(*names: str) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _given(values: Mapping[str, str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _told(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
