"""What the YAML may say of OpenRouter's routing: which of a model's upstreams are asked.

https://openrouter.ai/docs/guides/routing/provider-selection
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, JsonValue, StringConstraints

from connectors.settings import StrictModel

Upstream: TypeAlias = Annotated[str, StringConstraints(min_length=1)]


class Cutoffs(StrictModel):
    """A number for half of the requests, for three quarters, and so on."""

    p50: float | None = Field(default=None, gt=0)
    p75: float | None = Field(default=None, gt=0)
    p90: float | None = Field(default=None, gt=0)
    p99: float | None = Field(default=None, gt=0)


def _of_half(value: object) -> object:
    """A number stands for the median's."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"p50": value} if is_number or isinstance(value, str) else value


CutoffsOrNumber: TypeAlias = Annotated[
    Cutoffs, BeforeValidator(_of_half, json_schema_input_type=float | Cutoffs)
]


class MostPrice(StrictModel):
    """The most to pay, in USD."""

    prompt: float | None = Field(default=None, ge=0, description="For a million tokens.")
    completion: float | None = Field(default=None, ge=0, description="Nothing is completed here.")
    request: float | None = Field(default=None, ge=0, description="For a request.")
    image: float | None = Field(default=None, ge=0, description="No images are sent.")
    audio: float | None = Field(default=None, ge=0, description="No audio is sent.")


class Routing(StrictModel):
    """OpenRouter's `provider` object: which of a model's upstreams may be asked, and in what order.

    What is already stored stays: vectors of one model may be compared, whoever computed them.
    """

    order: list[Upstream] | None = Field(default=None, description="These first, in this order.")
    only: list[Upstream] | None = Field(default=None, description="No others than these.")
    ignore: list[Upstream] | None = Field(default=None, description="None of these.")
    allow_fallbacks: bool | None = Field(
        default=None, description="Whether others may stand in for the first. Left out: yes."
    )
    require_parameters: bool | None = Field(
        default=None, description="Only those that heed all that is sent. Left out: any."
    )
    data_collection: Literal["allow", "deny"] | None = Field(
        default=None, description="deny: only those that keep nothing of what is sent."
    )
    zdr: bool | None = Field(default=None, description="Only those under a zero data retention policy.")
    enforce_distillable_text: bool | None = Field(
        default=None, description="Only models that allow their text to be distilled."
    )
    quantizations: (
        list[Literal["int4", "int8", "fp4", "fp6", "fp8", "fp16", "bf16", "fp32", "unknown"]] | None
    ) = Field(default=None, description="Only models with weights of these kinds.")
    sort: Literal["price", "throughput", "latency"] | None = Field(
        default=None, description="By what the first is chosen; latency has cured long waits."
    )
    preferred_min_throughput: CutoffsOrNumber = Field(
        default=Cutoffs(), description="Tokens a second: a number, or one each for p50, p75, p90, p99."
    )
    preferred_max_latency: CutoffsOrNumber = Field(
        default=Cutoffs(), description="Seconds: a number, or one each for p50, p75, p90, p99."
    )
    max_price: MostPrice = Field(default=MostPrice(), description="The most to pay, in USD.")

    def body(self) -> dict[str, JsonValue]:
        """As it is sent; empty where nothing is said."""
        told: dict[str, JsonValue] = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return told
