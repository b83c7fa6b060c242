"""What the YAML may say of the search API."""

from __future__ import annotations

from pydantic import ByteSize, Field, ValidationInfo, field_validator

from connectors.settings import StrictModel, absolute, folder_of


class ServingSettings(StrictModel):
    """How `docweave serve` answers."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The address that is listened at. On any other than this machine's own (127.0.0.1, ::1, "
        "localhost), keys are asked for: `docweave keys create`.",
    )
    port: int = Field(default=8321, ge=0, le=65_535, description="The port. 0: any that is free.")
    keys: str = Field(
        default=".docweave/keys.json",
        validate_default=True,
        description="The file that `docweave keys` keeps the keys' digests in (relative to the YAML file).",
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Names under which the API is reached, beside the machine's own, where no key is asked "
        "for: requests for any other name are refused then, so that no web page can ask through a browser.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Web pages of these origins (https://chat.example.com) may ask from a browser. None may, "
        "unless said so.",
    )
    requests_per_minute: int = Field(
        default=600, ge=0, description="The most that one key, or one address, may ask. 0: no limit."
    )
    max_concurrent: int = Field(
        default=64,
        ge=1,
        description="So many requests are answered at a time. Four times as many wait; who comes after these "
        "is told to ask again (503).",
    )
    max_request_bytes: ByteSize = Field(
        default=ByteSize(256_000), gt=0, description="The largest request: bytes, or as 256KB."
    )
    timeout_seconds: float = Field(
        default=30,
        gt=0,
        le=3_600,
        allow_inf_nan=False,
        description="How long a request may take, before it is given up.",
    )

    @field_validator("keys")
    @classmethod
    def _absolute(cls, keys: str, info: ValidationInfo) -> str:
        return absolute(keys, folder_of(info))
