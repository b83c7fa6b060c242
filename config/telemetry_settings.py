"""What the YAML may say of telemetry: where traces go, and where the figures of a run are written."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, field_validator

from connectors.settings import LocalPath, Secret, StrictModel

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own: https://opentelemetry.io/docs/specs/otel/protocol/exporter/"""
TRACES_PATH = "/v1/traces"


class TelemetrySettings(StrictModel):
    """What runs and servers tell of themselves, beside logs. Off, unless something is set here."""

    otlp: str | None = Field(
        default=None,
        description="Send traces here: the address of an OpenTelemetry collector that takes OTLP over HTTP, "
        "such as http://localhost:4318. Needs the extra `telemetry`. Left out: "
        f"{ENDPOINT_VARIABLES[1]}, if that is set.",
    )
    headers: dict[str, Secret] = Field(
        default_factory=dict, description="Sent with the traces, such as a key. Each a secret."
    )
    service: str = Field(default="docweave", min_length=1, description="What traces call this program.")
    metrics_file: LocalPath | None = Field(
        default=None,
        description="After each source, figures about it are written into this file, as Prometheus' node "
        "exporter reads them (its textfile collector: the name ends in .prom).",
    )

    @field_validator("otlp")
    @classmethod
    def _is_address(cls, otlp: str | None) -> str | None:
        if otlp is not None and not otlp.startswith(("http://", "https://")):
            raise ValueError("must be an address that begins with http:// or https://")
        return otlp

    @field_validator("metrics_file")
    @classmethod
    def _is_read(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix != ".prom":
            raise ValueError("must end in .prom: the node exporter reads no other files")
        return path

    @property
    def traces_endpoint(self) -> str | None:
        """Where spans are posted; None where nobody asked for traces."""
        if self.otlp:
            base = self.otlp.rstrip("/")
            return base if base.endswith(TRACES_PATH) else base + TRACES_PATH
        whole, base = (os.environ.get(name, "").rstrip("/") for name in ENDPOINT_VARIABLES)
        return whole or (base + TRACES_PATH if base else None)
