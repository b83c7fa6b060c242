"""What a service's answer means, where OpenRouter's and an upstream's words have to be told apart."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.embedders._answers import classify, classify_within_200, complaint, retry_after
from pipeline.errors import EmbedError, InputRefused, RequestTooLarge, ServiceRefused, ServiceUnavailable
from pipeline.records import JsonValue


def error(message: str = "", **metadata: JsonValue) -> JsonValue:
    return {"error": {"code": 400, "message": message, "metadata": metadata}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (error("No"), "No"),
        (error("No", raw="Too long", provider_name="Acme"), "No; Acme: Too long"),
        (error("No", raw='{"error": {"message": "Too long"}}', provider_name="Acme"), "No; Acme: Too long"),
        (error("No", raw='{"message": "Too long"}'), "No; Too long"),
        (error("No", raw={"detail": [{"msg": "Too long", "input": "PRIVATE"}]}), "No; Too long"),
        (error("No", raw='{"cut in the mid'), 'No; {"cut in the mid'),
        (error("No", raw="<html>Bad gateway</html>"), "No"),
        (error("No", raw=None, provider_name=7), "No"),
        (error("No", flagged_input="PRIVATE", reasons=["r"]), "No"),
        ({"error": {"message": None, "metadata": "none"}}, ""),
        ([], ""),
    ],
)
def test_what_an_upstream_said_is_told_beside_what_the_service_says(body: JsonValue, said: str) -> None:
    assert complaint(body)[0] == said


@pytest.mark.parametrize(
    ("status", "body", "meant"),
    [
        (400, error("Provider returned error", raw="maximum context length is 8192"), RequestTooLarge),
        (400, error("Provider returned error", raw="input[3] has 9,000 tokens"), RequestTooLarge),
        (400, error("x", error_type="token_limit_exceeded"), RequestTooLarge),
        (400, error("x", raw='{"error": {"message": "y", "code": "string_too_long"}}'), RequestTooLarge),
        (422, error("x", raw="this text cannot be embedded"), InputRefused),
        (400, error("x", error_type="content_policy_violation"), InputRefused),
        (400, error("Model does not support matryoshka representation"), ServiceRefused),
        (400, error("x", raw="The model `a/b` does not exist"), ServiceRefused),
        (400, error("Expected at most 1024 dimensions"), ServiceRefused),
        (400, error("x", path=["provider", "sort"]), ServiceRefused),
        (403, error("Forbidden"), ServiceRefused),
        (403, error("x", reasons=["violence"]), InputRefused),
        (403, error("Request blocked: prompt injection patterns detected"), InputRefused),
        (403, error("x", error_type="refusal"), InputRefused),
        (402, error("More credits are required, or fewer tokens"), ServiceRefused),
        (404, error("No endpoints found matching your data policy"), ServiceRefused),
        (413, error(), RequestTooLarge),
        (429, error("Rate limit exceeded: free-models-per-min"), ServiceUnavailable),
        (429, error("x", raw="You exceeded your current quota, check your billing"), ServiceRefused),
        (408, error(), ServiceUnavailable),
        (503, error("No provider meets your routing requirements"), ServiceUnavailable),
        (524, error(), ServiceUnavailable),
        (529, error("x", error_type="provider_overloaded"), ServiceUnavailable),
    ],
)
def test_an_answer_is_classified_by_what_either_says(
    status: int, body: JsonValue, meant: type[EmbedError]
) -> None:
    assert classify(status, *complaint(body)) is meant


@pytest.mark.parametrize(
    ("code", "said", "meant"),
    [
        (0, "it failed", ServiceUnavailable),
        (200, "it failed", ServiceUnavailable),
        (400, "it failed", ServiceUnavailable),
        (400, "maximum context length exceeded", RequestTooLarge),
        (401, "", ServiceRefused),
        (402, "", ServiceRefused),
        (404, "", ServiceRefused),
        (429, "", ServiceUnavailable),
        (502, "", ServiceUnavailable),
    ],
)
def test_an_error_with_status_200_is_asked_again_unless_its_code_rules_that_out(
    code: int, said: str, meant: type[EmbedError]
) -> None:
    assert classify_within_200(code, said, "") is meant


@pytest.mark.parametrize(
    ("headers", "seconds", "expected"),
    [
        ({}, 7, 7.0),
        ({}, 0.5, 0.5),
        ({"Retry-After": "3"}, 7, 3.0),
        ({"Retry-After": "soon"}, 7, 7.0),
        ({}, None, None),
        ({}, True, None),
        ({}, "7", None),
        ({}, -1, None),
        ({}, float("nan"), None),
        ({}, float("inf"), None),
    ],
)
def test_a_wait_is_asked_for_by_header_or_else_in_the_body(
    headers: dict[str, str], seconds: JsonValue, expected: float | None
) -> None:
    assert retry_after(headers, error(retry_after_seconds=seconds)) == expected


FIELDS = ["error", "message", "metadata", "raw", "detail", "loc", "path", "reasons", "code", "type"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(json.dumps({"error": {"raw": []}})),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=20,
)


@given(json_values)
def test_no_json_makes_reading_an_error_fail(body: JsonValue) -> None:
    said, kind = complaint(body)
    assert issubclass(classify(400, said, kind), EmbedError)
    assert retry_after({}, body) is None
