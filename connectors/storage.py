"""Where files are that are not in a folder of this machine, as settings say it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationInfo

from connectors.settings import LocalPath, Secret, StrictModel, absolute, folder_of, literal_secret

BUCKETS: Final = ("s3", "gs", "az")
HTTP: Final = ("https", "http")
SFTP: Final = "sftp"
_ADVICE: Mapping[str, str] = {
    "github": "repositories are read by sources of `type: git`",
    "git": "repositories are read by sources of `type: git`",
    "file": "a folder of this machine is a `path`",
}
_VALID = (
    "valid: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, az://CONTAINER/FOLDER, https://HOST/FOLDER/, "
    "sftp://HOST/FOLDER, zip://FILE.zip!/FOLDER"
)
_HOST = re.compile(r"(?:\w[\w.-]*|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?", re.ASCII)
"""As it may be an argument of ssh, which puts it into commands that its settings name."""
_USER = re.compile(r"\w[\w.@+-]*", re.ASCII)


class Address(NamedTuple):
    """An address taken apart: `scheme://bucket/path`, or `zip+scheme://bucket/path!/inside`."""

    scheme: str
    """`s3`, `gs`, `az`, `https`, `http` or `sftp`; `file` for an archive of this machine."""
    bucket: str
    path: str
    """In a bucket without slashes at its ends; of an archive of this machine, and on a host, with them."""
    archive: bool = False
    inside: str = ""
    """The folder in the archive, without slashes at its ends."""

    @property
    def root(self) -> str:
        """The address of the bucket."""
        return f"{self.scheme}://{self.bucket}"


class StorageOptions(StrictModel):
    """What opens object storage, by the names of `store.options`. Left out: as the environment says."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/@?#]+(/[^@?#]*)?$",
        description="Of storage that is not the provider's own: http://minio.internal:9000.",
    )
    allow_http: bool = Field(default=False, description="Whether it may be asked without encryption.")
    anonymous: bool = Field(default=False, description="Ask without a key: for public buckets.")
    region: str | None = Field(default=None, description="Of the bucket, for s3://.")
    aws_access_key_id: Secret | None = Field(default=None, description="For s3://.")
    aws_secret_access_key: Secret | None = Field(default=None, description="For s3://.")
    aws_session_token: Secret | None = Field(default=None, description="For s3://, of a temporary key.")
    request_payer: bool = Field(default=False, description="For s3://: pay for the requests yourself.")
    virtual_hosted_style_request: bool = Field(
        default=False, description="For s3://: the endpoint has the bucket's name in it."
    )
    google_service_account: LocalPath | None = Field(
        default=None, description="For gs://: the file of a service account."
    )
    azure_storage_account_name: str | None = Field(default=None, description="For az://: the account.")
    azure_storage_account_key: Secret | None = Field(default=None, description="For az://.")
    azure_storage_sas_token: Secret | None = Field(default=None, description="For az://.")
    username: str | None = Field(default=None, description="For https://, with password; for sftp://.")
    password: Secret | None = Field(default=None, description="For https:// and sftp://.")
    private_key: Secret | None = Field(
        default=None, description="For sftp://: the key's text, as file:~/.ssh/id_docweave."
    )
    passphrase: Secret | None = Field(default=None, description="For sftp://: of private_key.")
    known_hosts: LocalPath | None = Field(
        default=None,
        description="For sftp://: the file with the server's host key. Left out: as ssh is set up, which is "
        "~/.ssh/known_hosts.",
    )
    token: Secret | None = Field(default=None, description="For https://: sent as Authorization: Bearer.")

    def check(self, scheme: str) -> None:
        """Refuse what says nothing at addresses of this kind.

        Raises:
            ValueError: names an option that was given, and what it is for.
        """
        for name in sorted(self.model_fields_set):
            if scheme not in (kinds := _kinds(name)):
                raise ValueError(f"options.{name} is for addresses that begin with {kinds[0]}://")
        if self.endpoint and self.endpoint.startswith("http://") and not self.allow_http:
            raise ValueError(
                "options.endpoint is not encrypted: set allow_http: true beside it, or use https://"
            )
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise ValueError("options.aws_access_key_id and aws_secret_access_key belong together")
        if scheme == SFTP:
            self._check_sftp()
        elif (self.username is None) != (self.password is None):
            raise ValueError("options.username and password belong together")

    def _check_sftp(self) -> None:
        if self.password is not None and self.private_key is not None:
            raise ValueError("must have one of options.password and private_key, not both")
        if self.passphrase is not None and self.private_key is None:
            raise ValueError("options.passphrase is of a private_key, which is missing")
        if self.username is not None and not _USER.fullmatch(self.username):
            raise ValueError("options.username has characters that ssh does not take in a user name")


def _kinds(option: str) -> Sequence[str]:
    """The schemes that an option is for."""
    if option in ("username", "password"):
        return (*HTTP, SFTP)
    if option == "token":
        return HTTP
    if option in ("private_key", "passphrase", "known_hosts"):
        return (SFTP,)
    if option in ("region", "request_payer", "virtual_hosted_style_request"):
        return ("s3",)
    return {"aws": ("s3",), "google": ("gs",), "azure": ("az",)}.get(option.partition("_")[0], BUCKETS)


def address(url: str) -> Address:
    """What the parts of an address are.

    Raises:
        ValueError: it is none that can be read; says which can.
    """
    scheme, separator, rest = url.partition("://")
    archive = scheme == "zip" or scheme.startswith("zip+")
    scheme = {"zip": "file"}.get(scheme, scheme.removeprefix("zip+"))
    if scheme in HTTP and not archive:
        return _on_the_web(url)
    if scheme == SFTP and not archive:
        return _on_a_server(rest)
    if not separator or (scheme not in BUCKETS and not (archive and scheme == "file")):
        raise ValueError(f"cannot be read: {_ADVICE.get(scheme, _VALID)}")
    rest, _, inside = rest.partition("!/") if archive else (rest, "", "")
    if archive and not rest.removesuffix("!").lower().endswith(".zip"):
        raise ValueError(
            "must name a .zip file: zip://backup.zip!/folder, zip+s3://bucket/backup.zip!/folder"
        )
    if scheme == "file":
        return Address(scheme, "", rest, archive, inside.strip("/"))
    bucket, _, path = rest.partition("/")
    if "@" in bucket:
        raise literal_secret("give keys in `options`")
    if not bucket:
        raise ValueError("must name a bucket: s3://BUCKET/FOLDER")
    if "" in (names := path.strip("/").split("/")) and names != [""]:
        raise ValueError("has an empty name between two slashes")
    return Address(scheme, bucket, path.strip("/"), archive, inside.strip("/"))


def check_place(path: Path | None, url: str | None, options: StorageOptions) -> None:
    """The settings name one place, and options that are for it.

    Raises:
        ValueError: they do not.
    """
    if (path is None) == (url is None):
        raise ValueError("must have either `path` or `url`")
    if url is not None:
        options.check(address(url).scheme)
    elif options.model_fields_set:
        raise ValueError("has `options`, which are for `url`")


def _on_the_web(url: str) -> Address:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be a host and a path alone: https://HOST/FOLDER/ or https://HOST/FILE")
    if "@" in parts.netloc:
        raise literal_secret("give username and password in `options`")
    return Address(parts.scheme, parts.netloc, parts.path)


def _on_a_server(rest: str) -> Address:
    host, slash, path = rest.partition("/")
    if "@" in host:
        raise literal_secret("give username, and password or private_key, in `options`")
    if not _HOST.fullmatch(host) or not _is_port(host.rpartition("]")[2].partition(":")[2]):
        raise ValueError(
            "must name a host: sftp://HOST/FOLDER, sftp://HOST:PORT/FOLDER; sftp://HOST/~/FOLDER"
        )
    if "\0" in path:
        raise ValueError("holds what no path does")
    return Address(SFTP, host, slash + path or "/")


def _is_port(text: str) -> bool:
    return not text or 0 < int(text) < 1 << 16


def _url(url: object, info: ValidationInfo) -> object:
    if not isinstance(url, str):
        return url
    at = address(url)
    if at.scheme != "file":
        return url
    return f"zip://{absolute(at.path, folder_of(info))}!/{at.inside}"


StorageUrl: TypeAlias = Annotated[str, BeforeValidator(_url, json_schema_input_type=str)]
"""An address that `address` reads; an archive of this machine has its path from the root on."""
